// How the node is: what works, what could be better, what is missing. As
// `fades doctor` says it, of what the node knows of itself.

import { facts, fill, h, panel, state, table } from "./dom.js";
import { ago, coarse, count, inMillis, moment, size } from "./format.js";
import { model } from "./live.js";
import { get } from "./net.js";

/** Findings `{ what, grade, detail }`; grades as `fades doctor` has them. */
export function findings({ node, health }) {
  if (!node) return [];
  const all = [];
  const say = (what, grade, detail) => all.push({ what, grade, detail });
  const works = node.isolation.some((i) => i.works);
  for (const i of node.isolation) say(i.isolation, i.works ? "good" : works ? "better" : "missing", i.detail);
  const { broker, shells, cgroup, courier } = node;
  const up = health?.broker ?? broker.up;
  if (!up) say("broker", "missing", `not there: ${health?.["broker-end"] ?? broker["last-end"] ?? "it is being started"}`);
  else if (broker.restarts > 0) say("broker", "better", `started again ${broker.restarts} times, last: ${broker["last-end"] ?? "no reason known"}`);
  else say("broker", "good", `up; batches ${broker.batches || "as they are"}${broker.huge ? ", huge pages" : ""}`);
  if (broker.advice) say("batches", "better", broker.advice);
  const error = health ? health["store-error"] : node["store-error"];
  say("store", error ? "missing" : "good", error ?? "can be written");
  const shortage = health ? health.shortage : shells.shortage;
  say("tenders", shortage ? "better" : "good", shortage
    ? `${shells.waiting} runs wait: ${shortage}`
    : `${shells.idle} ready, ${shells.busy} work, ${shells.making} are made; ${shells.templates} templates, ${size(shells["template-bytes"])}`);
  if (cgroup.detail) say("control groups", cgroup.memory && cgroup.pids ? "good" : "better", cgroup.detail);
  if (courier) couriers(courier, say);
  if (node["development-keys"].length > 0) say("keys", "better", `development keys are trusted: ${node["development-keys"].join(", ")}`);
  for (const key of node["ending-keys"]) say("keys", "better", `key ${key.name} ${Date.parse(key["not-after"]) < Date.now() ? "ended" : "ends"} on ${key["not-after"].slice(0, 10)}: trust another in its place`);
  const { trust } = node;
  if (trust.restored) say("trust", "better", `restored from a backup of ${trust.restored.slice(0, 10)}: hand in the newest table and revocations`);
  else if (trust.version + trust.counter > 0) say("trust", "good", `table of keys ${trust.version}, ${count(trust.revoked)} keys revoked (list ${trust.counter})`);
  return all;
}

function couriers(courier, say) {
  if (!courier.up) say("courier", "missing", `not there: ${courier["last-end"] ?? "it has not started"}`);
  for (const i of courier.inboxes) say(`inbox ${i.name}`, i.error ? "better" : "good", i.error ?? "answers");
  for (const r of courier.receivers) {
    const bad = r.error || r.lost > 0;
    say(`${r.kind} ${r.name}`, bad ? "better" : "good", `${count(r.waiting)} wait, ${count(r.lost)} lost${r.error ? `; ${r.error}` : ""}`);
  }
}

const GRADES = { missing: 0, better: 1, good: 2 };

