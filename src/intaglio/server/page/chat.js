// The chat: one conversation, answered by the model that is picked.

import { Composer } from "./composer.js";
import { Conversation } from "./conversation.js";
import { $, copyButton, el, notice, say } from "./dom.js";
import { Reply } from "./reply.js";

const KEEP = 1000; // milliseconds between savings of an answer as it comes
const NEAR = 80; // pixels from the end within which the log follows it

export class Chat {
  #conversation = new Conversation(() => this.#reopen());
  #controller = null; // of the answer at hand
  #editing = false;
  #following = true;
  #picker;
  #settings;
  #composer;
  #list = $("#messages");
  #log = $("#log");

  constructor(models, picker, settings) {
    this.#picker = picker;
    this.#settings = settings;
    this.#composer = new Composer($("#composer"), models, (text) => this.#ask(text), () => this.stop());
    this.#log.onscroll = () => (this.#following = this.#atEnd());
    $("#new-chat").onclick = () => this.#turnOver(() => this.#conversation.clear());
    $("#restore").onclick = () => this.#turnOver(() => this.#conversation.restore());
    $("#composer .editing button").onclick = () => this.#edit(false);
    this.#draw();
  }

  focus() {
    this.#composer.area.focus();
  }

  /** Ends the answer at hand, or the edit. */
  stop() {
    if (this.#controller) this.#controller.abort();
    else this.#edit(false);
  }

  #reopen() {
    if (this.#controller) return;
    this.#conversation.open();
    this.#draw();
  }

  #turnOver(change) {
    this.#controller?.abort();
    this.#edit(false);
    change();
    this.#keep();
    this.#draw();
    this.focus();
  }

  #draw() {
    this.#list.replaceChildren();
    for (const record of this.#conversation.records) this.#append(record);
    this.#emptiness();
    this.#toEnd();
  }

  #append(record) {
    const node = el("li");
    this.#list.append(node);
    return record.role === "user" ? this.#question(node, record) : this.#reply(node, record);
  }

  #question(node, record) {
    node.classList.add("question");
    const actions = this.#actions(record, "Edit", () => this.#edit(true));
    node.append(el("h2", { className: "hidden" }, "You"), el("div", { className: "text" }, record.content), actions);
  }

  #reply(node, record) {
    node.append(el("h2", { className: "who" }, record.model));
    const reply = new Reply(node, record);
    const actions = this.#actions(record, "Regenerate", () => this.#regenerate());
    node.append(el("div", { className: "foot" }, reply.meta, actions));
    return reply;
  }

  // The first only of the last question and answer.
  #actions(record, name, act) {
    const last = el("button", { className: "quiet last", onclick: act }, name);
    return el("div", { className: "actions" }, last, copyButton(() => record.content));
  }

  #emptiness() {
    const empty = !this.#conversation.records.length;
    $("#empty").hidden = !empty;
    $("#new-chat").disabled = empty;
    $("#restore").hidden = !this.#conversation.restorable;
  }

  #keep() {
    if (!this.#conversation.keep()) notice("The browser does not keep this conversation: its storage is full or off.");
  }

  #ask(content) {
    if (this.#editing) this.#cutAt(this.#conversation.lastQuestion);
    this.#edit(false);
    this.#composer.text = "";
    this.#append(this.#conversation.add({ role: "user", content }));
    return this.#answer();
  }

  #regenerate() {
    this.#edit(false);
    this.#cutAt(this.#conversation.records.length - 1);
    this.focus();
    return this.#answer();
  }

  #edit(editing) {
    if (editing) this.#composer.text = this.#conversation.records[this.#conversation.lastQuestion].content;
    else if (this.#editing) this.#composer.text = "";
    this.#editing = editing;
    $("#composer .editing").hidden = !editing;
    if (editing) this.focus();
  }

  #cutAt(index) {
    this.#conversation.cutAt(index);
    while (this.#list.children.length > index) this.#list.lastChild.remove();
  }

  async #answer() {
    const request = this.#settings.request(this.#picker.value, this.#conversation.turns());
    const record = this.#conversation.add({ role: "assistant", model: request.model });
    const reply = this.#append(record);
    const controller = (this.#controller = new AbortController());
    const saving = setInterval(() => this.#keep(), KEEP);
    this.#toEnd();
    this.#busy("Answering");
    await reply.stream(request, controller.signal, () => this.#following && this.#toEnd());
    clearInterval(saving);
    // a chat that was turned over has another by now: its answer ends unseen
    if (this.#controller === controller) this.#controller = null;
    this.#busy([record.content, record.note, record.problem].filter(Boolean).join("\n"));
  }

  // An answer begins or ends; `said` for those who listen.
  #busy(said) {
    this.#composer.busy = this.#controller !== null;
    this.#list.classList.toggle("busy", this.#controller !== null);
    this.#emptiness();
    this.#keep();
    say(said);
  }

  #atEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.#log;
    return scrollHeight - scrollTop - clientHeight < NEAR;
  }

  #toEnd() {
    this.#following = true;
    this.#log.scrollTop = this.#log.scrollHeight;
  }
}
