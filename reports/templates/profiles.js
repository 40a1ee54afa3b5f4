"use strict";
// Error profiles: what the reader chooses, as rows of the plot and as a table of the worst.
(() => {
  const { $, $$, say, load, plot } = lossaudit;
  const section = $("#profiles");
  if (!section) return;
  const figure = $("#profile-plot");
  const fields = Object.fromEntries($$("[data-state]", section).map((f) => [f.dataset.state.slice(8), f]));

  // ---- numbers as they are kept: steps of the format from the right value, or "=value"
  const FORMATS = { float64: 64, float32: 32, bfloat16: 16, float16: 16 };
  const toBits = (value, dtype) => { // magnitude as a whole number, in the order of the values
    const view = new DataView(new ArrayBuffer(8));
    if (dtype === "float64") { view.setFloat64(0, Math.abs(value)); return view.getBigUint64(0); }
    if (dtype === "float16") {
      const size = Math.abs(value);
      const binade = Math.max(-14, Math.floor(Math.log2(size || 1)));
      const exponent = size < 2 ** -14 ? -14 : size < 2 ** binade ? binade - 1 : size >= 2 ** (binade + 1) ? binade + 1 : binade;
      return BigInt(size / 2 ** (exponent - 10) + (exponent + 14) * 1024);
    }
    view.setFloat32(0, Math.abs(value));
    return BigInt(view.getUint32(0)) >> (dtype === "bfloat16" ? 16n : 0n);
  };
  const fromBits = (bits, dtype) => {
    const view = new DataView(new ArrayBuffer(8));
    if (dtype === "float64") { view.setBigUint64(0, bits); return view.getFloat64(0); }
    if (dtype === "float16") {
      const top = Number(bits) >> 10;
      const rest = Number(bits) & 1023;
      if (top === 31) return rest ? NaN : Infinity;
      return top ? (1024 + rest) * 2 ** (top - 25) : rest * 2 ** -24;
    }
    view.setUint32(0, Number(dtype === "bfloat16" ? bits << 16n : bits));
    return view.getFloat32(0);
  };
  const number = (text) => ({ nan: NaN, inf: Infinity, "-inf": -Infinity })[text] ?? Number(text);
  const valueOf = (steps, right, dtype) => {
    if (steps.startsWith("=")) return number(steps.slice(1));
    const from = number(right);
    const signed = (from < 0 || Object.is(from, -0) ? -1n : 1n) * toBits(from, dtype) + BigInt(steps);
    const size = fromBits(signed < 0n ? -signed : signed, dtype);
    return signed < 0n ? -size : size;
  };
  const unpacked = (text) => text.split(" ").flatMap((part) => {
    const [value, count] = part.split("*");
    return Array(Number(count || 1)).fill(value);
  });
  const shortUlps = (ulps) => (ulps >= 1e5 ? ulps.toExponential(2) : String(ulps));
  const sixDigits = (value) => (Object.is(value, -0) ? "-0" : String(Number(value.toPrecision(6))));
  const shortly = (value) => (Object.is(value, -0) ? "-0" : String(value));

  // ---- one output of one profile as answers with their subjects
  const answersOf = (data, profile, output) => {
    const shown = profile.shown.length ? profile.shown : profile.x;
    const table = output.answers.map((answers, i) => answers.map((answer) => {
      const [steps, ulps] = answer.split(" ");
      const value = steps ? valueOf(steps, output.right[i], profile.dtype) : null;
      const right = number(output.right[i]);
      const kind = value === null ? "none" : value === 0 ? (right ? "lost" : "zero") : Number.isFinite(value) || value === right ? "number" : "not finite";
      return { i, value, right, kind, ulps: ulps === undefined ? null : Number(ulps), subjects: [], grades: new Set(),
        x: Number(profile.x[i]), input: profile.input.replaceAll("{}", shown[i]) };
    }));
    const series = output.series.map((each) => {
      const grades = unpacked(each.grades);
      const answers = unpacked(each.answers).map((place, i) => {
        const answer = table[i][Number(place)];
        answer.subjects.push(...each.subjects);
        if (grades[i] !== "-") answer.grades.add(data.grades[grades[i]]);
        return answer;
      });
      return { subjects: each.subjects, answers, grades };
    });
    return { answers: table.flat().filter((answer) => answer.kind !== "none"), series };
  };
  const listed = (data, places) => {
    const names = places.map((place) => data.subjects[place][0]);
    return names.length > 6 ? `${names.slice(0, 6).join(", ")} and ${names.length - 6} more` : names.join(", ");
  };

  const grouped = (data, places) => { // "torch: nll_loss (eager, vmap); jax: ..."
    const homes = new Map();
    for (const place of places) {
      const [name, home] = data.subjects[place];
      const [, op, mode] = name.match(/^[^:]*:(.*)\[([^,\]]*),[^\]]*\]$/) || [null, name, ""];
      const ops = homes.get(home) || homes.set(home, new Map()).get(home);
      ops.set(op, [...(ops.get(op) || []), mode]);
    }
    return [...homes].map(([home, ops]) =>
      `${home}: ${[...ops].map(([op, modes]) => `${op} (${modes.join(", ")})`).join(", ")}`).join("; ");
  };

  const rows = (data, profile, outputs, chosen) => {
    const found = [];
    const heights = [1];
    for (const bound of new Set(outputs.flatMap((output) => Object.keys(output.bounds)))) {
      profile.x.forEach((x, i) => { // of several conventions the largest
        const limits = outputs.map((output) => output.bounds[bound]?.[i] || "").filter((limit) => limit !== "").map(number);
        found.push({ kind: "bound", bound, x: Number(x), y: limits.length ? Math.max(...limits) : null });
      });
    }
    for (const output of outputs) {
      const { answers } = answersOf(data, profile, output);
      const bounds = Object.entries(output.bounds);
      for (const answer of answers) {
        const homes = [...new Set(answer.subjects.map((place) => data.subjects[place][1]))];
        const mine = homes.includes(chosen);
        if (answer.ulps !== null) heights.push(answer.ulps);
        found.push({
          kind: answer.kind, x: answer.x, y: answer.ulps,
          framework: homes.length === 1 ? homes[0] : mine ? chosen : data.several,
          opacity: chosen && !mine ? 0.08 : 0.9,
          subjects: listed(data, answer.subjects), input: answer.input,
          value: shortly(answer.value), right: shortly(answer.right),
          ulps: answer.ulps === null ? "none: of another kind" : shortUlps(answer.ulps),
          grade: [...answer.grades].join(", ") || "not judged",
          bounds: bounds.map(([name, limits]) => `${name} ${limits[answer.i] || "none"}`).join("; ") || "none declared",
        });
      }
    }
    // The plot reaches up to every answer, and to the tightest bound, but not to all that is void.
    const tightest = outputs.flatMap((output) => output.right.map((_, i) =>
      Math.min(...Object.values(output.bounds).map((limits) => (limits[i] === "" ? Infinity : number(limits[i]))))));
    const top = 2 * Math.max(...heights, ...tightest.filter(Number.isFinite));
    for (const row of found) {
      if (row.kind !== "bound") row.y ??= top;
      else if (!(row.y <= top)) row.y = null; // it leaves the plot
    }
    // A layer of the plot without a row would warn: it has one that is not seen.
    const some = found.find((row) => row.kind !== "bound");
    for (const kind of ["number", "zero", "lost", "not finite"]) {
      if (some && !found.some((row) => row.kind === kind)) found.push({ ...some, kind, opacity: 0 });
    }
    if (some && !found.some((row) => row.kind === "bound" && row.y !== null)) {
      const points = found.filter((row) => row.kind !== "bound");
      return [{ kind: "bound", bound: "none", x: some.x, y: some.y }, ...points]; // of one point is no line
    }
    // The chosen framework is drawn last, above the others.
    return found.sort((a, b) => (a.opacity ?? 0) - (b.opacity ?? 0));
  };

  const worst = (data, profile, outputs) => {
    const lines = [];
    for (const output of outputs) {
      for (const each of answersOf(data, profile, output).series) {
        const given = each.answers.filter((answer) => answer.kind !== "none");
        const letters = Object.keys(data.grades);
        const grade = letters[Math.max(-1, ...each.grades.map((letter) => letters.indexOf(letter)))];
        const finite = given.filter((answer) => answer.ulps !== null);
        const at = finite.reduce((best, answer) => (!best || answer.ulps > best.ulps ? answer : best), null);
        lines.push({
          subjects: each.subjects, at, grade: data.grades[grade] || "not judged",
          lost: given.filter((answer) => answer.kind === "lost").length,
          odd: given.filter((answer) => answer.kind === "not finite").length,
        });
      }
    }
    return lines.sort((a, b) => b.odd - a.odd || (b.at?.ulps ?? -1) - (a.at?.ulps ?? -1));
  };
  const cell = (text, kind) => {
    const td = document.createElement("td");
    td.textContent = text;
    if (kind) td.className = kind;
    return td;
  };
  const tabulate = (data, lines) => {
    $("tbody", $("#profile-worst")).replaceChildren(...lines.map((line) => {
      const tr = document.createElement("tr");
      tr.append(
        cell(grouped(data, line.subjects)),
        cell(line.at ? shortUlps(line.at.ulps) : "none", "r"),
        cell(line.at ? line.at.input : "–"),
        cell(line.at ? sixDigits(line.at.value) : "–", "r"),
        cell(line.at ? sixDigits(line.at.right) : "–", "r"),
        cell(line.grade, "nowrap"), cell(String(line.lost), "r"), cell(String(line.odd), "r"),
      );
      return tr;
    }));
  };

  // ---- what is chosen; what this run does not have in the choice so far cannot be chosen
  const allow = (field, values) => {
    for (const option of field.options) option.disabled = !values.has(option.value);
    if (field.selectedOptions[0]?.disabled) field.value = [...field.options].find((o) => !o.disabled)?.value ?? "";
  };
  const choose = (data) => {
    const state = () => Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, field.value]));
    const all = (fits, of) => new Set(data.profiles.filter(fits).flatMap(of));
    allow(fields.dtype, all((p) => p.operation === state().operation, (p) => [p.dtype]));
    allow(fields.axis, all((p) => p.operation === state().operation && p.dtype === state().dtype, (p) => [p.axis]));
    const { operation, dtype, axis } = state();
    const profile = data.profiles.find((p) => p.operation === operation && p.dtype === dtype && p.axis === axis);
    allow(fields.output, new Set(profile.outputs.map((o) => o.output)));
    return { profile, outputs: profile.outputs.filter((o) => o.output === fields.output.value) };
  };
  const show = async () => {
    const data = await load("profile-data");
    const { profile, outputs } = choose(data);
    const lines = worst(data, profile, outputs);
    const lost = lines.filter((line) => line.lost).reduce((sum, line) => sum + line.subjects.length, 0);
    const count = lines.reduce((sum, line) => sum + line.subjects.length, 0);
    const first = lines.find((line) => line.at);
    $("#profile-says").textContent =
      `${profile.operation}, ${profile.dtype}, ${fields.output.value} of ${count} ${count === 1 ? "subject" : "subjects"} on ${profile.input.replaceAll("{}", "…")}. ` +
      (first ? `The largest error is ${shortUlps(Math.max(...lines.map((line) => line.at?.ulps ?? 0)))} ulps. ` : "") +
      (lost ? `${lost} of them return 0 somewhere where it is not.` : "None returns 0 where it is not.");
    $("#profile-bounds").textContent = outputs.some((o) => Object.keys(o.bounds).length)
      ? "Lines: the derived bound of each form, with the largest constants that a subject declares; where a line ends it leaves the plot, or there is no bound."
      : "No bound is derived here: no subject declares how it computes.";
    tabulate(data, lines);
    $("#profile-missing").replaceChildren(...profile.missing.map((missing) => {
      const li = document.createElement("li");
      li.textContent = `${listed(data, missing.subjects)}: ${missing.reason}`;
      return li;
    }));
    figure.dataset.plot = profile.plot;
    await plot(figure, rows(data, profile, outputs, fields.shown.value));
    section.dataset.shown = [profile.operation, profile.dtype, profile.axis, fields.output.value].join("|");
  };
  for (const field of Object.values(fields)) field.addEventListener("change", () => { show().then(() => say($("#profile-says").textContent)); });
  show();
})();
