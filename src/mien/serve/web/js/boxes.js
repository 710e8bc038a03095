// Faces over a picture: buttons that lie where the faces are, so that keys and screen readers reach them too.

import { el } from "./dom.js";
import { headline, paint, ranked } from "./bars.js";
import { colours } from "./palette.js";
import { number, t } from "./text.js";

const share = (value) => `${100 * value}%`;

function place(node, [left, top, right, bottom], width, height) {
  const x1 = Math.max(0, left), y1 = Math.max(0, top);
  node.style.setProperty("left", share(x1 / width));
  node.style.setProperty("top", share(y1 / height));
  node.style.setProperty("width", share((Math.min(width, right) - x1) / width));
  node.style.setProperty("height", share((Math.min(height, bottom) - y1) / height));
  node.classList.toggle("high", y1 / height < 0.09);
  node.classList.toggle("right", (left + right) / 2 > 0.6 * width);
}

export const called = (face) => {
  const [best] = ranked(face);
  return best && face.top ? `${headline(face)} ${number(best[1])}` : headline(face);
};

/** Buttons for the faces of a picture; `onSelect` hears the number of the one that was chosen. */
export function boxes(picture, labels, onSelect) {
  const paints = colours(labels);
  return picture.faces.map((face, i) => {
    const node = el("button", {
      type: "button", class: "face", "aria-pressed": "false",
      "aria-label": t("face.named", { n: i + 1, what: called(face) }), onclick: () => onSelect(i),
    }, el("span", { class: "tag", "aria-hidden": "true" }, picture.faces.length > 1 ? `${i + 1} ${headline(face)}` : headline(face)));
    place(node, face.box, picture.width, picture.height);
    return paint(node, face.undecided ? null : paints[face.top]);
  });
}

/** A small square picture of a face, cut from what is shown. */
export function thumbnail(image, picture, [x1, y1, x2, y2], side = 48) {
  const canvas = el("canvas", { width: side * 2, height: side * 2, "aria-hidden": "true", class: "thumb" });
  const sx = image.naturalWidth / picture.width, sy = image.naturalHeight / picture.height;
  const reach = 0.62 * Math.max(x2 - x1, y2 - y1);
  const x = (x1 + x2) / 2 - reach, y = (y1 + y2) / 2 - reach;
  canvas.getContext("2d").drawImage(image, x * sx, y * sy, 2 * reach * sx, 2 * reach * sy, 0, 0, side * 2, side * 2);
  return canvas;
}
