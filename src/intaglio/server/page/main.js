// The page: two views, settings beside them, gauges above, one server behind.

import { Chat } from "./chat.js";
import { Compare } from "./compare.js";
import { $ } from "./dom.js";
import { Gauges } from "./gauges.js";
import { askForKey } from "./key.js";
import { Models, introduce, picker } from "./models.js";
import { Settings } from "./settings.js";
import { Side } from "./side.js";

const models = new Models();
const settings = new Settings($("#settings"));
const gauges = new Gauges(inView, () => models.load());
const picked = picker($("#model"), models, "model", 0, () => {
  introduce(models.find(picked.value));
  gauges.arrange();
});
const chat = new Chat(models, picked, settings);
const compare = new Compare(models, settings, () => gauges.arrange());
const side = new Side();

const comparing = () => location.hash === "#compare";
const view = () => (comparing() ? compare : chat);

function inView() {
  return comparing() ? compare.panes.map(({ select }) => select.value) : [picked.value];
}

function show() {
  $("#chat").hidden = comparing();
  $("#compare").hidden = !comparing();
  $("#to-chat").ariaCurrent = comparing() ? null : "page";
  $("#to-compare").ariaCurrent = comparing() ? "page" : null;
  gauges.arrange();
}

function escape(event) {
  if (event.key !== "Escape" || $("#key").open) return;
  if (!side.escape()) view().stop();
}

addEventListener("hashchange", show);
addEventListener("keydown", escape);
$("#change-key").onclick = async () => (await askForKey("It is sent with every request.")) && models.load();
show();
if (!matchMedia("(pointer: coarse)").matches) view().focus(); // a touch screen would open its keyboard
models.load();
gauges.run();
