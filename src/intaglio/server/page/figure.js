// A figure with its name and a bar.

import { el } from "./dom.js";

export class Figure {
  #value = el("dd", {}, "–");
  #fill = el("span");
  #bar = el("span", { className: "share", "aria-hidden": "true" }, this.#fill);

  constructor(name) {
    this.node = el("div", {}, el("dt", {}, name), this.#value, this.#bar);
  }

  /** The value in words, and how much of the bar is filled; without a share there is no bar. */
  show(text, share = null) {
    this.#value.textContent = text;
    this.#bar.hidden = share === null;
    this.#fill.style.width = `${Math.min(1, share) * 100}%`;
  }
}

/** Figures as a list. */
export function figures(all) {
  return el("dl", { className: "figures" }, ...all.map(({ node }) => node));
}
