// One side of the comparison: a model, what it is, how fast it answers, and its answer.

import { NOTHING } from "./answer.js";
import { el } from "./dom.js";
import { Figure, figures } from "./figure.js";
import { bytes, number, seconds, whole } from "./format.js";
import { render } from "./markdown.js";
import { Reply } from "./reply.js";

// Of each figure: its name, how it is written, and where it comes from.
const FIGURES = {
  size: ["Size", bytes, (pane) => pane.model?.meta?.bytes],
  bits: ["Bits/weight", number, (pane) => pane.model?.meta?.bits_per_weight],
  first: ["First token", seconds, (pane) => pane.reply.record.figures.first],
  rate: ["Tokens/s", number, (pane) => pane.reply.record.figures.rate],
  tokens: ["Tokens", whole, (pane) => pane.reply.record.figures.tokens || null],
};
export const NAMES = Object.keys(FIGURES);

export class Pane {
  model = null;
  select = el("select");
  #figures = Object.fromEntries(NAMES.map((name) => [name, new Figure(FIGURES[name][0])]));

  constructor(label) {
    const pick = el("label", { className: "pick" }, el("span", {}, label), " ", this.select);
    const all = figures(Object.values(this.#figures));
    this.node = el("section", { className: "pane", "aria-label": label }, pick, all);
    this.reply = new Reply(this.node, { ...NOTHING });
    this.reply.figures.remove(); // they are above
  }

  /** A number, or null as long as there is none. */
  figure(name) {
    return FIGURES[name][2](this) ?? null;
  }

  /** Writes a figure; its bar is its share of `most`. */
  write(name, most) {
    const value = this.figure(name);
    this.#figures[name].show(value === null ? "–" : FIGURES[name][1](value), value / most || 0);
  }

  /** Forgets the answer. */
  clear(note = "") {
    Object.assign(this.reply.record, NOTHING, { note });
    this.reply.show();
  }

  /** The answer without marks. */
  plain() {
    render(this.reply.text, "");
    this.reply.show();
  }
}
