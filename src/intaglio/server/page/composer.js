// Where prompts are written: Enter sends, the button sends or stops.

import { $, notice } from "./dom.js";

export class Composer {
  #form;
  #busy = false;
  #models;
  #name;

  constructor(form, models, send, stop) {
    this.#form = form;
    this.#models = models;
    this.#name = this.button.textContent;
    this.area.oninput = () => this.#fit();
    this.area.onkeydown = (event) => this.#key(event, send);
    form.onsubmit = (event) => {
      event.preventDefault();
      if (this.#busy) stop();
      else this.#send(send);
    };
  }

  get area() {
    return $("textarea", this.#form);
  }

  get button() {
    return $(".main", this.#form);
  }

  set text(text) {
    this.area.value = text;
    this.#fit();
  }

  set busy(busy) {
    this.#busy = busy;
    this.button.textContent = busy ? "Stop" : this.#name;
    this.button.classList.toggle("stop", busy);
  }

  #key(event, send) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (!this.#busy) this.#send(send);
  }

  #send(send) {
    const text = this.area.value.trim();
    if (text && this.#models.list.length) send(text);
    else if (text) notice("There is no model to ask.");
    this.area.focus();
  }

  #fit() {
    this.area.style.height = "auto";
    this.area.style.height = `${this.area.scrollHeight}px`;
  }
}
