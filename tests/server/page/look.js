// What can be said of the page as it is laid out now. Needs colour.js.
const opaque = (colour) => !/^rgba\(.*, 0\)$/.test(colour) && colour !== "transparent";
function behind(node) {
  for (; node; node = node.parentElement) {
    const colour = getComputedStyle(node).backgroundColor;
    if (opaque(colour)) return colour;
  }
  return "white";
}
function words(node) {
  return [...node.childNodes].some((child) => child.nodeType === Node.TEXT_NODE && child.data.trim());
}
const seen = [...document.querySelectorAll("body *")].filter((node) => node.checkVisibility());
const texts = seen.filter((node) => words(node) && !node.closest(":disabled, .hidden, option"));
return {
  dark: luminance(behind(document.body)) < 0.2,
  faint: texts.map((node) => [contrast(getComputedStyle(node).color, behind(node)), node.textContent.trim()])
    .filter(([ratio]) => ratio < 4.5),
  texts: texts.length,
  sideways: seen.filter((node) => node.getBoundingClientRect().right > innerWidth + 1 && !node.closest("pre, .hidden"))
    .map((node) => node.outerHTML.slice(0, 80)),
  scrolls: document.documentElement.scrollHeight - innerHeight,
};
