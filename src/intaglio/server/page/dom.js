// Elements. Text becomes text nodes and is never parsed: what a model says stays text.

/** An element with properties or attributes, and children that are nodes or strings. */
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

export const $ = (query, from = document) => from.querySelector(query);

/** Tells those who listen instead of looking. */
export function say(text) {
  $("#said").textContent = text;
}

/** What went wrong with the page as a whole, and what can be done about it. */
export function notice(text, action = "Dismiss", act = () => {}) {
  const place = $("#notice");
  const button = $("button", place);
  $("p", place).textContent = text;
  button.textContent = action;
  button.onclick = () => {
    place.hidden = true;
    act();
  };
  place.hidden = !text;
}

/** A function that calls `draw` before the next frame, however often it is called until then. */
export function onFrame(draw) {
  let frame = 0;
  const soon = () => {
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      draw();
    });
  };
  soon.cancel = () => cancelAnimationFrame(frame);
  return soon;
}

/** A button that copies `text()` and says so. Over plain http from another machine a browser lets no page copy. */
export function copyButton(text) {
  const button = el("button", { className: "quiet copy", hidden: !navigator.clipboard }, "Copy");
  button.onclick = async () => {
    button.textContent = await navigator.clipboard.writeText(text()).then(() => "Copied", () => "Not copied");
    setTimeout(() => (button.textContent = "Copy"), 1500);
  };
  return button;
}
