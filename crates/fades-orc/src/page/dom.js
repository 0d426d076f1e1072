// Elements. Whatever comes from tasks and devices gets onto the page here, as
// text: nothing in these files makes markup out of a string.

/** An element with properties and children; strings and numbers become text. */
export function h(tag, props, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [k, v] of Object.entries(value)) element.style.setProperty(k, v);
    else element.setAttribute(name, value === true ? "" : value);
  }
  add(element, children);
  return element;
}

function add(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

const SVG = "http://www.w3.org/2000/svg";

/** As `h`, of SVG. */
export function s(tag, props, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(props ?? {})) element.setAttribute(name, value);
  add(element, children);
  return element;
}

/** Puts children in the place of those that are there. */
export function fill(element, ...children) {
  element.replaceChildren();
  add(element, children);
  return element;
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Has `parent` show `items`, one element each, made by `make(item)`. Elements
 * of items that did not change stay as they are, with focus and selection.
 */
export function keyed(parent, items, key, make) {
  const before = parent.keyedRows ?? new Map();
  const after = new Map();
  const focused = parent.contains(document.activeElement) ? keyOf(parent, document.activeElement) : null;
  let place = parent.firstElementChild;
  for (const item of items) {
    const id = key(item);
    const sign = JSON.stringify(item);
    const known = before.get(id);
    const element = known?.sign === sign ? known.element : make(item);
    after.set(id, { sign, element });
    if (known && known.element !== element) {
      if (place === known.element) place = place.nextElementSibling;
      known.element.replaceWith(element);
    }
    if (element === place) place = place.nextElementSibling;
    else parent.insertBefore(element, place);
  }
  for (const [id, { element }] of before) if (after.get(id)?.element !== element) element.remove();
  parent.keyedRows = after;
  if (focused !== null && !parent.contains(document.activeElement)) {
    after.get(focused)?.element.querySelector("a, button")?.focus({ preventScroll: true });
  }
}

function keyOf(parent, active) {
  for (const [id, { element }] of parent.keyedRows ?? []) if (element.contains(active)) return id;
  return null;
}

/** A table whose columns are `{ title, num?, of(item), head? }`. */
export function table(caption, columns, key) {
  const body = h("tbody");
  const element = h("table", { class: "rows" },
    h("caption", { class: "unseen" }, caption),
    h("thead", null, h("tr", null, columns.map((c) => h("th", { scope: "col", class: c.num && "num" }, c.title)))),
    body);
  const row = (item) => h("tr", null, columns.map((c) => c.head
    ? h("th", { scope: "row" }, c.of(item))
    : h("td", { class: c.num && "num", "data-label": c.title }, c.of(item))));
  const none = h("p", { class: "empty" });
  const box = h("div", { class: "scroll" }, element, none);
  return {
    element: box,
    show(items, empty) {
      keyed(body, items, key, row);
      element.hidden = items.length === 0;
      none.hidden = items.length > 0;
      setText(none, empty ?? "");
    },
  };
}

/** A part of a view with a heading of its own. */
export function panel(title, ...children) {
  return h("section", { class: "panel" }, h("div", { class: "head" }, h("h2", null, title)), children);
}

/** A list of facts: `[term, value]`; those without a value are left out. */
export function facts(pairs) {
  const shown = pairs.filter(([, value]) => value !== undefined && value !== null && value !== "" && value !== false);
  return h("dl", { class: "facts" }, shown.map(([term, value]) => [h("dt", null, term), h("dd", null, value)]));
}

export function state(word, text) {
  return h("span", { class: "state", "data-state": word }, text ?? word);
}
