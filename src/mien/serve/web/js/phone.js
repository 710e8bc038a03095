// The address of the page as a QR code.

import { call, friendly } from "./api.js";
import { $, note } from "./dom.js";
import { t } from "./text.js";

let url = null;

async function open() {
  const shown = $("phone-address");
  shown.href = shown.textContent = location.origin + location.pathname;
  const near = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
  note($("phone-local"), near ? t("phone.local") : null);
  $("phone-dialog").showModal();
  try {
    if (url) URL.revokeObjectURL(url);
    url = URL.createObjectURL(await (await call("qr.svg")).blob());
    $("phone-qr").src = url;
    $("phone-qr").alt = t("phone.code", { address: shown.href });
    $("phone-qr").parentElement.hidden = false;
  } catch (error) {
    $("phone-qr").parentElement.hidden = true;
    note($("phone-local"), friendly(error));
  }
}

export function begin() { $("phone").addEventListener("click", open); }
