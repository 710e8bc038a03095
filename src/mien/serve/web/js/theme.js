// Runs before the first paint: light or dark as chosen here before, else as the device wants it.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => { try { return localStorage.getItem("mien.theme"); } catch { return null; } };
  const show = () => { document.documentElement.dataset.theme = chosen() ?? (dark.matches ? "dark" : "light"); };
  dark.addEventListener("change", show);
  show();
})();
