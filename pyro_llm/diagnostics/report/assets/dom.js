// Elements are made from names, attributes and text alone: no text is ever read as HTML.
const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  for (const child of [children].flat(2)) {
    if (child !== null && child !== undefined) node.append(child);  // a string becomes a text node
  }
  return node;
}

const make = (name, attributes, children) => fill(document.createElement(name), attributes, children);
const draw = (name, attributes, children) => fill(document.createElementNS(SVG, name), attributes, children);
const byId = (id) => document.getElementById(id);

const MINUS = "\u2212";
const signed = (text) => text.replace("-", MINUS);

function percent(share) {
  if (share <= 0) return "0\u00a0%";
  if (share < 0.001) return "<\u00a00.1\u00a0%";
  return `${(100 * share).toFixed(share < 0.0995 || (share > 0.995 && share < 0.9995) ? 1 : 0)}\u00a0%`;
}

function figure(value, digits = 2) {
  if (value === null || value === undefined) return "\u2013";
  if (value !== 0 && (Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3)) return signed(value.toExponential(1));
  return signed(value.toFixed(digits));
}

const counted = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

// The first characters of a text in one line, whole characters only.
function snippet(text, length) {
  const line = Array.from(text.replace(/\s+/g, " ").trim());
  return line.length <= length ? line.join("") : line.slice(0, Math.max(1, length - 1)).join("") + "\u2026";
}

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
