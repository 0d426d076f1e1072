// Numbers, times and names for people.

import { h } from "./dom.js";

/** How far the node's clock is ahead of the browser's, ms. */
let ahead = 0;

/** Takes the node's clock out of the head of an answer, to the second. */
export function noteDate(text) {
  const there = Date.parse(text ?? "");
  if (Number.isNaN(there)) return;
  const difference = there - Date.now();
  ahead = Math.abs(difference) > 2000 ? difference : 0;
}

/** The node's time, ms. */
export const now = () => Date.now() + ahead;

/** A time of the node as ms; NaN when there is none. */
export const millis = (time) => (time ? Date.parse(time) : NaN);

const two = (n) => String(n).padStart(2, "0");

export function clock(ms) {
  const d = new Date(ms);
  return `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
}

function day(ms) {
  const d = new Date(ms);
  return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}`;
}

/** A time: of today without its day. The title has all of it. */
export function moment(time) {
  const ms = millis(time);
  if (Number.isNaN(ms)) return "";
  const text = day(ms) === day(now()) ? clock(ms) : `${day(ms)} ${clock(ms).slice(0, 5)}`;
  return h("time", { datetime: time, title: time }, text);
}

/** How long ago, kept up to date while it is on the page. */
export function ago(time, suffix = " ago") {
  if (Number.isNaN(millis(time))) return "never";
  const element = h("time", { datetime: time, title: time, "data-since": time, "data-suffix": suffix });
  element.textContent = since(time) + suffix;
  return element;
}

/** How long something has lasted, kept up to date. */
export const lasting = (time) => ago(time, "");

function since(time) {
  return coarse(Math.max(0, now() - millis(time)));
}

/** Brings what `ago` made up to date. */
export function tick(root) {
  for (const element of root.querySelectorAll("time[data-since]")) {
    const text = since(element.dataset.since) + element.dataset.suffix;
    if (element.textContent !== text) element.textContent = text;
  }
}

/** A length of time in its largest two units, ms. */
export function coarse(ms) {
  const seconds = Math.floor(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

/** A measured length of time, three digits, µs. */
export function micros(us) {
  if (us < 1000) return `${us} µs`;
  if (us < 1e6) return `${digits(us / 1e3)} ms`;
  if (us < 6e7) return `${digits(us / 1e6)} s`;
  return coarse(us / 1e3);
}

const digits = (x) => (x >= 99.95 ? x.toFixed(0) : x >= 9.995 ? x.toFixed(1) : x.toFixed(2));

export function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (n >= 1024 && at < units.length - 1) { n /= 1024; at += 1; }
  return `${at === 0 ? n : digits(n)} ${units[at]}`;
}

const grouped = new Intl.NumberFormat("en-GB");
export const count = (n) => grouped.format(n ?? 0);

/** A value of an answer. */
export function number(x) {
  if (Number.isInteger(x)) return Math.abs(x) < 1e15 ? count(x) : String(x);
  const size = Math.abs(x);
  return size !== 0 && (size < 1e-4 || size >= 1e9) ? x.toExponential(4) : String(Number(x.toPrecision(7)));
}

/** Enough of an id; those that people chose stay whole, and so does the time
    that a run has after that of its task. */
export const short = (id) => (/^[0-9a-f]{32}(\.|$)/.test(id) ? id.slice(0, 8) + id.slice(32) : id);

/** A function as `name@sha256:12345678`. */
export function ofFunction(image) {
  const [name, digest] = image.split("@");
  return h("span", { class: "nowrap", title: image }, name, digest && h("span", { class: "soft mono" }, ` ${digest.replace("sha256:", "").slice(0, 8)}`));
}

export function median(values) {
  return quantile(values, 0.5);
}

export function quantile(values, q) {
  if (values.length === 0) return NaN;
  const sorted = [...values].sort((a, b) => a - b);
  const at = q * (sorted.length - 1);
  const low = Math.floor(at);
  return sorted[low] + (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low]) * (at - low);
}

/** A length of time as the API writes it, such as `1h30m`, ms. */
export function inMillis(text) {
  const units = { d: 864e5, h: 36e5, m: 6e4, s: 1e3, ms: 1, us: 1e-3, ns: 1e-6 };
  let sum = 0;
  for (const [, n, unit] of String(text).matchAll(/(\d+)(ms|us|ns|d|h|m|s)/g)) sum += Number(n) * units[unit];
  return sum;
}

/** A size as the API writes it, such as `16MiB`, for people. */
export function size(text) {
  const [, n, unit] = /^(\d+)(B|KiB|MiB|GiB|KB|MB|GB)$/.exec(String(text)) ?? [];
  const factor = { B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, KB: 1e3, MB: 1e6, GB: 1e9 }[unit];
  return factor ? bytes(Number(n) * factor) : String(text);
}
