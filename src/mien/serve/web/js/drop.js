// Files that are dropped or pasted anywhere on the page go where they belong: pictures to pictures, films to film.

import { $, note } from "./dom.js";
import { t } from "./text.js";

const FILM_NAMES = /\.(mp4|m4v|mov|mkv|webm|avi|mpe?g|m?ts|mts|wmv|flv|ogv|3gp)$/i;
const isFilm = (file) => file.type.startsWith("video/") || (!file.type && FILM_NAMES.test(file.name));

export function begin({ pictures, film }) {
  const give = (files) => {
    const films = files.filter(isFilm), stills = files.filter((file) => !isFilm(file));
    if (stills.length) {
      location.hash = "#pictures";
      pictures(stills);
    }
    if (films.length) {
      location.hash = "#film";
      film(films[0]);
      if (films.length > 1) note($("film-error"), t("film.one"));
    }
  };
  let depth = 0;
  const mark = (on) => document.body.classList.toggle("dropping", on);
  const hasFiles = (e) => [...(e.dataTransfer?.types ?? [])].includes("Files");
  addEventListener("dragenter", (e) => { if (hasFiles(e)) { depth += 1; mark(true); } });
  addEventListener("dragleave", (e) => { if (hasFiles(e)) { depth = Math.max(0, depth - 1); mark(depth > 0); } });
  addEventListener("dragover", (e) => { if (hasFiles(e)) e.preventDefault(); });
  addEventListener("drop", (e) => {
    if (!hasFiles(e)) return;
    e.preventDefault();
    depth = 0;
    mark(false);
    give([...e.dataTransfer.files]);
  });
  addEventListener("paste", (e) => {
    if (e.target.closest?.("input, textarea") || document.querySelector("dialog[open]")) return;
    const files = [...(e.clipboardData?.files ?? [])];
    if (!files.length) return;
    e.preventDefault();
    give(files);
  });
}
