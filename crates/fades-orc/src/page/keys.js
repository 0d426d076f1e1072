// Keys: single letters go to views and through lists, unless switched off or
// while something is typed.

import { fill, h } from "./dom.js";
import { retry } from "./live.js";

const KEYS = [
  ["1 … 6", "the views, in the order in which they are named"],
  ["j, k", "next and previous link of a list"],
  ["Enter", "opens it"],
  ["/", "to the first field of a filter"],
  ["[ and ]", "newer and older page of the history"],
  ["u", "back to where you came from"],
  ["r", "tries to connect at once"],
  ["?", "this list; Escape closes it"],
];

const dialog = document.getElementById("help");
const on = document.getElementById("keys-on");

/** Whether single keys do something; kept for this address. */
function stored() {
  try {
    return localStorage.getItem("keys") !== "off";
  } catch {
    return true;
  }
}

function store(value) {
  try {
    localStorage.setItem("keys", value ? "on" : "off");
  } catch {
    // It holds until the page is left.
  }
}

export function startKeys(view) {
  const rows = KEYS.map(([key, what]) => h("tr", null, h("th", { scope: "row" }, h("kbd", null, key)), h("td", null, what)));
  fill(document.getElementById("help-keys"), rows);
  on.checked = stored();
  on.addEventListener("change", () => store(on.checked));
  document.getElementById("help-button").addEventListener("click", () => dialog.showModal());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || dialog.open) return;
    if (event.target.matches?.("input, select, textarea")) return;
    if (!on.checked && event.key !== "?") return;
    if (press(event.key, view())) event.preventDefault();
  });
}

function press(key, view) {
  const links = document.querySelectorAll("nav a");
  if (key >= "1" && key <= String(links.length)) links[key - 1].click();
  else if (key === "?") dialog.showModal();
  else if (key === "j") step(1);
  else if (key === "k") step(-1);
  else if (key === "u") history.back();
  else if (key === "r") retry();
  else if (key === "/") document.querySelector("main form input, main form select")?.focus();
  else if (key === "[") view?.newer?.();
  else if (key === "]") view?.older?.();
  else return false;
  return true;
}

/** Moves the focus among what can be opened. */
function step(by) {
  const all = [...document.querySelectorAll("main a[href^='#run/']")].filter((a) => a.offsetParent !== null);
  if (all.length === 0) return;
  const at = all.indexOf(document.activeElement);
  const next = at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(Math.max(at + by, 0), all.length - 1);
  all[next].focus();
  all[next].scrollIntoView({ block: "nearest" });
}
