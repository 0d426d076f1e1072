// What was asked of the node: pages of tasks, newest first, filtered by the node.

import { fill, h, panel, setText, state, table } from "./dom.js";
import { moment, ofFunction, short } from "./format.js";
import { watchTasks } from "./live.js";
import { get } from "./net.js";
import { inWords, took } from "./phases.js";

/** Tasks on a page. */
const PAGE = 50;

const STATES = ["", "queued", "running", "standing", "done", "failed", "cancelled"];

export function taskColumns() {
  return [
    { title: "Task", head: true, of: (t) => h("a", { href: `#run/${t.id}` }, t.name) },
    { title: "Id", of: (t) => h("span", { class: "mono soft", title: t.id }, short(t.id)) },
    { title: "Service", of: (t) => t.service },
    { title: "Function", of: (t) => ofFunction(t.function) },
    { title: "State", of: (t) => [state(t.state), t.failure && h("span", { class: "why", title: t.failure }, t.failure)] },
    { title: "Accepted", of: (t) => moment(t.accepted) },
    { title: "Took", num: true, of: (t) => h("span", { title: t.breakdown && inWords(t.breakdown) }, took(t)) },
  ];
}

export function enter(main, _, query) {
  const field = (name, label) => h("label", null, label, h("input", { name, value: query.get(name) ?? "", autocomplete: "off", spellcheck: "false" }));
  const form = h("form", { class: "filter", role: "search", onsubmit: submit, onchange: submit },
    h("label", null, "State", h("select", { name: "state" }, STATES.map((s) => h("option", { value: s, selected: (query.get("state") ?? "") === s }, s || "all")))),
    field("service", "Service"), field("name", "Name of the task"), h("button", null, "Filter"));
  const list = table("Tasks", taskColumns(), (t) => t.id);
  const newer = h("button", { type: "button", onclick: goNewer }, "Newer");
  const older = h("button", { type: "button", onclick: goOlder }, "Older");
  const where = h("span", { class: "soft", role: "status" });
  const box = panel("Tasks, newest first", list.element, h("div", { class: "pager" }, newer, older, where));
  main.append(h("h1", null, "History"), form, box);

  /** The `after` of each page before this one. */
  let pages = [];
  let rows = [];
  let next = null;
  let asked = 0;

  function filters() {
    const wanted = new URLSearchParams();
    for (const [name, value] of new FormData(form)) if (value.trim()) wanted.set(name, value.trim());
    return wanted;
  }
  function submit(event) {
    event.preventDefault();
    const wanted = filters().toString();
    // The address says what is shown; going there reads it.
    const to = `#history${wanted ? `?${wanted}` : ""}`;
    if (location.hash !== to) location.hash = to;
  }
  async function read() {
    const mine = ++asked;
    const wanted = filters();
    wanted.set("limit", PAGE);
    if (pages.length > 0) wanted.set("after", pages.at(-1));
    try {
      const page = await get(`/v1/tasks?${wanted}`);
      if (mine !== asked) return;
      rows = page.tasks;
      next = page.next;
      show(rows.length === 0 ? "No task is like this." : "");
    } catch (error) {
      if (mine !== asked) return;
      rows = [];
      next = null;
      show(error.message);
    }
  }
  function show(empty) {
    list.show(rows, empty);
    newer.disabled = pages.length === 0;
    older.disabled = !next;
    setText(where, rows.length > 0 ? `Page ${pages.length + 1}, ${rows.length} tasks` : "");
  }
  function goNewer() {
    if (pages.length > 0) { pages.pop(); read(); }
  }
  function goOlder() {
    if (next) { pages.push(next); read(); }
  }
  const fits = (t) => ["state", "service", "name"].every((f) => {
    const wanted = filters().get(f);
    return !wanted || t[f] === wanted;
  });
  /** A new state changes its row; on the first page, new tasks come on top. */
  function told(task) {
    if (task === null) return void read();
    const at = rows.findIndex((t) => t.id === task.id);
    if (at >= 0) rows = fits(task) ? rows.with(at, task) : rows.toSpliced(at, 1);
    else if (pages.length === 0 && fits(task) && !(rows[0]?.accepted > task.accepted)) {
      rows = [task, ...rows];
      if (rows.length > PAGE) { rows = rows.slice(0, PAGE); next = rows.at(-1).id; }
    } else return undefined;
    changed = true;
    return undefined;
  }
  let changed = false;
  const leave = watchTasks(told);
  read();
  return {
    leave,
    newer: goNewer,
    older: goOlder,
    update() {
      if (!changed) return;
      changed = false;
      show("No task is like this.");
    },
    /** Another filter, by the address. */
    again(wanted) {
      for (const name of ["state", "service", "name"]) form.elements[name].value = wanted.get(name) ?? "";
      pages = [];
      read();
    },
  };
}

/** The runs of a task with a schedule, newest first. */
export function runsOf(id) {
  const list = table("Runs of this task", taskColumns().filter((c) => !["Service", "Function"].includes(c.title)), (t) => t.id);
  const box = h("div", null, list.element);
  async function read() {
    try {
      const { tasks } = await get(`/v1/tasks?of=${encodeURIComponent(id)}&limit=30`);
      list.show(tasks, "It has not run yet.");
      return tasks;
    } catch (error) {
      fill(box, h("p", { class: "empty" }, error.message));
      return [];
    }
  }
  return { element: box, read };
}
