// The token of whoever asks: typed in once, kept as long as this tab is open and nowhere else.

import { forget, onToken, token } from "./api.js";
import { $, note } from "./dom.js";
import { t } from "./text.js";

function ask(refused) {
  const dialog = $("token-dialog");
  $("token-field").value = "";
  note($("token-wrong"), refused ? t("token.wrong") : null);
  dialog.showModal();
  return new Promise((done) => {
    const end = (value) => {
      $("token-form").onsubmit = $("token-cancel").onclick = dialog.onclose = null;
      if (dialog.open) dialog.close();
      done(value);
      $("foot-forget").hidden = !(value ?? token());
    };
    $("token-form").onsubmit = (e) => { e.preventDefault(); end($("token-field").value.trim() || null); };
    $("token-cancel").onclick = () => end(null);
    dialog.onclose = () => end(null);
  });
}

export function begin() {
  onToken(ask);
  $("foot-forget").hidden = !token();
  $("foot-forget").addEventListener("click", () => { forget(); location.reload(); });
}
