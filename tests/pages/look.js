// What a browser makes of a page, left in the body's data-found: whether it is dark, contrasts (WCAG), names
// that cover each other, text outside its drawing, whether the page scrolls sideways, what a focused point shows.
// Needs colour.js.
const all = (query, from = document) => [...from.querySelectorAll(query)];
const box = (element) => element.getBoundingClientRect();
const background = getComputedStyle(document.body).backgroundColor;
function ink(element) {
  const style = getComputedStyle(element);
  return element.closest("svg") ? style.fill : style.color;
}
function inside(a, b) {
  return a.left >= b.left - 1 && a.right <= b.right + 1 && a.top >= b.top - 1 && a.bottom <= b.bottom + 1;
}
function cross(a, b) {
  return a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
}
function covered(svg) {
  const words = all(".name, .tick, .label", svg);
  const pairs = words.flatMap((a, i) => words.slice(i + 1).map((b) => [a, b]));
  return pairs.filter(([a, b]) => cross(box(a), box(b))).map(([a, b]) => `${a.textContent} / ${b.textContent}`);
}
const points = all(".choice");
points[1]?.focus();
const words = ["p", "h1", "td", "svg .label", "svg .tick", "code"].flatMap((query) => all(query).slice(0, 1));
document.body.dataset.found = JSON.stringify({
  dark: luminance(background) < 0.2,
  contrast: Math.min(...words.map((word) => contrast(ink(word), background))),
  points: Math.min(...all(".choice.frontier circle").map((point) => contrast(ink(point), background))),
  outside: all("svg text").filter((t) => !inside(box(t), box(t.closest("svg")))).map((t) => t.textContent),
  covered: all("svg").flatMap(covered),
  width: document.documentElement.scrollWidth - innerWidth,
  tip: points[1] ? getComputedStyle(points[1].querySelector(".tip")).visibility : null,
  heights: all("svg").map((svg) => box(svg).height),
});
