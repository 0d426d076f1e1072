// Where the time of runs went: the five phases as stacked bars, and medians.

import { h, keyed, setText, fill } from "./dom.js";
import { median, micros, quantile } from "./format.js";

export const PHASES = [
  ["queue", "from acceptance to the start of the run"],
  ["retrieve", "the function waited for data"],
  ["boot", "to the function's first event, and messages between processes"],
  ["transfer", "batches were mapped, the answer was copied out"],
  ["compute", "the function computed"],
];

export const parts = (breakdown) => PHASES.map(([name]) => breakdown?.[`${name}-us`] ?? 0);

export const total = (breakdown) => parts(breakdown).reduce((a, b) => a + b, 0);

/** How long a task took, from its acceptance to its end, in words. */
export function took(task) {
  if (!task.finished) return "";
  // The parts are exact to the microsecond, times as a browser reads them are not.
  const us = total(task.breakdown) || Math.max(0, Date.parse(task.finished) - Date.parse(task.accepted)) * 1000;
  return micros(Math.round(us));
}

export function inWords(breakdown) {
  return PHASES.map(([name], i) => `${name} ${micros(parts(breakdown)[i])}`).join(", ");
}

/** One bar; `scale` is the length of time that fills it, µs. */
export function bar(breakdown, scale, tall) {
  const track = h("span", { class: tall ? "track tall" : "track", "aria-hidden": "true" });
  parts(breakdown).forEach((us, i) => {
    track.append(h("i", { class: PHASES[i][0], style: { width: `${Math.min(100, (100 * us) / (scale || 1))}%` } }));
  });
  if (total(breakdown) > scale * 1.001) track.append(h("span", { class: "over" }));
  return track;
}

const key = (name) => h("span", { class: `key ${name}`, "aria-hidden": "true" });

/** The phases of one run: a bar and its numbers. */
export function ofRun(breakdown) {
  const all = total(breakdown);
  const rows = PHASES.map(([name, means], i) => {
    const us = parts(breakdown)[i];
    const share = all > 0 ? `${((100 * us) / all).toFixed(1)} %` : "";
    return h("tr", null, h("th", { scope: "row" }, key(name), name), h("td", { class: "num" }, micros(us)),
      h("td", { class: "num" }, share), h("td", { class: "soft" }, means));
  });
  return [bar(breakdown, all, true), h("div", { class: "scroll" }, h("table", { class: "medians" },
    h("caption", { class: "unseen" }, "Phases of the run"),
    h("thead", null, h("tr", null, ["Phase", "Time", "Share", "What happened"].map((t, i) => h("th", { scope: "col", class: (i === 1 || i === 2) && "num" }, t)))),
    h("tbody", null, rows)))];
}

/** The latest runs below each other, with medians; `show(tasks)` brings it up
    to date. */
export function chart(most) {
  const list = h("ol", { class: "phases" });
  const body = h("tbody");
  const none = h("p", { class: "empty" }, "No run has ended yet.");
  const about = h("p", { class: "soft" });
  const way = (value, text, checked) => h("label", null, h("input", { type: "radio", name: "scale", value, checked, onchange: again }), ` ${text}`);
  const choice = h("fieldset", null, h("legend", null, "Bars show "), way("time", "time", true), way("share", "share"));
  const medians = h("table", { class: "medians" },
    h("caption", { class: "unseen" }, "Phases of the latest runs"),
    h("thead", null, h("tr", null, h("th", { scope: "col" }, "Phase"), h("th", { scope: "col", class: "num" }, "Median"), h("th", { scope: "col", class: "num" }, "95th percentile"))),
    body);
  let last = [];
  function again() { show(last); }
  function show(tasks) {
    last = tasks;
    const runs = tasks.filter((t) => t.breakdown && t.started).slice(0, most);
    none.hidden = runs.length > 0;
    medians.hidden = list.hidden = choice.hidden = about.hidden = runs.length === 0;
    if (runs.length === 0) return;
    const share = choice.querySelector("input:checked").value === "share";
    const totals = runs.map((t) => total(t.breakdown));
    // A run that waited for an hour does not hide the others: what is far
    // longer than usual is cut, and marked as cut.
    const scale = Math.max(1, Math.min(Math.max(...totals), 4 * median(totals)));
    setText(about, share ? "Each bar is a run, full width." : `Full width is ${micros(Math.round(scale))}; longer bars are cut.`);
    fill(body, [...PHASES.keys()].map((i) => {
      const values = runs.map((t) => parts(t.breakdown)[i]);
      return h("tr", null, h("th", { scope: "row", title: PHASES[i][1] }, key(PHASES[i][0]), PHASES[i][0]),
        h("td", { class: "num" }, micros(Math.round(median(values)))),
        h("td", { class: "num" }, micros(Math.round(quantile(values, 0.95)))));
    }), h("tr", null, h("th", { scope: "row" }, "together"), h("td", { class: "num" }, micros(Math.round(median(totals)))), h("td", { class: "num" }, micros(Math.round(quantile(totals, 0.95))))));
    const items = runs.map((t) => ({ id: t.id, name: t.name, state: t.state, breakdown: t.breakdown, scale: share ? total(t.breakdown) : scale }));
    keyed(list, items, (t) => t.id, (t) => h("li", null, h("a", { href: `#run/${t.id}`, title: inWords(t.breakdown) },
      h("span", { class: "what" }, h("span", { class: "state", "data-state": t.state }, t.name)),
      bar(t.breakdown, t.scale), h("span", { class: "num" }, micros(total(t.breakdown))),
      h("span", { class: "unseen" }, `: ${inWords(t.breakdown)}`))));
  }
  return { element: h("div", null, medians, choice, about, list, none), show };
}
