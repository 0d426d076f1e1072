// The devices that the broker knows, and how they do.

import { facts, fill, h, panel, state, table } from "./dom.js";
import { ago, bytes, count, moment } from "./format.js";
import { get } from "./net.js";

/** The broker is asked again so often while the view is open, ms. */
const EACH = 15_000;

/** Most rows; the filter finds the others. */
const ROWS = 300;

const ORDER = ["broken", "failing", "silent", "unknown", "alive", ""];
const stateOf = (d) => d.liveness?.state ?? "";

export function enter(main) {
  const sums = h("dl", { class: "figures" });
  const text = h("input", { name: "text", autocomplete: "off", spellcheck: "false", oninput: show });
  const only = h("select", { name: "state", onchange: show }, ["", ...ORDER.slice(0, 5)].map((s) => h("option", { value: s }, s || "all")));
  const list = table("Devices", [
    { title: "Device", head: true, of: (d) => d.device },
    { title: "Source", of: (d) => d.source },
    { title: "Location", of: (d) => d.location },
    { title: "State", of: (d) => (d.liveness ? state(d.liveness.state) : h("span", { class: "soft" }, "not watched")) },
    { title: "Heard", of: (d) => (d.liveness?.["last-seen"] ? ago(d.liveness["last-seen"]) : newest(d)) },
    { title: "Measures", of: (d) => d.series.map((s) => (s.unit ? `${s.kind} [${s.unit}]` : s.kind)).join(", ") },
    { title: "Readings", num: true, of: (d) => count(d.series.reduce((n, s) => n + (s.readings ?? 0), 0)) },
    { title: "Remarks", of: remarks },
  ], (d) => `${d.source} ${d.device} ${d.location}`);
  const more = h("p", { class: "soft", role: "status" });
  const recording = h("div");
  main.append(h("h1", null, "Devices"), sums,
    h("form", { class: "filter", role: "search", onsubmit: (e) => e.preventDefault() }, h("label", null, "Contains", text), h("label", null, "State", only)),
    panel("Devices that the broker knows", list.element, more), recording);
  let devices = [];
  let failed = "";

  async function read() {
    try {
      const answer = await get("/v1/resources");
      failed = "";
      devices = answer.devices.sort((a, b) => ORDER.indexOf(stateOf(a)) - ORDER.indexOf(stateOf(b)) || (a.device < b.device ? -1 : 1));
      showRecording(recording, answer.recording ?? {});
    } catch (error) {
      failed = error.message;
    }
    show();
  }
  function show() {
    const wanted = text.value.trim().toLowerCase();
    const found = devices.filter((d) => (only.value === "" || stateOf(d) === only.value)
      && (wanted === "" || JSON.stringify([d.device, d.source, d.location, d.labels, d.series.map((s) => s.kind)]).toLowerCase().includes(wanted)));
    list.show(found.slice(0, ROWS), failed || (devices.length === 0 ? "The broker knows no device." : "No device is like this."));
    more.textContent = found.length > ROWS ? `${count(ROWS)} of ${count(found.length)} are shown: filter for the others.` : "";
    const states = Map.groupBy(devices, stateOf);
    fill(sums, h("div", null, h("dt", null, "Devices"), h("dd", null, count(devices.length))),
      ORDER.filter((s) => s && states.has(s)).map((s) => h("div", null, h("dt", null, state(s)), h("dd", null, count(states.get(s).length)))));
  }
  const timer = setInterval(() => { if (!document.hidden) read(); }, EACH);
  read();
  return { leave: () => clearInterval(timer) };
}

function newest(device) {
  const times = device.series.map((s) => s.newest).filter(Boolean).sort();
  return times.length > 0 ? h("span", null, "newest ", moment(times.at(-1))) : "";
}

function remarks(device) {
  const { error, expected, "clock-ahead": ahead } = device.liveness ?? {};
  const words = Object.entries(device.labels ?? {}).map(([k, v]) => `${k}=${v}`);
  if (device.at) words.push(device.at.join(", "));
  if (expected) words.push(`expected every ${expected}`);
  if (Math.abs(ahead ?? 0) > 5e9) words.push(`its clock is ${(Math.abs(ahead) / 1e9).toFixed(0)} s ${ahead > 0 ? "ahead" : "behind"}`);
  return [error && h("span", { class: "bad" }, error, words.length > 0 && "; "), words.join("; ")];
}

function showRecording(place, recording) {
  fill(place, Object.entries(recording).map(([source, r]) => {
    const gaps = r.gaps ?? [];
    const box = panel(`Recording of ${source}`, r.trouble && h("p", { class: "callout" }, r.trouble), facts([
      ["Recorded", `${count(r.recorded)} readings since the broker began`], ["Not durable yet", count(r.waiting)],
      ["On disk", bytes(r.bytes)], ["Oldest", r.oldest && moment(r.oldest)], ["Removed", count(r.expired)], ["Lost", count(r.lost)],
      ["Gaps", gaps.length > 0 && h("ul", null, gaps.map((g) => h("li", null, moment(g.from), " to ", moment(g.to), `: ${g.reason}`)))]]));
    return box;
  }));
}
