// What the browser keeps: its storage may be full, forbidden or written by another version of the page.

const LOCAL = "localStorage";
const name = (key) => `intaglio.${key}`;

/** The kept value, or `otherwise` where there is none that can be read. */
export function load(key, otherwise, storage = LOCAL) {
  try {
    return JSON.parse(window[storage].getItem(name(key))) ?? otherwise;
  } catch {
    return otherwise;
  }
}

/** Whether it could be kept. */
export function save(key, value, storage = LOCAL) {
  try {
    window[storage].setItem(name(key), JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

/** Calls `changed` when another tab has written the key. */
export function watch(key, changed) {
  addEventListener("storage", (event) => event.key === name(key) && changed());
}
