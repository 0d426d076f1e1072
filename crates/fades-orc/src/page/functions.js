// The functions that can be asked for, with what they are known by.

import { h, panel, table } from "./dom.js";
import { ago, moment, size } from "./format.js";
import { watchTasks } from "./live.js";
import { get } from "./net.js";

export function enter(main) {
  const list = table("Functions", [
    { title: "Name", head: true, of: (f) => f.name },
    { title: "Digest", of: (f) => h("code", { title: f.digest }, f.digest.slice(0, 23)) },
    { title: "Size", num: true, of: (f) => size(f.size) },
    { title: "Signed by", of: (f) => f.signer },
    { title: "Published", of: (f) => moment(f.published) },
    { title: "Last use", of: (f) => (f["last-use"] ? ago(f["last-use"]) : h("span", { class: "soft" }, "never")) },
    { title: "Symbols", of: (f) => (f.symbols ? "yes" : "no") },
  ], (f) => f.digest);
  main.append(h("h1", null, "Functions"), panel("Functions that can be asked for", list.element));
  async function read() {
    try {
      list.show((await get("/v1/functions")).functions, "No function was published yet: `fades publish FILE` does.");
    } catch (error) {
      list.show([], error.message);
    }
  }
  const leave = watchTasks((t) => { if (t === null) read(); });
  const timer = setInterval(() => { if (!document.hidden) read(); }, 60_000);
  read();
  return { leave() { leave(); clearInterval(timer); } };
}
