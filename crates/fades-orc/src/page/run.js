// One task: what was asked, what became of it, and which data stood behind it.

import { decode } from "./batch.js";
import { answer, readings } from "./answer.js";
import { coverage } from "./coverage.js";
import { facts, fill, h, panel, state } from "./dom.js";
import { bytes, count, lasting, micros, moment, ofFunction, size } from "./format.js";
import { runsOf } from "./history.js";
import { isFinal, watchTasks } from "./live.js";
import { follow, get, getBytes } from "./net.js";
import { chart, ofRun, took } from "./phases.js";
import { schedule } from "./standing.js";

const LEVELS = { 1: "error", 2: "warn", 3: "info", 4: "debug" };

export function enter(main, id) {
  const title = h("h1", null, id);
  const body = h("div", { class: "panels" });
  main.append(title, body);
  const path = `/v1/tasks/${encodeURIComponent(id)}`;
  let detail = null;
  let gone = false;
  let log = null;
  let asked = 0;

  async function read() {
    const mine = ++asked;
    try {
      const [shown, result] = await Promise.all([get(path), get(`${path}/result`)]);
      if (mine !== asked || gone) return;
      detail = shown;
      show(shown, result);
    } catch (error) {
      if (mine === asked && !gone && !detail) fill(body, h("p", { class: "empty" }, error.message));
    }
  }

  function show({ summary, task }, result) {
    fill(title, summary.name, " ", state(summary.state));
    document.title = `${summary.name} · ${document.title.split(" · ").at(-1)}`;
    const panels = [panel("Task", about(summary, result))];
    if (summary.failure) panels[0].append(h("h3", null, "Why there is no answer"), h("p", { class: "callout" }, summary.failure));
    if (summary.state === "standing") panels.push(...standing(id, task));
    if (result.breakdown && result.started && isFinal(summary.state)) panels.push(panel("Where the time went", ofRun(result.breakdown)));
    if (result.answer !== undefined) panels.push(wide(panel("Answer", answer(result.answer))));
    if (result["readings-bytes"] > 0) panels.push(wide(readingsPanel()));
    if (result.coverage.length > 0) panels.push(wide(panel("Which data stood behind it", coverage(result.coverage))));
    if (summary.state !== "standing" && summary.state !== "queued") {
      const lines = h("ol", { class: "log", tabindex: "0", "aria-label": "Lines that the function logged" });
      panels.push(wide(panel("Log", lines)));
      readLog(lines, isFinal(summary.state), result["log-cut"]);
    }
    panels.push(wide(panel("What was signed", h("details", null, h("summary", null, "the task as it was signed"), h("pre", null, JSON.stringify(task, null, 2))))));
    fill(body, panels);
  }

  function readingsPanel() {
    const box = panel("Readings of the answer", h("p", { class: "empty" }, "…"));
    getBytes(`${path}/readings`).then((bytes) => {
      box.lastChild.replaceWith(readings(decode(bytes)));
    }).catch((error) => fill(box.lastChild, error.message));
    return box;
  }

  async function readLog(lines, ended, cut) {
    log?.abort();
    log = new AbortController();
    const line = ({ level, text }) => h("li", null, h("b", { class: level === 1 ? "bad" : level === 2 ? "odd" : null }, LEVELS[level] ?? level), text);
    try {
      if (ended) {
        const logs = await get(`${path}/logs`);
        fill(lines, logs.lines.map(line));
        if (logs.lines.length === 0) fill(lines, h("li", { class: "soft" }, "It logged nothing."));
        if (cut > 0) lines.append(h("li", { class: "odd" }, `${bytes(cut)} more were cut at the task's limit`));
        return;
      }
      await follow(`${path}/logs?follow=true`, {
        signal: log.signal,
        told(name, data) {
          if (name === "line") lines.append(line(data));
          if (name === "again") lines.replaceChildren();
          while (lines.children.length > 2000) lines.firstChild.remove();
        },
      });
    } catch (error) {
      if (error.name !== "AbortError" && !gone) lines.append(h("li", { class: "soft" }, error.message));
    }
  }

  const leave = watchTasks((task) => { if (task === null || task.id === id) read(); });
  read();
  return { leave() { gone = true; log?.abort(); leave(); } };
}

function wide(element) {
  element.classList.add("wide");
  return element;
}

function about(t, result) {
  return facts([
    ["Id", h("code", null, t.id)],
    ["Service", t.service],
    ["Function", ofFunction(t.function)],
    ["Signed by", t.signer],
    ["Accepted", moment(t.accepted)],
    [t.state === "standing" ? "Done until" : "Due", t.due && moment(t.due)],
    ["Started", t.started && moment(t.started)],
    ["Ended", t.finished && moment(t.finished)],
    ["Runs for", t.state === "running" && lasting(t.started)],
    ["Took", took(t)],
    ["Attempts", t.attempts > 1 ? count(t.attempts) : null],
    ["Isolated as", result.isolation],
    ["Memory", result.memory && `${size(result.memory["high-water"])} touched of ${size(result.memory.limit)}`],
    ["Processor", result["cpu-us"] > 0 ? micros(result["cpu-us"]) : null],
    ["Input", result["input-bytes"] > 0 ? bytes(result["input-bytes"]) : null],
    ["Answer", result["answer-bytes"] > 0 ? bytes(result["answer-bytes"]) : null],
    ["Times left out", t.skipped > 0 ? count(t.skipped) : null],
  ]);
}

function standing(id, task) {
  const runs = runsOf(id);
  const phases = chart(20);
  runs.read().then((tasks) => phases.show(tasks));
  return [panel("Schedule", h("p", null, schedule(task)), phases.element), wide(panel("Its runs", runs.element))];
}
