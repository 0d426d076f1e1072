// The frame: which view is shown, the state of the link, keys.

import { fill, h, setText } from "./dom.js";
import { clock, coarse, tick } from "./format.js";
import { model, retry, start, watch } from "./live.js";
import { startKeys } from "./keys.js";
import { findings } from "./health.js";
import * as devices from "./devices.js";
import * as functions from "./functions.js";
import * as health from "./health.js";
import * as history from "./history.js";
import * as now from "./now.js";
import * as run from "./run.js";
import * as standing from "./standing.js";

const VIEWS = { now, history, standing, devices, functions, node: health, run };

const main = document.getElementById("main");
let view = null;
let shown = null;

/** `#name/argument?query` */
function place() {
  const [path, query] = location.hash.slice(1).split("?");
  const [name, argument] = path.split("/");
  const known = VIEWS[name] ? name : "now";
  return { name: known, argument: decodeURIComponent(argument ?? ""), query: new URLSearchParams(query ?? "") };
}

function route(moved) {
  const to = place();
  const same = shown && shown.name === to.name && shown.argument === to.argument;
  if (same && view.again) {
    view.again(to.query);
    return;
  }
  view?.leave?.();
  main.replaceChildren();
  shown = to;
  view = VIEWS[to.name].enter(main, to.argument, to.query);
  for (const link of document.querySelectorAll("nav a")) {
    const here = link.dataset.view === (to.name === "run" ? "history" : to.name);
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  view.update?.();
  title();
  if (moved) {
    const heading = main.querySelector("h1");
    heading?.setAttribute("tabindex", "-1");
    heading?.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

function title() {
  const name = model.node?.name ?? "FADES node";
  const heading = main.querySelector("h1")?.textContent ?? "";
  document.title = `${model.link === "lost" ? "lost: " : ""}${heading ? `${heading} · ` : ""}${name}`;
}

const LINK = {
  wait: "connecting", live: "live", lost: "connection lost", paused: "paused", denied: "no access",
};

function frame() {
  const link = document.getElementById("link");
  link.dataset.state = model.link === "denied" ? "lost" : model.link;
  setText(document.getElementById("link-text"), LINK[model.link]);
  document.body.classList.toggle("stale", model.link === "lost" || model.link === "denied");
  if (model.node) {
    setText(document.getElementById("node-name"), model.node.name);
    setText(document.getElementById("node-version"), `FADES ${model.node.version}`);
    const troubles = findings(model).filter((f) => f.grade === "missing").length;
    const count = document.getElementById("troubles");
    fill(count, troubles, h("span", { class: "unseen" }, " troubles"));
    count.hidden = troubles === 0;
  }
  notice();
  title();
}

const notices = document.getElementById("notice");
let lostSaid = null;
let countdown = null;

/** Says once that the link was lost, and that it is back; what counts down
    beside it is not read out. */
function notice() {
  if (model.link === "lost" || model.link === "denied") {
    if (lostSaid !== model.link + model.lostAt) {
      lostSaid = model.link + model.lostAt;
      notices.dataset.kind = "lost";
      countdown = h("span", { "aria-hidden": "true", id: "lost-for" });
      const what = model.link === "denied"
        ? `The node does not let this page in: ${model.reason}. `
        : `Connection lost at ${clock(model.lostAt)} (${model.reason}). `;
      const stale = model.loaded ? "What is shown is as it was then. " : "";
      const again = h("button", { type: "button", onclick: retry }, "Try now");
      fill(notices, h("strong", null, what), stale, countdown, " ", again);
      notices.hidden = false;
    }
    count();
  } else if (model.link === "live" && lostSaid) {
    lostSaid = null;
    countdown = null;
    notices.dataset.kind = "back";
    fill(notices, `Connected again at ${clock(Date.now())}; what was missed is here now.`);
    setTimeout(() => { if (!lostSaid) notices.hidden = true; }, 8000);
  }
}

function count() {
  if (!countdown) return;
  const wait = Math.max(0, Math.ceil((model.retryAt - Date.now()) / 1000));
  setText(countdown, `That was ${coarse(Date.now() - model.lostAt)} ago; next attempt in ${wait} s.`);
}

addEventListener("hashchange", () => route(true));
// The address says which view is shown, so the way to its content is not in it.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
watch(() => { frame(); view?.update?.(); });
setInterval(() => {
  if (document.hidden) return;
  // What is shown is as of when the link was lost, and so are its clocks.
  if (model.link === "live") tick(main);
  count();
}, 1000);
startKeys(() => view);
route(false);
frame();
start();
