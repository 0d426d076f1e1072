// Charts: bars beside names, and lines over time. Each has its numbers in
// words as well.

import { h, s } from "./dom.js";
import { clock, number } from "./format.js";

/** Horizontal bars of `{ name, value }`. */
export function bars(items, title) {
  const low = Math.min(0, ...items.map((i) => i.value));
  const high = Math.max(0, ...items.map((i) => i.value));
  const share = (v) => (100 * v) / (high - low || 1);
  return h("ul", { class: "bars", "aria-label": title }, items.map(({ name, value }) => h("li", null,
    h("span", null, name),
    h("span", { class: "box", "aria-hidden": "true" }, h("i", { style: { left: `${share(Math.min(value, 0) - low)}%`, width: `${share(Math.abs(value))}%` } })),
    h("span", { class: "num" }, number(value)))));
}

const WIDE = 720;
const HIGH = 200;
const LEFT = 60;
const BELOW = 22;

/** Most lines in one chart, and points of a line. */
const LINES = 8;
const POINTS = 500;

/** Lines of `{ name, times, values }`; `plain` when times are only places. */
export function lines(all, { plain }) {
  const drawn = all.filter((one) => one.values.length > 0).slice(0, LINES);
  const range = (pick) => {
    let [low, high] = [Infinity, -Infinity];
    for (const one of drawn) for (const v of pick(one)) { if (v < low) low = v; if (v > high) high = v; }
    return low < high ? [low, high] : [low - 0.5, high + 0.5];
  };
  if (drawn.length === 0) return h("p", { class: "empty" }, "Nothing to draw.");
  const [from, to] = range((one) => one.times);
  const [low, high] = range((one) => one.values);
  const x = (t) => LEFT + ((WIDE - LEFT - 6) * (t - from)) / (to - from);
  const y = (v) => 8 + ((HIGH - BELOW - 8) * (high - v)) / (high - low);
  const words = `${drawn.length} lines, from ${number(low)} to ${number(high)}`;
  const chart = s("svg", { class: "lines", viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": words });
  for (const v of steps(low, high, 4)) {
    chart.append(s("line", { class: "grid", x1: LEFT, x2: WIDE - 6, y1: y(v), y2: y(v) }), s("text", { x: LEFT - 6, y: y(v) + 4, "text-anchor": "end" }, number(v)));
  }
  for (const part of [0, 0.5, 1]) {
    const t = from + part * (to - from);
    const anchor = part === 0 ? "start" : part === 1 ? "end" : "middle";
    chart.append(s("text", { x: x(t), y: HIGH - 5, "text-anchor": anchor }, plain ? number(Math.round(t)) : stamp(t, to - from)));
  }
  drawn.forEach((one, i) => {
    const path = s("path", { d: trace(one, x, y) });
    path.style.setProperty("stroke", `var(--s${i})`);
    chart.append(path);
  });
  const legend = drawn.length > 1 || all.length > LINES ? h("ul", { class: "legend" },
    drawn.map((one, i) => h("li", null, h("span", { class: "key", "aria-hidden": "true", style: { background: `var(--s${i})` } }), one.name)),
    all.length > LINES && h("li", { class: "soft" }, `and ${all.length - LINES} more in the table`)) : null;
  return h("div", null, chart, legend);
}

/** The line as a path; of many points, the least and the most of each stretch. */
function trace({ times, values }, x, y) {
  const stride = Math.max(1, Math.ceil(values.length / (POINTS / 2)));
  const points = [];
  for (let at = 0; at < values.length; at += stride) {
    let [least, most] = [at, at];
    for (let i = at; i < Math.min(at + stride, values.length); i += 1) {
      if (values[i] < values[least]) least = i;
      if (values[i] > values[most]) most = i;
    }
    for (const i of new Set([Math.min(least, most), Math.max(least, most)])) points.push(`${x(times[i]).toFixed(1)} ${y(values[i]).toFixed(1)}`);
  }
  // A single point is a line of no length, which round ends show.
  return points.length === 1 ? `M${points[0]}h.1` : `M${points.join("L")}`;
}

/** Round numbers between two. */
function steps(low, high, about) {
  const raw = (high - low) / about;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw);
  const found = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-9; v += step) found.push(Number(v.toPrecision(12)));
  return found;
}

function stamp(ms, span) {
  const day = new Date(ms).toLocaleDateString("sv-SE");
  if (span > 6 * 864e5) return day;
  return span > 864e5 ? `${day.slice(5)} ${clock(ms).slice(0, 5)}` : clock(ms).slice(0, span > 6e5 ? 5 : 8);
}
