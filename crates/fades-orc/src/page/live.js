// What the page knows of the node, kept up to date by its events.
//
//   stream opened ─▶ lists read once ─▶ events applied as they come
//        ▲                                         │ lost
//        └──── after a pause, with Last-Event-ID ◀─┘
//
// A node that still knows what followed tells that, and nothing is read anew;
// otherwise it says `missed`, and the lists are. Nothing else is asked again
// and again but /v1/node: shortly after something changed, twice a minute
// otherwise, and never while nobody sees the page.

import { follow, get, Refused } from "./net.js";

/** Most tasks of each kind that are kept at hand; history has the others. */
const KEPT = 60;

/** Pauses between attempts, ms. */
const PAUSES = [500, 1000, 2000, 4000, 8000, 15000];

/** A page that nobody sees gives its connection back after so long, ms:
    browsers have six for all pages of an address. */
const UNSEEN = 30_000;

export const isFinal = (state) => state === "done" || state === "failed" || state === "cancelled";

export const model = {
  node: null,
  health: null,
  /** Tasks that are open, by id. */
  running: new Map(),
  queued: new Map(),
  /** The latest that have ended, by id. */
  ended: new Map(),
  /** wait, live, lost, paused or denied. */
  link: "wait",
  /** When it was lost, ms; what is shown is as of then. */
  lostAt: null,
  retryAt: null,
  reason: "",
  loaded: false,
};

const listeners = new Set();
const taskListeners = new Set();

/** Calls `changed` at most four times a second while things change. */
export function watch(changed) {
  listeners.add(changed);
  return () => listeners.delete(changed);
}

/** Calls `told(task)` for each new state of a task; `null`: read anew. */
export function watchTasks(told) {
  taskListeners.add(told);
  return () => taskListeners.delete(told);
}

let scheduled = false;
function changed() {
  if (scheduled) return;
  scheduled = true;
  setTimeout(() => {
    scheduled = false;
    listeners.forEach((listener) => listener());
  }, 250);
}

let last = null;
let attempt = 0;
let controller = null;
let wake = null;
/** Events that came before the lists were there. */
let early = null;

export function start() {
  document.addEventListener("visibilitychange", seen);
  addEventListener("online", () => wake?.());
  run();
  setInterval(() => { if (!document.hidden && model.link === "live") readNode(0); }, 30_000);
}

let unseen = null;
function seen() {
  clearTimeout(unseen);
  if (document.hidden) {
    unseen = setTimeout(() => { setLink("paused"); controller?.abort(); }, UNSEEN);
  } else {
    wake?.();
    if (model.link === "live") readNode(0);
  }
}

async function run() {
  for (;;) {
    if (document.hidden && model.link === "paused") await sleep(Infinity);
    controller = new AbortController();
    try {
      await follow("/v1/events", { last, signal: controller.signal, opened, told });
      lost("the node has ended the stream");
    } catch (error) {
      if (model.link !== "paused") lost(words(error), error);
    }
    early = null;
    if (model.link === "paused") continue;
    const pause = PAUSES[Math.min(attempt, PAUSES.length - 1)];
    attempt += 1;
    model.retryAt = Date.now() + pause;
    changed();
    await sleep(pause);
  }
}

function words(error) {
  if (error instanceof Refused) return error.message;
  if (error.name === "TypeError") return "nobody answers";
  return error.message;
}

function sleep(ms) {
  return new Promise((resolve) => {
    const timer = ms === Infinity ? null : setTimeout(resolve, ms);
    wake = () => { clearTimeout(timer); resolve(); };
  });
}

/** Tries at once. */
export function retry() {
  wake?.();
}

function setLink(link) {
  if (link === "live") { model.lostAt = null; model.reason = ""; attempt = 0; }
  else model.lostAt ??= Date.now();
  model.link = link;
  changed();
}

function lost(reason, error) {
  model.reason = reason;
  const denied = error instanceof Refused && (error.status === 401 || error.status === 403);
  setLink(denied ? "denied" : "lost");
}

/** The stream is there: what it tells from now on is not missed. */
async function opened() {
  if (last === null || !model.loaded) return readAll();
  const mine = controller;
  try {
    // By the time that this is there, `missed` is as well, if it comes.
    model.node = await get("/v1/node");
    if (early === null && mine === controller) setLink("live");
  } catch (error) {
    mine.abort(error);
  }
}

async function readAll() {
  early = [];
  const mine = early;
  const list = (state, limit) => get(`/v1/tasks?state=${state}&limit=${limit}`);
  try {
    const [node, running, queued, done, failed, cancelled] = await Promise.all([
      get("/v1/node"), list("running", KEPT), list("queued", KEPT),
      list("done", KEPT), list("failed", 20), list("cancelled", 10),
    ]);
    if (mine !== early) return;
    model.node = node;
    model.running = byId(running.tasks);
    model.queued = byId(queued.tasks);
    model.ended = byId([...done.tasks, ...failed.tasks, ...cancelled.tasks]);
    model.loaded = true;
    early = null;
    mine.forEach(apply);
    taskListeners.forEach((listener) => listener(null));
    setLink("live");
  } catch (error) {
    if (mine === early) controller?.abort(error);
  }
}

const byId = (tasks) => new Map(tasks.map((task) => [task.id, task]));

function told(name, data, id) {
  if (id) last = id;
  if (name === "missed") readAll();
  else if (name === "node") { model.health = data; readNode(0); changed(); }
  else if (name === "task") early ? early.push(data) : apply(data);
}

function apply(task) {
  model.running.delete(task.id);
  model.queued.delete(task.id);
  if (task.state === "running") model.running.set(task.id, task);
  else if (task.state === "queued") model.queued.set(task.id, task);
  else if (isFinal(task.state)) {
    model.ended.delete(task.id);
    model.ended.set(task.id, task);
    trim();
  }
  taskListeners.forEach((listener) => listener(task));
  readNode(2000);
  changed();
}

/** Keeps the latest; they come about in the order in which they end. */
function trim() {
  if (model.ended.size <= 3 * KEPT) return;
  const latest = latestEnded().slice(0, 2 * KEPT);
  model.ended = byId(latest);
}

/** What has ended, the latest first. */
export function latestEnded() {
  return [...model.ended.values()].sort((a, b) => (a.finished < b.finished ? 1 : a.finished > b.finished ? -1 : 0));
}

let nodeTimer = null;
/** Reads how the node is within `ms`, once for all who ask meanwhile. */
function readNode(ms) {
  nodeTimer ??= setTimeout(async () => {
    try {
      model.node = await get("/v1/node");
      changed();
    } catch {
      // The stream notices as well, and says so.
    } finally {
      nodeTimer = null;
    }
  }, ms);
}
