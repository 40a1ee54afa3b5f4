"use strict";
// What all pages share: unpacking, libraries, plots, copying, the theme.
const lossaudit = (() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const say = (text) => { $("#said").textContent = text; };

  // ---- what travels packed: gzip in base64
  const unpack = async (node) => {
    const bytes = Uint8Array.from(atob(node.textContent.trim()), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  };
  const data = new Map();
  const load = (id) => { // the JSON of a packed part, unpacked once
    if (!data.has(id)) data.set(id, unpack($(`#${id}`)).then(JSON.parse));
    return data.get(id);
  };
  const libraries = new Map();
  const library = (name) => { // the policy knows the script by its hash
    if (!libraries.has(name)) {
      libraries.set(name, unpack($(`#library-${name}`)).then((text) => {
        const script = document.createElement("script");
        script.textContent = text;
        document.head.append(script);
      }));
    }
    return libraries.get(name);
  };

  // ---- plots: <figure class="plot" data-plot="name"><div class="canvas"></div>...
  const drawn = new Map(); // figure -> {rows, view}
  const colour = (name) => { // what a colour of the style is now
    const probe = document.createElement("span");
    probe.className = "vh";
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  };
  const config = () => {
    const [ink, soft, rule] = ["--ink", "--soft", "--rule"].map(colour);
    const font = getComputedStyle(document.body).fontFamily;
    const text = { labelColor: soft, titleColor: ink, labelFont: font, titleFont: font, titleFontWeight: 550 };
    return {
      background: "transparent", font,
      view: { stroke: rule },
      axis: { ...text, domainColor: rule, gridColor: rule, tickColor: rule },
      legend: text, title: { color: ink, font }, header: text, text: { color: ink, font },
    };
  };
  const draw = async (figure) => {
    const [specs] = await Promise.all([load("plots"), library("vega")]);
    const state = drawn.get(figure);
    const canvas = $(".canvas", figure);
    const spec = structuredClone(specs[figure.dataset.plot]);
    const theme = config();
    for (const [part, set] of Object.entries(spec.config || {})) {
      theme[part] = set instanceof Object ? { ...theme[part], ...set } : set;
    }
    spec.config = theme;
    spec.width = spec.width ?? "container";
    spec.autosize = spec.autosize ?? { type: "fit-x", contains: "padding" };
    if (state.rows) spec.data = { values: state.rows };
    state.view?.finalize();
    const result = await window.vegaEmbed(canvas, spec, {
      mode: "vega-lite", ast: true, actions: false, renderer: "svg", defaultStyle: false,
      tooltip: { disableDefaultStyle: true },
    });
    state.view = result.view;
    const caption = $("figcaption", figure);
    const picture = $("svg", canvas);
    if (caption && picture) picture.setAttribute("aria-label", caption.textContent.trim().slice(0, 300));
    figure.dataset.drawn = document.documentElement.dataset.theme || "system";
  };
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting && !drawn.get(entry.target).turn) redraw(entry.target);
    }
  }, { rootMargin: "200px" });
  const redraw = (figure) => { // one after the other: a theme may change while a plot is drawn
    const state = drawn.get(figure);
    state.turn = (state.turn || Promise.resolve()).then(() => draw(figure)).catch((error) => {
      $(".canvas", figure).textContent = `This plot could not be drawn: ${error.message}`;
    });
    return state.turn;
  };
  const plot = (figure, rows) => { // draw with data that the reader chose
    if (!drawn.has(figure)) { drawn.set(figure, { rows }); seen.observe(figure); return Promise.resolve(); }
    drawn.get(figure).rows = rows;
    return drawn.get(figure).turn ? redraw(figure) : Promise.resolve();
  };
  const redrawAll = () => { for (const [figure, state] of drawn) if (state.turn) redraw(figure); };
  for (const figure of $$("figure.plot")) if (!figure.hasAttribute("data-chosen")) plot(figure);

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
    redrawAll();
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    const now = document.documentElement.dataset.theme || "system";
    setTheme(themes[(themes.indexOf(now) + 1) % themes.length]);
  });
  if (themes.includes(stored())) setTheme(stored());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);

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

  return { $, $$, say, unpack, load, library, plot, copy };
})();
