// The porting view: looks up the finished texts of the pair that the reader chose.
(() => {
  const { $, $$, say, load } = lossaudit;
  const form = $("#ports-form");
  if (!form) return;
  const [from, to] = ["from", "to"].map((name) => $(`[data-state=${name}]`, form));
  const groupOf = (select) => select.selectedOptions[0].parentElement.label;

  // Only ops of one operation can be compared: the others cannot be chosen.
  const narrow = () => {
    const group = groupOf(from);
    for (const other of $$("optgroup", to)) other.disabled = other.hidden = other.label !== group;
    if (groupOf(to) === group && to.value !== from.value) return;
    const [framework] = from.value.split(" ");
    const options = $$("option", $$("optgroup", to).find((other) => !other.hidden));
    const fits = options.filter((option) => option.value !== from.value);
    to.value = (fits.find((option) => !option.value.startsWith(`${framework} `)) || fits[0]).value;
  };
  const cell = (tag, ...inside) => {
    const made = document.createElement(tag);
    made.append(...inside);
    return made;
  };
  const item = ([name, title, before, now, how, words, shown]) => {
    const what = cell("p", cell("b", name.replaceAll("_", " ")), " ", cell("small", title));
    what.className = "what";
    const arrow = cell("span", "→");
    arrow.setAttribute("aria-hidden", "true");
    const said = cell("span", "becomes");
    said.className = "vh";
    const turn = cell("p", `${before} `, arrow, said, ` ${now}`);
    turn.className = "turn";
    const done = cell("p", cell("span", words));
    if (how) {
      const mark = cell("b", how === "snippet" ? "in the snippet" : "left to you");
      mark.className = how === "snippet" ? "how-done" : "how-left";
      done.prepend(mark, " ");
    }
    return cell("li", what, turn, done, ...shown.map((line) => cell("code", line)));
  };
  const show = async () => {
    const data = await load("ports");
    const group = data.groups.find((each) => each.name === groupOf(from));
    const [a, b] = [from, to].map((select) => group.ops.indexOf(select.value));
    if (a === b) return;
    const [numbers, snippet, counted] = group.pairs[a][b];
    const found = data.snippets[snippet];
    const composed = Array.isArray(found); // the numbers of its lines; else why there is none
    $("#ports-h").textContent = `${from.value} → ${to.value}`;
    $("#ports-code").hidden = !composed;
    $("#ports-code code").textContent = composed ? [`# ${from.value} -> ${to.value}`, ...found.map((number) => data.lines[number]), ""].join("\n") : "";
    $("#ports-reason").hidden = composed;
    $("#ports-reason").textContent = composed ? "" : found;
    $("#porting [data-copy]").hidden = !composed;
    $("#ports-list").replaceChildren(...numbers.map((number) => item(data.differences[number])));
    $("#ports-count").textContent = data.counts[counted];
    say(`${from.value} to ${to.value}: ${data.counts[counted]}`);
  };
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", narrow, true); // before the choice goes into the address
  form.addEventListener("change", show);
  $("#ports-turn").addEventListener("click", () => {
    const state = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
    for (const [name, value] of [["page", "porting"], ["from", to.value], ["to", from.value]]) state.set(name, value);
    location.hash = state;
  });
  narrow();
})();
