// Requests to the node, and nothing but to the node: JSON, bytes, and events
// that are read as they come.

import { noteDate } from "./format.js";

/** No byte for so long, not even a comment (one comes each 15 s): it is gone. */
const SILENCE = 40_000;

/** An answer is there within this time. */
const PATIENCE = 30_000;

/** What the node, or the way to it, said no with. */
export class Refused extends Error {
  constructor(status, type, detail) {
    super(detail);
    this.status = status;
    this.type = type;
  }
}

async function refusal(answer) {
  try {
    const problem = await answer.json();
    return new Refused(answer.status, problem.type, problem.detail);
  } catch {
    return new Refused(answer.status, "", `the answer was ${answer.status}`);
  }
}

async function ask(path, headers, signal) {
  const answer = await fetch(path, { headers, signal, cache: "no-store", redirect: "error" });
  noteDate(answer.headers.get("date"));
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

export async function get(path) {
  return (await ask(path, { accept: "application/json" }, AbortSignal.timeout(PATIENCE))).json();
}

export async function getBytes(path) {
  return (await ask(path, {}, AbortSignal.timeout(PATIENCE))).arrayBuffer();
}

/**
 * Reads server-sent events until the stream ends or fails; `last` is the id of
 * what was seen before, if anything was. Calls `opened()`, then `told(name,
 * data, id)` for each.
 */
export async function follow(path, { last, signal, opened, told }) {
  const quiet = new AbortController();
  const give = () => quiet.abort(new Error("the node has said nothing for a while"));
  let timer = setTimeout(give, SILENCE);
  const headers = { accept: "text/event-stream", ...(last ? { "last-event-id": last } : {}) };
  try {
    const answer = await ask(path, headers, AbortSignal.any([signal, quiet.signal]));
    opened?.();
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    const parser = new Parser(told);
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(give, SILENCE);
      parser.take(value);
    }
  } finally {
    clearTimeout(timer);
    quiet.abort();
  }
}

/** Puts events together, of what a node sends: fields of one line each. */
export class Parser {
  constructor(told) {
    this.told = told;
    this.rest = "";
    this.event = {};
  }

  take(text) {
    const lines = (this.rest + text).split("\n");
    this.rest = lines.pop();
    lines.forEach((line) => this.line(line));
  }

  line(line) {
    if (line === "") {
      const { event, data, id } = this.event;
      this.event = {};
      if (data !== undefined) this.told(event ?? "message", JSON.parse(data), id);
      return;
    }
    const at = line.indexOf(":");
    if (at > 0) this.event[line.slice(0, at)] = line.slice(at + 1).replace(/^ /, "");
  }
}
