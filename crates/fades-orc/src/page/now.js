// What happens now: what runs, what waits, where the time of the latest runs
// went, what ended.

import { fill, h, panel, setText, state, table } from "./dom.js";
import { coarse, count, inMillis, lasting, moment, ofFunction } from "./format.js";
import { latestEnded, model } from "./live.js";
import { chart, took } from "./phases.js";

const link = (t) => h("a", { href: `#run/${t.id}` }, t.name);

export function enter(main) {
  const figures = h("dl", { class: "figures" });
  const running = table("Tasks that run", [
    { title: "Task", head: true, of: link }, { title: "Service", of: (t) => t.service },
    { title: "Function", of: (t) => ofFunction(t.function) },
    { title: "Attempt", num: true, of: (t) => t.attempts },
    { title: "For", num: true, of: (t) => lasting(t.started) },
  ], (t) => t.id);
  const queued = table("Tasks that wait", [
    { title: "Task", head: true, of: link }, { title: "Service", of: (t) => t.service },
    { title: "Function", of: (t) => ofFunction(t.function) },
    { title: "Waits for", num: true, of: (t) => lasting(t.accepted) },
  ], (t) => t.id);
  const more = h("p", { class: "soft" });
  const ended = table("Tasks that ended", [
    { title: "Task", head: true, of: link }, { title: "Service", of: (t) => t.service },
    { title: "State", of: (t) => h("span", { title: t.failure }, state(t.state)) }, { title: "Ended", of: (t) => moment(t.finished) },
    { title: "Took", num: true, of: took },
  ], (t) => t.id);
  const phases = chart(24);
  main.append(h("h1", null, "Now"), figures, h("div", { class: "panels" },
    h("div", { class: "stack" }, panel("Running", running.element), panel("Queue", queued.element, more), panel("Latest ends", ended.element)),
    panel("Phases of the latest runs", phases.element)));

  function update() {
    showFigures(figures);
    const oldest = (a, b) => (a.accepted < b.accepted ? -1 : 1);
    running.show([...model.running.values()].sort(oldest), model.loaded ? "Nothing runs." : "…");
    const waiting = [...model.queued.values()].sort(oldest);
    queued.show(waiting.slice(0, 12), model.loaded ? "Nothing waits." : "…");
    const others = Math.max(model.node?.tasks.queued ?? 0, waiting.length) - Math.min(waiting.length, 12);
    more.hidden = others <= 0;
    if (others > 0) fill(more, h("a", { href: "#history?state=queued" }, `${count(others)} more wait`));
    const latest = latestEnded();
    ended.show(latest.slice(0, 12), model.loaded ? "Nothing has ended yet." : "…");
    phases.show(latest);
  }
  return { update };
}

function showFigures(list) {
  const node = model.node;
  if (!node) return setText(list, "");
  const one = (term, value, small) => h("div", null, h("dt", null, term), h("dd", null, value, small && h("small", null, ` ${small}`)));
  return fill(list,
    one("Running", count(model.running.size), `of ${node.parallel}`),
    one("Queued", count(Math.max(node.tasks.queued, model.queued.size))),
    one("Schedules", count(node.tasks.standing)),
    one("Done", count(node.tasks.done)), one("Failed", count(node.tasks.failed)), one("Cancelled", count(node.tasks.cancelled)),
    one("Functions", count(node.functions)), one("Up", coarse(inMillis(node.uptime))));
}
