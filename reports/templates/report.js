"use strict";
// The tables of the page are complete without this script, but for what travels packed; it adds
// pages, filters, deep links, and opens the cards of the findings.
(() => {
  const { $, $$, say, load, unpack, library, copy } = lossaudit;
  const names = JSON.parse($("#names").textContent);
  const form = $("#filters");
  const list = $("[data-list]"); // what is filtered: findings, or changes
  const groups = $$(".group", list);
  const cells = $$("#matrix td[data-parts]").map((td) => ({
    td,
    sign: td.firstElementChild,
    law: names.laws[td.cellIndex - 1],
    subject: td.closest("tr").dataset.subject,
    title: `${names.laws[td.cellIndex - 1]}: ${$(".vh", td).textContent}`,
    shape: td.firstElementChild.className,
    letters: $(".s", td).textContent,
    parts: td.dataset.parts.split(";").map((part) => part.split(",").map(Number)),
  }));
  const signs = new Map($$("#matrix .legendbox .kind").map((kind, i) => [i, $(".sign", kind).textContent]));
  const FIELDS = ["framework", "operation", "mode", "dtype", "region", "law", "kind", "status", "op", "output", "subject"];
  const entries = new Map(); // the id of each finding or change -> its facts, and whether it is shown
  let pinned = null; // {subject, law}: the cell of the matrix whose findings are shown
  let table = null; // all findings, once their page was seen
  let filling = null; // the promise of it
  let heeded = false; // whether its order and place go into the address: where the reader changed them

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
  const entryFits = (entry, state) =>
    FIELDS.every((name) => !state[name] || entry[name] === state[name]) &&
    (!state.q || entry.text.includes(state.q.toLowerCase()));

  const apply = () => {
    const state = values();
    const perCell = new Map();
    const perGroup = new Map();
    let shown = 0;
    for (const entry of entries.values()) {
      const fits = entryFits(entry, state);
      const key = `${entry.subject}\n${entry.law}`;
      if (fits) perCell.set(key, (perCell.get(key) || 0) + 1);
      entry.shown = fits && (!pinned || (entry.subject === pinned.subject && entry.law === pinned.law));
      shown += entry.shown;
      const group = perGroup.get(entry.group) || { shown: 0, all: 0 };
      perGroup.set(entry.group, { shown: group.shown + entry.shown, all: group.all + 1 });
    }
    hideItems(list);
    for (const group of groups) {
      const count = perGroup.get(group.id) || { shown: 0, all: 0 };
      group.hidden = !count.shown;
      const said = $(".visible-count", group);
      said.hidden = count.shown === count.all;
      said.textContent = `${count.shown} of ${count.all} shown`;
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
    if (table) quietly(() => table.draw());
  };
  const hideItems = (root) => {
    for (const item of $$(".item", root)) item.hidden = !entries.get(item.id).shown;
  };

  const paint = (cell, state, dtype, region, narrow, perCell) => {
    const found = perCell.get(`${cell.subject}\n${cell.law}`) || 0;
    const count = $("sub", cell.td);
    if (count) count.textContent = found || "";
    cell.td.classList.toggle("dim", Boolean((narrow && !found) || (state.law && state.law !== cell.law)));
    const letters = $(".s", cell.td);
    $(".mini", cell.td)?.classList.toggle("vh", dtype >= 0 || region >= 0); // holds for all rows only
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
    const text = `${shown.toLocaleString("en")} of ${entries.size.toLocaleString("en")} ${list.dataset.list} shown`;
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

  // ---- pages: one section at a time, where the body says so
  const sections = "paged" in document.body.dataset ? $$("main > section") : [];
  const pageOf = (node) => node.closest("main > section");
  let current = null;
  const page = () => current;
  const show = (section, open = true) => {
    if (!section || !sections.length || section === current) return;
    current = section;
    for (const other of sections) other.hidden = other !== section;
    for (const link of $$("nav a")) {
      if (link.hash === `#${section.id}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    $("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
    form.hidden = !("filtered" in section.dataset);
    measure();
    if (section.id === "table" && $("#all")) filling = filling || fillTable();
    dispatchEvent(new Event("resize")); // a plot that was hidden had no width
    if (open && section === list && !groups.some((group) => group.open)) openShown();
  };

  const toTop = () => scrollTo({ top: 0, behavior: "instant" });
  const named = (hash) => sections.find((section) => `#${section.id}` === hash);
  if (sections.length) {
    history.scrollRestoration = "manual";
    const first = named(location.hash) || (location.hash.length > 1 ? list : sections[0]);
    for (const section of sections) section.hidden = section !== first;
    // The browser goes to what the address names once all is loaded: a page begins at its top.
    addEventListener("load", () => { if (named(location.hash)) toTop(); });
  }

  // ---- cards: those of a group are unpacked when it is first opened
  const opened = (group) => {
    const cards = $("script.cards", group);
    if (!cards) return group.filled || Promise.resolve();
    cards.classList.remove("cards");
    group.filled = unpack(cards).then(async (text) => {
      const made = document.createElement("template");
      made.innerHTML = text; // escaped when it was written; the policy runs no script in it
      for (const part of $$("[data-peers]", made.content)) {
        part.innerHTML = (await load("peers"))[part.dataset.peers][0]; // findings of one input share it
        $$("tbody tr:not(.truth)", part)[part.dataset.mine]?.classList.add("mine");
      }
      cards.replaceWith(made.content);
      hideItems(group);
      uncover(group);
    });
    return group.filled;
  };
  const uncover = (root) => { for (const pressed of $$("[data-copy]", root)) pressed.hidden = false; };
  for (const group of groups) group.addEventListener("toggle", () => { if (group.open) opened(group); });

  // ---- the table of all findings
  const COLUMNS = [
    ["kind", "Kind"], ["framework", "Framework"], ["op", "Op"], ["mode", "Mode"], ["dtype", "Dtype"], ["law", "Law"],
    ["region", "Region"], ["input", "Smallest input"], ["came", "What came"], ["ulps", "Ulps"], ["rows", "Rows"], ["status", "Status"],
  ];
  const fillTable = async () => {
    await library("tables");
    const { DataTable } = window;
    DataTable.ext.search.push((settings, texts, number, entry) => entry.shown);
    const ulps = (value) => {
      if (value === null) return "";
      return value < 1e6 ? value.toLocaleString("en", { maximumSignificantDigits: 3 }) : value.toExponential(2);
    };
    table = new DataTable("#all", {
      data: [...entries.values()],
      columns: COLUMNS.map(([data, title]) => ({
        data, title, className: `c-${data}`,
        render: data === "ulps"
          ? { display: ulps, sort: (value) => value ?? -1, filter: ulps, type: (value) => value ?? -1 }
          : DataTable.render.text(),
      })),
      order: [], pageLength: 25, lengthMenu: [25, 100, 500], deferRender: true, autoWidth: false,
      layout: { topStart: null, topEnd: null, bottomStart: "info", bottomEnd: ["pageLength", "paging"] },
      language: { zeroRecords: "No finding matches the filter.", info: "_START_ to _END_ of _TOTAL_ findings", infoEmpty: "", infoFiltered: "(of _MAX_)" },
      createdRow: (row, entry) => {
        const cell = row.firstElementChild;
        const link = document.createElement("a");
        link.href = `#${entry.id}`;
        link.className = `sign g-${entry.kind.replace(/[^a-z]+/gi, "-")}`;
        link.textContent = names.signs[entry.kind] || entry.kind.slice(0, 2).toUpperCase();
        link.setAttribute("aria-label", `${entry.kind}: finding ${entry.id.replace("finding-", "")}`);
        link.title = entry.kind;
        cell.replaceChildren(link);
        row.dataset.finding = entry.id;
      },
    });
    table.on("order page length", () => { if (heeded) write(false); });
    heeded = true;
  };
  const quietly = (turn) => { heeded = false; turn(); heeded = true; };
  const shownOfTable = () => { // what the address says of the table
    const [first] = table.order();
    const from = table.page.info().start;
    return { ...(first && first[1] ? { sort: `${COLUMNS[first[0]][0]} ${first[1]}` } : {}), ...(from ? { row: from + 1 } : {}) };
  };
  const turnTo = (state) => {
    const [name, direction] = (state.get("sort") || "").split(" ");
    const column = COLUMNS.findIndex(([data]) => data === name);
    const from = Number.parseInt(state.get("row") || "1", 10) - 1;
    quietly(() => {
      table.order(column >= 0 && /^(asc|desc)$/.test(direction) ? [[column, direction]] : []).draw();
      if (from > 0) table.page(Math.floor(from / table.page.len())).draw("page");
    });
  };

  // ---- state in the address: #page=matrix&framework=torch; a plain #id is a deep link
  const choices = () => $$("[data-state]").filter((field) => !sections.length || pageOf(field) === page());
  const write = (push) => {
    const state = { ...values(), ...(pinned ? { cell: `${pinned.subject}\n${pinned.law}` } : {}) };
    for (const field of choices()) state[field.dataset.state] = field.value;
    const here = page();
    if (table && here && here.id === "table") Object.assign(state, shownOfTable());
    const named = here && here !== list && Object.keys(state).length;
    const hash = new URLSearchParams(named ? { page: here.id, ...state } : state).toString();
    const address = `#${hash || (here && here !== sections[0] ? here.id : "")}`;
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
      const state = new URLSearchParams(hash);
      show(sections.find((section) => section.id === (state.get("page") || list.id)));
      for (const [name, value] of state) {
        const field = form.elements[name];
        if ([...FIELDS, "q"].includes(name) && field) {
          field.value = value;
          if (field.value !== value) field.value = ""; // a value that this report does not have
        } else if (name === "cell" && value.includes("\n")) {
          const [subject, law] = value.split("\n");
          pinned = { subject, law };
        }
      }
      for (const field of choices()) {
        const wanted = state.get(field.dataset.state);
        if (wanted === null || ![...field.options].some((option) => option.value === wanted)) continue;
        field.value = wanted;
        field.dispatchEvent(new Event("change", { bubbles: true }));
      }
      apply();
      if (filling) filling.then(() => turnTo(state));
      if (pinned) openShown();
      if (Object.keys(values()).length) $("details", form).open = true;
      return;
    }
    const id = decoded(hash);
    const whole = !id || named(location.hash); // a page, and no filter
    if (whole && (pinned || Object.keys(values()).length)) { clear(); apply(); }
    if (id) reveal(id);
    else show(sections[0]);
  };
  const decoded = (hash) => { try { return decodeURIComponent(hash); } catch { return hash; } };
  const reveal = async (id) => {
    const entry = entries.get(id);
    if (entry && entry.card && !document.getElementById(id)) await opened(document.getElementById(entry.group));
    const target = document.getElementById(id);
    if (!target) { if (entry) showInTable(entry); return; }
    show(pageOf(target), false);
    if (entry && !entry.shown) { clear(); apply(); } // a link to a filtered card shows it
    for (let node = target; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
    for (const old of $$(".target")) old.classList.remove("target");
    if (sections.includes(target)) { toTop(); return; }
    target.classList.add("target");
    target.scrollIntoView({ behavior: "instant" });
    if (target.tabIndex === -1) target.focus({ preventScroll: true });
  };
  const showInTable = (entry) => { // a finding without a card of its own
    clear();
    form.elements.q.value = entry.id.replace("finding-", "");
    show($("#table"));
    apply();
    write(false);
  };
  const openShown = async () => {
    const group = groups.find((each) => !each.hidden);
    if (pinned) for (const each of groups) each.open = !each.hidden;
    else if (group) group.open = true;
    if (!group) return null;
    await opened(group);
    const first = $$(".item", group).find((item) => !item.hidden);
    if (first && first.tagName === "DETAILS") first.open = true;
    return first;
  };

  // The bar sticks to the top: what is jumped to must come to rest below it.
  const measure = () => {
    const sticks = getComputedStyle(form).position === "sticky";
    document.documentElement.style.setProperty("--filters", sticks ? `${form.offsetHeight}px` : "0px");
  };

  const begin = () => {
    form.hidden = false;
    if (matchMedia("(min-width: 900px)").matches) $("details", form).open = true;
    new ResizeObserver(measure).observe(form);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", () => { apply(); write(false); });
    form.addEventListener("reset", () => setTimeout(() => { clear(); apply(); write(false); }));
    for (const field of $$("[data-state]")) {
      field.addEventListener("change", (event) => { if (event.isTrusted) write(false); });
    }
    if ($("#pin")) $("#pin button").addEventListener("click", () => { pinned = null; apply(); write(false); });
    $("#matrix").addEventListener("click", pin);
    addEventListener("hashchange", read);
    addEventListener("popstate", () => { if (!location.hash) read(); });
    document.addEventListener("click", follow);
    document.addEventListener("click", copied);
    uncover(document);
    apply();
    if (location.hash.length > 1) read();
    if (!current) show(sections[0]); // also of an address that this report does not have
    document.documentElement.dataset.ready = "true";
  };
  const pin = async (event) => {
    const link = event.target.closest("td[data-parts] a");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    pinned = { subject: link.closest("tr").dataset.subject, law: names.laws[link.closest("td").cellIndex - 1] };
    if (form.elements.law && form.elements.law.value !== pinned.law) form.elements.law.value = "";
    apply();
    show(list);
    write(true);
    const first = await openShown();
    list.scrollIntoView();
    if (first) first.focus({ preventScroll: true });
  };
  // A second click on a link to the present address fires no hashchange.
  const follow = (event) => {
    const row = event.target.closest("#all tbody tr[data-finding]");
    const link = event.target.closest('a[href^="#"]');
    if (row && !link) { location.hash = row.dataset.finding; return; }
    if (link && sections.length && link.closest("nav") && !(event.ctrlKey || event.metaKey || event.shiftKey)) {
      event.preventDefault(); // another page keeps the filters
      pinned = null;
      show($(link.hash));
      apply();
      write(true);
      toTop();
      return;
    }
    if (link && link.hash.includes("=") && !(event.ctrlKey || event.metaKey || event.shiftKey)) {
      event.preventDefault(); // a link to a filter shows what it lets through
      history.pushState(null, "", link.hash);
      read();
      openShown();
      list.scrollIntoView();
      return;
    }
    if (link && !event.defaultPrevented && link.hash === location.hash && link.hash) setTimeout(read);
  };
  const copied = async (event) => {
    const pressed = event.target.closest("[data-copy]");
    if (!pressed) return;
    const how = pressed.closest(".how");
    const snippet = $(pressed.dataset.copy === "entry" ? ".entry" : ".snippet", how).textContent;
    const card = pressed.closest(".item");
    const peers = card && $("[data-peers]", card);
    const beside = peers ? (await load("peers"))[peers.dataset.peers][1] : "";
    const whole = () => $("template", how).content.textContent
      .replace(/<<(snippet|peers)>>/g, (_, name) => (name === "peers" ? beside : snippet.trimEnd()));
    copy(pressed.dataset.copy === "markdown" ? whole() : snippet, pressed);
  };

  // ---- what there is to filter: packed beside the page, or the items of the page itself
  const heard = (entry) => entries.set(entry.id, {
    ...entry,
    shown: true,
    text: [entry.text, entry.input, entry.came, entry.subject, entry.law, entry.id].join("\n").toLowerCase(),
  });
  if ($("#index")) {
    load("index").then(({ fields, rows }) => {
      for (const row of rows) heard(Object.fromEntries(fields.map((name, i) => [name, row[i]])));
      begin();
    });
  } else {
    for (const item of $$(".item", list)) {
      const group = item.closest(".group");
      heard({ ...group.dataset, ...item.dataset, id: item.id, group: group.id, text: item.textContent });
    }
    begin();
  }
})();
