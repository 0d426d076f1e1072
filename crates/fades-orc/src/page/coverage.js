// Which data stood behind an answer: who was asked, who answered, what was lost.

import { h } from "./dom.js";
import { bytes, count, moment } from "./format.js";

const LOST = {
  truncated: "the row ends too early", empty: "the field is empty", "not-a-number": "not a number",
  "not-finite": "NaN or infinite", "bad-time": "the time cannot be read", "bad-text": "not text in the configured encoding",
  unnamed: "no device or kind", unit: "a unit that cannot be converted", duplicate: "the same reading came before",
  overflow: "more than there was room for", refused: "the device refuses it",
};

const head = (titles) => h("thead", null, h("tr", null, titles.map(([t, num]) => h("th", { scope: "col", class: num && "num" }, t))));

export function coverage(list) {
  const titles = [["Retrieved"], ["Devices answered"], ["Empty", 1], ["Failed", 1], ["Late", 1], ["Readings used", 1], ["Of", 1], ["Outside valid range", 1], ["Fetched", 1]];
  const rows = list.map((c) => h("tr", null,
    h("th", { scope: "row" }, c.name),
    h("td", { "data-label": "Answered" }, meter(c.answered, c.matched), `${count(c.answered)} of ${count(c.matched)}`),
    [["Empty", c.empty], ["Failed", c.failed, "bad"], ["Late", c.late, "odd"], ["Used", c.used], ["Of", c.read], ["Outside", c.marked]].map(([label, n, ink]) =>
      h("td", { class: `num ${n > 0 && ink ? ink : ""}`, "data-label": label }, count(n))),
    h("td", { class: "num", "data-label": "Fetched" }, bytes(c.bytes))));
  const parts = [h("div", { class: "scroll" }, h("table", { class: "rows" }, h("caption", { class: "unseen" }, "Coverage"), head(titles), h("tbody", null, rows)))];
  const lost = list.flatMap((c) => Object.entries(c.lost).map(([reason, n]) => [c.name, LOST[reason] ?? reason, n]));
  parts.push(part("Readings lost", [["Retrieved"], ["Reason"], ["Readings", 1]], lost.map(([name, reason, n]) => [name, reason, [count(n)]])));
  const absent = list.flatMap((c) => (c.absent ?? []).map((a) => [a.device, a.source, a.late ? "late" : "failed", a.since ? moment(a.since) : "never", a.reason]));
  parts.push(part("Devices without an answer", [["Device"], ["Source"], ["What"], ["Heard last"], ["Reason"]], absent));
  const cited = list.flatMap((c) => c.cited.map((r) => [`${r.file}:${r.line}`, r.column ?? "", LOST[r.reason] ?? r.reason]));
  parts.push(part("The first bad rows", [["Where"], ["Column"], ["Reason"]], cited));
  const gaps = list.flatMap((c) => (c.gaps ?? []).map((g) => [g.source, moment(g.from), moment(g.to), [count(g.readings)], g.reason]));
  parts.push(part("Times in which readings may be missing", [["Source"], ["From"], ["To"], ["Readings", 1], ["Reason"]], gaps));
  return parts;
}

/** A table with a heading, if it has rows. */
function part(title, titles, rows) {
  if (rows.length === 0) return null;
  const cell = (value, i) => h("td", { class: Array.isArray(value) && "num", "data-label": titles[i][0] }, value);
  return [h("h3", null, title), h("div", { class: "scroll" }, h("table", { class: "rows" },
    h("caption", { class: "unseen" }, title), head(titles), h("tbody", null, rows.map((row) => h("tr", null, row.map(cell))))))];
}

function meter(part, whole) {
  return h("span", { class: "meter", "aria-hidden": "true" }, h("i", { style: { width: `${whole > 0 ? (100 * part) / whole : 0}%` } }));
}
