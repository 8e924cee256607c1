// One answer as it arrives: its text, its clock, and how it ended.

import { chat } from "./api.js";
import { count, number, seconds } from "./format.js";

/** What is known of an answer before it comes. Figures: seconds to the first text, tokens, tokens a second after it. */
export const NOTHING = { content: "", figures: { first: null, tokens: 0, rate: null }, note: "", problem: "" };

/** Streams an answer into the record until its end, which may be an error or the signal: neither is thrown. */
export async function receive(record, request, signal, changed) {
  const clock = new Clock();
  let note = "";
  Object.assign(record, NOTHING, { note: "Interrupted" }); // as it is kept if the page is left
  try {
    for await (const { choices, usage } of chat(request, signal)) {
      const [choice] = choices ?? [];
      if (choice?.finish_reason === "length") note = "Cut off at the limit of tokens";
      if (choice?.delta?.content) clock.tick();
      record.content += choice?.delta?.content ?? "";
      record.figures = clock.figures(usage);
      changed();
    }
  } catch (error) {
    if (signal.aborted) note = "Stopped";
    else record.problem = error.message;
  }
  record.note = note;
}

class Clock {
  #pieces = 0;
  #started = performance.now();
  #first = 0; // when the first piece came, and the last
  #last = 0;

  tick() {
    this.#pieces += 1;
    this.#last = performance.now();
    this.#first ||= this.#last;
  }

  figures(usage) {
    const tokens = usage?.completion_tokens ?? this.#pieces; // a piece is a token, mostly
    const took = (this.#last - this.#first) / 1000;
    const first = this.#first ? (this.#first - this.#started) / 1000 : null;
    return { first, tokens, rate: tokens > 1 && took > 0 ? (tokens - 1) / took : null };
  }
}

/** What is awaited, or how it ended. */
export function state({ content, note }, busy) {
  if (!busy) return note;
  return content ? "" : "Waiting for the first token";
}

/** Figures in a line of words. */
export function described({ first, tokens, rate: speed }) {
  const parts = [speed && `${number(speed)} tokens/s`, tokens && count(tokens, "token"), first && `first after ${seconds(first)}`];
  return parts.filter(Boolean).join(" · ");
}
