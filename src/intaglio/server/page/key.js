// The API key: asked for when the server wants one, kept for this tab only.

import { $ } from "./dom.js";
import { load, save } from "./store.js";

const TAB = "sessionStorage";
let kept = load("key", "", TAB);
let asking = null;

/** Of a request: with the key, if there is one. */
export function authorization() {
  return kept ? { Authorization: `Bearer ${kept}` } : {};
}

/** Asks for a key; whether one was given. Those who ask at the same time share the answer. */
export function askForKey(reason = kept ? "The server did not accept the key." : "This server asks for an API key.") {
  asking ??= open(reason).finally(() => (asking = null));
  return asking;
}

function open(reason) {
  const dialog = $("#key");
  const input = $("input", dialog);
  $("#key-reason").textContent = reason;
  input.value = dialog.returnValue = "";
  dialog.showModal();
  $("button[type=button]", dialog).onclick = () => dialog.close();
  return new Promise((resolve) => (dialog.onclose = () => resolve(take(dialog.returnValue, input.value.trim()))));
}

function take(given, key) {
  if (!given) return false;
  kept = key;
  save("key", key, TAB);
  return true;
}
