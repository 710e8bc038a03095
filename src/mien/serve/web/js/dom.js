// Making nodes; never from text that is read as HTML.

export const $ = (id) => document.getElementById(id);

export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** Say something to those who hear the page; what is said later takes the place of what was said before. */
export function say(text) {
  const place = $("say");
  place.textContent = "";
  requestAnimationFrame(() => { place.textContent = text; });
}

/** Show one line in a note, or hide the note when there is nothing to say. */
export function note(node, text) {
  node.textContent = text ?? "";
  node.hidden = !text;
}

export function save(data, name, type) {
  const blob = data instanceof Blob ? data : new Blob([data], { type });
  const url = URL.createObjectURL(blob);
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

export const stem = (name) => name.replace(/\.[^.]*$/, "") || "mien";
export const reduced = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
