// An answer, whatever its shape: scalars as figures, maps as facts, rows as
// tables with a chart, readings as lines over time.

import { facts, fill, h } from "./dom.js";
import { count, moment, number } from "./format.js";
import { bars, lines } from "./plot.js";

/** Rows shown at first. */
const ROWS = 100;

/** Deeper than this it is shown as JSON. */
const DEPTH = 4;

const isMap = (v) => v !== null && typeof v === "object" && !Array.isArray(v);
const isScalar = (v) => v === null || typeof v !== "object";
const isTime = (v) => typeof v === "string" && /^\d{4}-\d\d-\d\d([T ]\d\d:\d\d|$)/.test(v) && !Number.isNaN(Date.parse(v));

function scalar(v) {
  if (typeof v === "number") return number(v);
  if (isTime(v) && v.includes("T")) return moment(v);
  return v === null ? "none" : String(v);
}

export function answer(value, depth = 0) {
  if (isScalar(value)) return depth === 0 ? h("p", { class: "big" }, scalar(value)) : h("p", null, scalar(value));
  if (depth > DEPTH) return h("pre", null, JSON.stringify(value, null, 2));
  return Array.isArray(value) ? list(value, depth) : map(value, depth);
}

function list(value, depth) {
  if (value.length === 0) return h("p", { class: "empty" }, "An empty list.");
  if (value.every(isMap)) return rows(value);
  if (value.every((v) => typeof v === "number")) {
    return [lines([{ name: "value", times: value.map((_, i) => i), values: value }], { plain: true }),
      h("p", { class: "soft" }, value.slice(0, ROWS).map(number).join(", "), value.length > ROWS && ` … ${count(value.length)} values`)];
  }
  if (value.every(isScalar)) return h("ul", null, value.slice(0, ROWS).map((v) => h("li", null, scalar(v))));
  return h("ol", null, value.slice(0, ROWS).map((v) => h("li", null, answer(v, depth + 1))));
}

function map(value, depth) {
  const entries = Object.entries(value);
  if (entries.length === 0) return h("p", { class: "empty" }, "An empty map.");
  // A map of alike maps is rows, with the key as the first column.
  if (entries.length > 1 && entries.every(([, v]) => isMap(v) && Object.values(v).every(isScalar))) {
    return rows(entries.map(([key, v]) => ({ "": key, ...v })));
  }
  const plain = entries.filter(([, v]) => isScalar(v)).map(([k, v]) => [k, scalar(v)]);
  const nested = entries.filter(([, v]) => !isScalar(v));
  const title = depth === 0 ? "h3" : "h4";
  return [plain.length > 0 && facts(plain), nested.map(([k, v]) => [h(title, null, k), answer(v, depth + 1)])];
}

function rows(all) {
  const names = [...new Set(all.slice(0, 1000).flatMap((r) => Object.keys(r)))];
  const isNumber = (name) => all.every((r) => r[name] === undefined || r[name] === null || typeof r[name] === "number");
  const numeric = names.filter((n) => isNumber(n) && all.some((r) => typeof r[n] === "number"));
  const words = names.filter((n) => !numeric.includes(n));
  const ordered = [...words, ...numeric];
  const box = h("div");
  const body = h("tbody");
  const cell = (row, name) => {
    const v = row[name];
    const shown = v === undefined ? "" : isScalar(v) ? scalar(v) : JSON.stringify(v);
    return numeric.includes(name) ? h("td", { class: "num", "data-label": name }, shown) : h("td", { "data-label": name }, shown);
  };
  const put = (n) => fill(body, all.slice(0, n).map((row) => h("tr", null, ordered.map((name) => cell(row, name)))));
  put(ROWS);
  box.append(...chartOf(all, words, numeric));
  box.append(h("div", { class: "scroll" }, h("table", { class: "rows" },
    h("caption", { class: "unseen" }, "Rows of the answer"),
    h("thead", null, h("tr", null, ordered.map((n) => h("th", { scope: "col", class: numeric.includes(n) && "num" }, n)))), body)));
  if (all.length > ROWS) {
    const more = h("button", { type: "button", onclick: () => { put(5000); more.remove(); } }, `Show ${count(Math.min(all.length, 5000))} of ${count(all.length)} rows`);
    box.append(h("p", { class: "pager" }, more));
  }
  return box;
}

/** A choice of the column that is drawn, and the drawing. */
function chartOf(all, words, numeric) {
  if (all.length < 2 || numeric.length === 0) return [];
  const usual = ["mean", "value", "p50", "median", "count"].find((n) => numeric.includes(n));
  const time = words.find((n) => all.every((r) => isTime(r[n])));
  const distinct = words.filter((n) => new Set(all.map((r) => r[n])).size > 1 && n !== time);
  const whole = distinct.find((n) => new Set(all.map((r) => r[n])).size === all.length);
  const named = whole ? [whole] : distinct;
  const label = (r) => named.map((n) => scalar(r[n] ?? "")).join(" ") || "";
  const place = h("div");
  const draw = (column) => {
    const used = all.filter((r) => typeof r[column] === "number");
    if (!time) return fill(place, bars(used.slice(0, 40).map((r, i) => ({ name: label(r) || `row ${i + 1}`, value: r[column] })), column));
    const by = Map.groupBy(used, label);
    return fill(place, lines([...by].map(([name, rs]) => ({ name: name || column, times: rs.map((r) => Date.parse(r[time])), values: rs.map((r) => r[column]) })), {}));
  };
  const choice = h("select", { onchange: () => draw(choice.value) }, numeric.map((n) => h("option", { selected: n === (usual ?? numeric[0]) }, n)));
  draw(usual ?? numeric[0]);
  return [h("form", { class: "filter", onsubmit: (e) => e.preventDefault() }, h("label", null, "Drawn", choice)), place];
}

/** Readings that a function answered with. */
export function readings(series) {
  if (series.length === 0) return h("p", { class: "empty" }, "No readings.");
  const kinds = Map.groupBy(series, (s) => `${s.kind}${s.unit ? ` [${s.unit}]` : ""}`);
  const drawn = [...kinds].map(([kind, all]) => [h("h3", null, kind), lines(all.map((s) => ({ name: [s.device, s.location].filter(Boolean).join(", "), times: s.times, values: s.values })), {})]);
  const least = (v) => v.reduce((a, b) => Math.min(a, b), Infinity);
  const most = (v) => v.reduce((a, b) => Math.max(a, b), -Infinity);
  const titles = [["Device"], ["Location"], ["Kind"], ["Unit"], ["Readings", 1], ["First"], ["Last"], ["Least", 1], ["Mean", 1], ["Most", 1]];
  const line = (s) => [s.device, s.location, s.kind, s.unit, count(s.values.length), at(s.times[0]), at(s.times.at(-1)),
    number(least(s.values)), number(s.values.reduce((a, b) => a + b, 0) / s.values.length), number(most(s.values))];
  return h("div", null, drawn, h("div", { class: "scroll" }, h("table", { class: "rows" },
    h("caption", { class: "unseen" }, "Series of the answer"),
    h("thead", null, h("tr", null, titles.map(([t, num]) => h("th", { scope: "col", class: num && "num" }, t)))),
    h("tbody", null, series.slice(0, 500).map((s) => h("tr", null, line(s).map((v, i) => h("td", { class: titles[i][1] && "num", "data-label": titles[i][0] }, v))))))));
}

const at = (ms) => (ms === undefined ? "" : moment(new Date(ms).toISOString()));
