// One colour for each expression, as the pictures that the service draws have it; a test holds the two together.

export const COLOURS = {
  angry: "#a52400", disgust: "#00704c", fear: "#6c2d52", happy: "#f5e13c",
  sad: "#0a0af8", surprise: "#e88224", neutral: "#3ac2ff", contempt: "#ff68be",
};
export const GREY = "#848484";

/** A colour for each label; given are those that the service names. */
export function colours(labels, given = null) {
  if (given) return Object.fromEntries(labels.map((name, i) => [name, given[i]]));
  const free = Object.entries(COLOURS).filter(([name]) => !labels.includes(name)).map(([, colour]) => colour);
  const spare = free.length ? free : Object.values(COLOURS);
  let used = 0;
  return Object.fromEntries(labels.map((name) => [name, COLOURS[name] ?? spare[used++ % spare.length]]));
}

function luminance(colour) {
  const parts = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16) / 255);
  const [r, g, b] = parts.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** Black or white, whichever is read better on a colour. */
export const ink = (colour) => (luminance(colour) > 0.179 ? "#000000" : "#ffffff");
