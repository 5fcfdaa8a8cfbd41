// Elements. What peers wrote is never more than text here: nothing in this page parses HTML.

/** Make an element. Of `props`, functions become listeners, false leaves out, true is an empty attribute. */
export function el(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** Make an element of SVG. */
export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), props, children);
}

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else set(node, name, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Set an attribute where it differs. */
export function set(node, name, value) {
  if (value === false || value === null || value === undefined) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else {
    const text = value === true ? "" : String(value);
    if (node.getAttribute(name) !== text) node.setAttribute(name, text);
  }
}

/** Set a text where it differs, so that what has not changed is not drawn again. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export const at = (id) => document.getElementById(id);

const DRAW_MS = 200; // between two drawings of what the hub told: quicker than anybody reads a list
let due = new Set();
let drawn = 0;

/** Run `draw` with the next frame, once, however often it is asked for. */
export function soon(draw) {
  if (!due.size) setTimeout(() => requestAnimationFrame(drawAll), Math.max(0, drawn + DRAW_MS - performance.now()));
  due.add(draw);
}

function drawAll() {
  const draws = due;
  due = new Set();
  drawn = performance.now();
  for (const draw of draws) draw();
}
