// An answer on the page: its text, what went wrong, and its figures.

import { described, receive, state } from "./answer.js";
import { el, onFrame } from "./dom.js";
import { render } from "./markdown.js";

export class Reply {
  text = el("div", { className: "text" });
  figures = el("span");
  #state = el("span");
  meta = el("p", { className: "meta" }, this.#state, this.figures);
  #problem = el("p", { className: "problem" });

  /** In `node`, after what is there. */
  constructor(node, record) {
    this.node = node;
    this.record = record;
    node.classList.add("reply");
    node.append(this.text, this.#problem, this.meta);
    this.show();
  }

  /** Streams an answer; `changed` is called whenever more of it is seen. */
  async stream(request, signal, changed) {
    const show = (busy) => {
      this.show(busy);
      changed();
    };
    const soon = onFrame(() => show(true));
    const done = receive(this.record, request, signal, soon);
    show(true);
    await done;
    soon.cancel();
    show(false);
  }

  /** The record as it is now. */
  show(busy = false) {
    const { content, problem } = this.record;
    render(this.text, content);
    this.#problem.textContent = problem;
    this.#problem.hidden = !problem;
    const parts = [state(this.record, busy), described(this.record.figures)];
    this.#state.textContent = parts[0];
    this.figures.textContent = parts.every(Boolean) ? ` · ${parts[1]}` : parts[1];
    this.node.ariaBusy = busy;
    this.node.classList.toggle("waiting", busy && !content);
  }
}
