// The settings at the side: beside the view where there is room, over it where there is not.

import { $ } from "./dom.js";
import { load, save } from "./store.js";

export class Side {
  #side = $("#side");
  #button = $("#toggle-settings");
  #wide = matchMedia("(min-width: 60rem)");

  constructor() {
    this.#button.onclick = () => this.#toggle(this.#side.hidden);
    $("#close-settings").onclick = () => this.#toggle(false);
    this.#wide.onchange = () => this.#show(this.#wide.matches && load("side", true));
    this.#wide.onchange();
  }

  /** Closes what lies over the view; whether there was such. */
  escape() {
    const over = !this.#side.hidden && !this.#wide.matches;
    if (over) this.#toggle(false);
    return over;
  }

  #toggle(open) {
    this.#show(open);
    if (this.#wide.matches) save("side", open);
    if (open) $("textarea", this.#side).focus();
    else this.#button.focus();
  }

  #show(open) {
    this.#side.hidden = !open;
    this.#button.ariaExpanded = open;
    document.body.classList.toggle("beside", open && this.#wide.matches);
    for (const query of ["main", "header", "#gauges"]) $(query).inert = open && !this.#wide.matches;
  }
}
