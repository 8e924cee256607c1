// A conversation as records of messages, kept by the browser: role, content; of answers also model, figures, note, problem.

import { NOTHING } from "./answer.js";
import { load, save, watch } from "./store.js";

const KEY = "chat";
const EMPTY = { ...NOTHING, model: "" };

export class Conversation {
  records = [];
  #cleared = null;

  /** `changed`: another tab has written it. */
  constructor(changed) {
    watch(KEY, changed);
    this.open();
  }

  /** What the browser kept. */
  open() {
    this.records = [load(KEY, [])].flat().filter(usable).map((record) => ({ ...EMPTY, ...record }));
  }

  /** Whether the browser keeps it. */
  keep() {
    return save(KEY, this.records);
  }

  /** A new message at the end. */
  add(record) {
    this.records.push({ ...EMPTY, ...record });
    this.#cleared = null;
    return this.records.at(-1);
  }

  get lastQuestion() {
    return this.records.findLastIndex((record) => record.role === "user");
  }

  /** Only what comes before `index` stays. */
  cutAt(index) {
    this.records.length = index;
  }

  /** Starts anew; until a message is added the old one can be restored. */
  clear() {
    this.#cleared = this.records;
    this.records = [];
  }

  get restorable() {
    return this.#cleared !== null;
  }

  restore() {
    this.records = this.#cleared;
    this.#cleared = null;
  }

  /** The messages of a request. Many chat templates refuse two of one side in a row, so such are joined. */
  turns() {
    const out = [];
    for (const { role, content } of this.records.filter((record) => record.content)) {
      if (out.at(-1)?.role === role) out.at(-1).content += `\n\n${content}`;
      else out.push({ role, content });
    }
    return out;
  }
}

const usable = (record) => ["user", "assistant"].includes(record?.role) && typeof record.content === "string";