export function enter(main) {
  const list = table("Findings", [
    { title: "What", head: true, of: (f) => f.what },
    { title: "State", of: (f) => state(f.grade, { missing: "trouble", better: "could be better", good: "good" }[f.grade]) },
    { title: "Detail", of: (f) => f.detail },
  ], (f) => `${f.what} ${f.detail}`);
  const about = h("div");
  const outbox = table("Inboxes and receivers", [
    { title: "Where", head: true, of: (r) => `${r.kind} ${r.name}` },
    { title: "Waiting", num: true, of: (r) => r.waiting === undefined ? "" : count(r.waiting) },
    { title: "Size", num: true, of: (r) => (r.bytes ? size(r.bytes) : "") },
    { title: "Oldest", of: (r) => (r.oldest ? ago(r.oldest) : "") },
    { title: "Delivered", num: true, of: (r) => r.delivered === undefined ? "" : count(r.delivered) },
    { title: "Lost", num: true, of: (r) => (r.lost > 0 ? h("span", { class: "bad" }, count(r.lost)) : r.lost === undefined ? "" : "0") },
    { title: "Asked", of: (r) => (r.asked ? ago(r.asked) : "") },
    { title: "Remarks", of: (r) => [r.error && h("span", { class: "bad" }, r.error), r.next && h("span", null, "; next attempt ", moment(r.next)), r["lost-reason"] && `; last lost: ${r["lost-reason"]}`] },
  ], (r) => `${r.kind} ${r.name}`);
  const mail = panel("Inboxes and outbox", outbox.element);
  const services = table("What services use", [
    { title: "Service", head: true, of: (s) => s.service },
    { title: "Runs", num: true, of: (s) => `${count(s.runs)}${s.allowance.runs ? ` of ${s.allowance.runs}` : ""}` },
    { title: "Waiting", num: true, of: (s) => count(s.waiting) },
    { title: "Rate", of: (s) => s.allowance.rate ?? "" },
    { title: "Processor today", num: true, of: (s) => `${coarse(inMillis(s.cpu))}${s.allowance.cpu ? ` of ${s.allowance.cpu}` : ""}` },
    { title: "Answers today", num: true, of: (s) => `${size(s.bytes)}${s.allowance.bytes ? ` of ${size(s.allowance.bytes)}` : ""}` },
    { title: "State", of: (s) => (s.spent ? h("span", { class: "odd" }, "day used up") : "") },
  ], (s) => s.service);
  const policy = h("p", { class: "soft" });
  const queue = panel("Queue", policy, services.element);
  queue.hidden = true;
  main.append(h("h1", null, "Node"), h("div", { class: "panels" },
    h("div", { class: "stack" }, panel("How it is", list.element), mail), h("div", { class: "stack" }, panel("The node", about), queue)));

  async function readQueue() {
    try {
      const answer = await get("/v1/scheduling");
      queue.hidden = false;
      fill(policy, `Policy ${answer.order.policy}; the day ends `, moment(answer["day-ends"]), ".");
      services.show(answer.services, "No service has used anything.");
    } catch (error) {
      // Who may not read it does not see it.
      queue.hidden = error.status === 403 || queue.hidden;
    }
  }
  const timer = setInterval(() => { if (!document.hidden) readQueue(); }, 15_000);
  readQueue();
  return {
    leave: () => clearInterval(timer),
    update() {
      const { node } = model;
      if (!node) return;
      list.show(findings(model).sort((a, b) => GRADES[a.grade] - GRADES[b.grade]), "");
      const rows = [...(node.courier?.inboxes ?? []).map((i) => ({ kind: "inbox", ...i })), ...(node.courier?.receivers ?? []).map((r) => ({ ...r, kind: r.kind === "inbox" ? "answers to inbox" : r.kind }))];
      mail.hidden = !node.courier;
      outbox.show(rows, "Nothing was fetched or delivered yet.");
      fill(about, facts([
        ["Name", node.name], ["Labels", node.labels.join(", ")], ["Version", node.version], ["Process", node.pid],
        ["Up", coarse(inMillis(node.uptime))], ["Started", moment(node.started)],
        ["Tasks at once", `${node.tenders.length} of ${node.parallel}`], ["Memory for functions", size(node.memory)],
        ["Most that a task may ask", caps(node.caps)],
        ["Broker's confinement", layers(node.broker.confinement)],
        ["Courier's confinement", node.courier && layers(node.courier.confinement)]]));
    },
  };
}

const caps = (limits) => Object.entries(limits).map(([k, v]) => `${k} ${v}`).join(", ");

/** Layers of confinement that hold, and those that do not. */
function layers(confinement) {
  return Object.entries(confinement ?? {}).map(([name, layer]) => {
    const [word, detail] = typeof layer === "object" && layer !== null ? Object.entries(layer)[0] ?? ["", ""] : [String(layer), ""];
    return `${name} ${word}${typeof detail === "string" && detail ? ` (${detail})` : ""}`;
  }).join("; ");
}
