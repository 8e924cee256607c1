// The models that the server serves, and selects to pick one of them.

import { get } from "./api.js";
import { $, el, notice } from "./dom.js";
import { bytes, count, number } from "./format.js";
import { load, save } from "./store.js";

export class Models {
  list = [];
  #changed = [];

  /** `changed` is called whenever the list has been loaded. */
  watch(changed) {
    this.#changed.push(changed);
  }

  async load() {
    try {
      const { data } = await get("v1/models");
      this.list = data ?? [];
      notice("");
      for (const changed of this.#changed) changed();
    } catch (error) {
      notice(error.message, "Try again", () => this.load());
    }
  }

  find(id) {
    return this.list.find((model) => model.id === id);
  }
}

/** A select of models; the choice is kept under `key`, until then it is number `index` of the list. */
export function picker(select, models, key, index, changed) {
  models.watch(() => {
    const wanted = load(key, "");
    select.replaceChildren(...models.list.map(({ id }) => el("option", { value: id }, id)));
    select.value = (models.find(wanted) ?? models.list[index] ?? models.list[0])?.id ?? "";
    changed();
  });
  select.onchange = () => {
    save(key, select.value);
    changed();
  };
  return select;
}

/** What there is to say of a model before anything is asked. */
export function introduce(model) {
  const meta = model?.meta ?? {};
  const parts = [
    meta.bytes && bytes(meta.bytes),
    meta.bits_per_weight && `${number(meta.bits_per_weight)} bits per weight`,
    meta.kv_bits && `KV cache of ${meta.kv_bits} bits`,
    model?.max_model_len && `context of ${count(model.max_model_len, "token")}`,
  ];
  $("#empty h2").textContent = model?.id ?? "";
  $("#empty p").textContent = parts.filter(Boolean).join(" · ");
}
