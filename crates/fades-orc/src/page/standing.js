// Tasks with a schedule, and how their latest runs went.

import { h, panel, table } from "./dom.js";
import { count, micros, moment, ofFunction } from "./format.js";
import { watchTasks } from "./live.js";
import { get } from "./net.js";
import { total } from "./phases.js";

const CATCH_UP = { none: "missed times are left out", latest: "the newest missed time is made up for", all: "all missed times are made up for" };

/** When a task runs, in words. */
export function schedule({ schedule: s, window: w }) {
  if (w) {
    const long = w.length ? ` of ${w.length}` : "";
    return `stays, a window${long} every ${w.every}, grace ${w.grace ?? "2s"}; ${CATCH_UP[w["catch-up"] ?? "all"]}`;
  }
  if (!s) return "no schedule";
  const when = s.every ? `every ${s.every}` : `cron ${s.cron}`;
  return `${when}; ${CATCH_UP[s["catch-up"] ?? "latest"]}`;
}

/** Most tasks whose schedule and runs are read. */
const MOST = 100;

export function enter(main) {
  const list = table("Tasks with a schedule", [
    { title: "Task", head: true, of: (t) => h("a", { href: `#run/${t.id}` }, t.name) },
    { title: "Service", of: (t) => t.service },
    { title: "Function", of: (t) => ofFunction(t.function) },
    { title: "When", of: (t) => t.schedule ?? "" },
    { title: "Done until", of: (t) => (t.due ? moment(t.due) : "not yet") },
    { title: "Left out", num: true, of: (t) => count(t.skipped) },
    { title: "Latest runs, newest first", of: (t) => (t.runs ?? []).map((r) => h("a", { href: `#run/${r.id}`, title: `${r.state}, due ${r.due ?? ""}${r.breakdown ? `, ${micros(total(r.breakdown))}` : ""}`, class: "state", "data-state": r.state },
      h("span", { class: "unseen" }, `run ${r.state} `))) },
  ], (t) => t.id);
  const more = h("p", { class: "soft", hidden: true });
  main.append(h("h1", null, "Schedules"), panel("Tasks that run again", list.element, more));
  let tasks = [];
  let gone = false;
  /** What does not change: the schedule of each. */
  const schedules = new Map();
  let reading = null;

  async function read() {
    try {
      const page = await get(`/v1/tasks?state=standing&limit=${MOST}`);
      tasks = page.tasks;
      more.hidden = !page.next;
      more.textContent = `The newest ${MOST} are shown.`;
      show();
      for (const task of tasks) {
        if (gone) return;
        if (!schedules.has(task.id)) schedules.set(task.id, schedule((await get(`/v1/tasks/${encodeURIComponent(task.id)}`)).task));
        task.runs = (await get(`/v1/tasks?of=${encodeURIComponent(task.id)}&limit=12`)).tasks;
        show();
      }
    } catch (error) {
      if (tasks.length === 0) list.show([], error.message);
    }
  }
  function show() {
    list.show(tasks.map((t) => ({ ...t, schedule: schedules.get(t.id) })), "No task has a schedule. A schedule or windows in a task give it one.");
  }
  /** Reads anew, at most each 3 s. */
  function soon() {
    reading ??= setTimeout(() => { reading = null; if (!gone) read(); }, 3000);
  }
  // A run tells whose it is only by its id, which begins with that of its task.
  const leave = watchTasks((t) => { if (t === null || t.due) soon(); });
  read();
  return { leave() { gone = true; leave(); } };
}
