"use strict";
// The page is complete without this script; it adds filters, deep links, copying and the theme.
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const names = JSON.parse($("#names").textContent);
  const form = $("#filters");
  const list = $("[data-list]"); // what is filtered: findings, or changes
  const items = $$(".item", list);
  const groups = $$(".group", list);
  const facts = new Map(items.map((item) => [item, { ...item.closest(".group").dataset, ...item.dataset }]));
  const cells = $$("#matrix td[data-parts]").map((td) => ({
    td,
    sign: td.firstElementChild,
    law: td.dataset.law,
    subject: td.closest("tr").dataset.subject,
    title: td.title,
    shape: td.firstElementChild.className,
    letters: $(".s", td).textContent,
    parts: td.dataset.parts.split(";").map((part) => part.split(",").map(Number)),
  }));
  const signs = new Map($$("#matrix .legendbox .kind").map((kind, i) => [i, $(".sign", kind).textContent]));
  const FIELDS = ["framework", "operation", "mode", "dtype", "region", "law", "kind", "status", "op", "output", "subject"];
  let pinned = null; // {subject, law}: the cell of the matrix whose findings are shown

  const say = (text) => { $("#said").textContent = text; };

  // ---- theme
  const themes = ["system", "light", "dark"];
  const button = $("#theme");
  const stored = () => { try { return localStorage.getItem("lossaudit-theme"); } catch { return null; } };
  const setTheme = (theme) => {
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.lastElementChild.textContent = theme;
    button.setAttribute("aria-label", `Theme: ${theme}`);
    try { localStorage.setItem("lossaudit-theme", theme); } catch { /* storage may be denied */ }
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    const now = document.documentElement.dataset.theme || "system";
    setTheme(themes[(themes.indexOf(now) + 1) % themes.length]);
  });
  if (themes.includes(stored())) setTheme(stored());

  // ---- filters
  const values = () => {
    const state = {};
    for (const name of [...FIELDS, "q"]) {
      const field = form.elements[name];
      if (field && field.value) state[name] = field.value;
    }
    return state;
  };
  const rowFits = (data, state) =>
    ["framework", "operation", "op", "subject"].every((name) => !state[name] || data[name] === state[name]) &&
    (!state.mode || (data.modes ? data.modes.split("|").includes(state.mode) : data.mode === state.mode));
  const itemFits = (item, state) =>
    FIELDS.every((name) => !state[name] || facts.get(item)[name] === state[name]) &&
    (!state.q || item.textContent.toLowerCase().includes(state.q.toLowerCase()) ||
      item.dataset.subject.toLowerCase().includes(state.q.toLowerCase()) ||
      item.id.includes(state.q));

  const apply = () => {
    const state = values();
    const perCell = new Map();
    let shown = 0;
    for (const item of items) {
      const fits = itemFits(item, state);
      const key = `${item.dataset.subject}\n${item.dataset.law}`;
      if (fits) perCell.set(key, (perCell.get(key) || 0) + 1);
      const pinFits = !pinned || (item.dataset.subject === pinned.subject && item.dataset.law === pinned.law);
      item.hidden = !(fits && pinFits);
      shown += !item.hidden;
    }
    for (const group of groups) {
      const visible = $$(".item", group).filter((item) => !item.hidden);
      const all = $$(".item", group).length;
      group.hidden = !visible.length;
      const count = $(".visible-count", group);
      count.hidden = visible.length === all;
      count.textContent = `${visible.length} of ${all} shown`;
    }
    for (const row of $$("#matrix tr[data-subject], #coverage tr[data-subject], #conventions tr[data-framework]")) {
      row.hidden = !rowFits(row.dataset, state);
    }
    for (const body of $$("#matrix tbody, #coverage tbody")) {
      const rows = $$("tr[data-subject]", body);
      body.hidden = rows.length > 0 && rows.every((row) => row.hidden);
    }
    const place = (list, name) => (state[name] ? list.indexOf(state[name]) : -1);
    const dtype = place(names.dtypes, "dtype");
    const region = place(names.regions, "region");
    const narrow = state.kind || state.status || state.q;
    for (const cell of cells) paint(cell, state, dtype, region, narrow, perCell);
    summarise(state, shown);
  };

  const paint = (cell, state, dtype, region, narrow, perCell) => {
    const found = perCell.get(`${cell.subject}\n${cell.law}`) || 0;
    const count = $("sub", cell.td);
    if (count) count.textContent = found || "";
    cell.td.classList.toggle("dim", Boolean((narrow && !found) || (state.law && state.law !== cell.law)));
    const letters = $(".s", cell.td);
    $(".mini", cell.td).classList.toggle("vh", dtype >= 0 || region >= 0); // holds for all rows only
    if (dtype < 0 && region < 0) {
      cell.sign.className = cell.shape;
      letters.textContent = cell.letters;
      cell.td.title = cell.title;
      return;
    }
    const parts = cell.parts.filter((p) => (dtype < 0 || p[0] === dtype) && (region < 0 || p[1] === region));
    const worst = Math.max(-1, ...parts.map((p) => p[2]));
    const rows = parts.reduce((sum, p) => sum + p[3], 0);
    const grade = names.grades[worst];
    cell.sign.className = worst < 0 ? "sign norows" : `sign g-${grade.replace(/ /g, "-")}`;
    letters.textContent = worst < 0 ? "0" : signs.get(worst);
    cell.td.title = worst < 0 ? `${cell.law}: no rows under this filter` : `${cell.law}: ${grade} over ${rows} rows under this filter`;
  };

  const summarise = (state, shown) => {
    const active = Object.entries(state).map(([name, value]) => `${name} ${value}`);
    const text = `${shown.toLocaleString("en")} of ${items.length.toLocaleString("en")} ${list.dataset.list} shown`;
    $("#active").textContent = active.length ? `${active.join(", ")}: ${text}` : "everything shown";
    if ($("#shown")) $("#shown").textContent = `${text}.`;
    if ($("#nothing")) $("#nothing").hidden = shown > 0;
    const pin = $("#pin");
    if (pin) {
      pin.hidden = !pinned;
      if (pinned) $("span", pin).textContent = `${pinned.subject}, ${pinned.law}`;
    }
    say(text);
  };

  // ---- state in the address: #framework=torch&kind=precision; a plain #id is a deep link
  const write = (push) => {
    const state = { ...values(), ...(pinned ? { cell: `${pinned.subject}\n${pinned.law}` } : {}) };
    const hash = new URLSearchParams(state).toString();
    const address = hash ? `#${hash}` : "#";
    if (push) history.pushState(null, "", address);
    else history.replaceState(null, "", address);
  };
  const clear = () => {
    for (const name of [...FIELDS, "q"]) if (form.elements[name]) form.elements[name].value = "";
    pinned = null;
  };
  const read = () => {
    const hash = location.hash.slice(1);
    if (hash.includes("=")) {
      clear();
      for (const [name, value] of new URLSearchParams(hash)) {
        const field = form.elements[name];
        if ([...FIELDS, "q"].includes(name) && field) {
          field.value = value;
          if (field.value !== value) field.value = ""; // a value that this report does not have
        } else if (name === "cell" && value.includes("\n")) {
          const [subject, law] = value.split("\n");
          pinned = { subject, law };
        }
      }
      apply();
      if (pinned) openShown();
      if (Object.keys(values()).length) $("details", form).open = true;
      return;
    }
    if (!hash && (pinned || Object.keys(values()).length)) { clear(); apply(); }
    const target = hash && document.getElementById(decodeURIComponent(hash));
    if (target) reveal(target);
  };
  const reveal = (target) => {
    if (target.closest("[hidden]")) { clear(); apply(); } // a link to a filtered card shows it
    for (let node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
    for (const old of $$(".target")) old.classList.remove("target");
    target.classList.add("target");
    target.scrollIntoView();
    if (target.tabIndex === -1) target.focus({ preventScroll: true });
  };
  const openShown = () => {
    for (const group of groups) if (!group.hidden) group.open = true;
    const first = items.find((item) => !item.hidden);
    if (first && first.tagName === "DETAILS") first.open = true;
  };

  form.hidden = false;
  if (matchMedia("(min-width: 900px)").matches) $("details", form).open = true;
  // The bar sticks to the top: what is jumped to must come to rest below it.
  new ResizeObserver(() => {
    const sticks = getComputedStyle(form).position === "sticky";
    document.documentElement.style.setProperty("--filters", sticks ? `${form.offsetHeight}px` : "0px");
  }).observe(form);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => { apply(); write(false); });
  form.addEventListener("reset", () => setTimeout(() => { clear(); apply(); write(false); }));
  if ($("#pin")) $("#pin button").addEventListener("click", () => { pinned = null; apply(); write(false); });
  $("#matrix").addEventListener("click", (event) => {
    const link = event.target.closest("td[data-parts] a");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    pinned = { subject: link.closest("tr").dataset.subject, law: link.closest("td").dataset.law };
    if (form.elements.law && form.elements.law.value !== pinned.law) form.elements.law.value = "";
    apply();
    write(true);
    openShown();
    $("#findings").scrollIntoView();
    const first = items.find((item) => !item.hidden);
    if (first) first.focus({ preventScroll: true });
  });
  addEventListener("hashchange", read);
  addEventListener("popstate", () => { if (!location.hash) read(); });
  // A second click on a link to the present address fires no hashchange.
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    if (link && link.hash.includes("=") && !(event.ctrlKey || event.metaKey || event.shiftKey)) {
      event.preventDefault(); // a link to a filter shows what it lets through
      history.pushState(null, "", link.hash);
      read();
      openShown();
      list.scrollIntoView();
      return;
    }
    if (link && !event.defaultPrevented && link.hash === location.hash && link.hash) setTimeout(read);
  });

  // ---- copying
  const copy = async (text, pressed) => {
    let done = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch { // no permission, or an address that is not trusted: the old way
      const area = document.createElement("textarea");
      area.value = text;
      area.className = "vh";
      document.body.append(area);
      area.select();
      done = document.execCommand("copy");
      area.remove();
      pressed.focus({ preventScroll: true });
    }
    const label = pressed.dataset.label || (pressed.dataset.label = pressed.textContent);
    pressed.textContent = done ? "Copied" : "Could not copy";
    say(pressed.textContent);
    setTimeout(() => { pressed.textContent = label; }, 1500);
  };
  for (const pressed of $$("[data-copy]")) pressed.hidden = false;
  document.addEventListener("click", (event) => {
    const pressed = event.target.closest("[data-copy]");
    if (!pressed) return;
    const how = pressed.closest(".how");
    const snippet = $(pressed.dataset.copy === "entry" ? ".entry" : ".snippet", how).textContent;
    const whole = () => $("template", how).content.textContent.replace("<<snippet>>", () => snippet.trimEnd());
    copy(pressed.dataset.copy === "markdown" ? whole() : snippet, pressed);
  });

  apply();
  if (location.hash) read();
})();
