// The settings form: what it holds is kept, and what is valid is sent.

import { $ } from "./dom.js";
import { load, save } from "./store.js";

export class Settings {
  #form;

  constructor(form) {
    this.#form = form;
    for (const [name, value] of Object.entries(load("settings", {}))) {
      if (form.elements[name]) form.elements[name].value = value;
    }
    form.oninput = () => this.#changed();
    form.onreset = () => {
      save("settings", {}); // before a reload
      setTimeout(() => this.#numbers.forEach(check));
    };
    form.onsubmit = (event) => event.preventDefault();
    this.#numbers.forEach(check);
  }

  /** What to ask of a model: after the system prompt the turns, and the fields that are not empty. */
  request(model, turns) {
    const system = this.#form.elements.system.value.trim();
    const messages = system ? [{ role: "system", content: system }, ...turns] : turns;
    const used = this.#numbers.filter((input) => input.value !== "" && input.validity.valid);
    const sampling = used.map(({ name, value }) => [name, Number(value)]);
    return { model, messages, ...Object.fromEntries(sampling) };
  }

  get #numbers() {
    return [...this.#form.querySelectorAll("input[type=number]")];
  }

  #changed() {
    this.#numbers.forEach(check);
    save("settings", Object.fromEntries(new FormData(this.#form)));
  }
}

// An invalid field says so in place of its hint, and is not used.
function check(input) {
  const hint = $("small", input.parentElement);
  hint.dataset.hint ??= hint.textContent;
  hint.textContent = input.validity.valid ? hint.dataset.hint : `Not used. ${input.validationMessage}`;
  input.ariaInvalid = !input.validity.valid;
}
