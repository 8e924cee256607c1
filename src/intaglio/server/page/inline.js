// Markdown within a line: code, bold, italic, links. Every repeat is bounded, so no text takes long.

import { el } from "./dom.js";

const DEEPEST = 4; // spans within spans
const SCHEMES = ["http:", "https:", "mailto:"];
const SPECIAL = /[\\`*_[!h]/g; // h: of http

// A rule: what it matches where it stands, and the nodes or strings made of it.
const RULES = [
  [/\\([!-/:-@[-`{-~])/y, (found) => [found[1]]],
  [/(`+)(?!`)([^]{0,2000}?[^`])\1(?!`)/y, (found) => [el("code", {}, found[2].trim())]],
  [/\*\*(?=\S)([^]{0,2000}?\S)\*\*(?!\*)/y, span("strong")],
  [/(?<!\w)__(?=\S)([^]{0,2000}?\S)__(?!\w)/y, span("strong")],
  [/\*(?=[^\s*])([^*]{0,2000}?[^\s*])\*(?!\*)/y, span("em")],
  [/(?<!\w)_(?=[^\s_])([^_]{0,2000}?[^\s_])_(?!\w)/y, span("em")],
  [/!?\[([^[\]]{1,500})\]\(([^\s()]{1,2000}(?:\([^\s()]{0,200}\)[^\s()]{0,200})?)(?: "[^"]{0,500}")?\)/y, named],
  [/(?<!\w)https?:\/\/[^\s<>"`]{0,2000}[^\s<>"`.,;:!?'*_)\]]/y, (found) => link(found[0], [found[0]])],
];

/** Nodes and strings of Markdown without line structure. */
export function inline(text, depth = 0) {
  const out = [];
  let from = 0;
  SPECIAL.lastIndex = 0;
  for (let next = SPECIAL.exec(text); next && depth < DEEPEST; next = SPECIAL.exec(text)) {
    const found = first(text, next.index, depth);
    if (found) {
      out.push(text.slice(from, next.index), ...found.nodes);
      from = found.end;
    }
    SPECIAL.lastIndex = found ? from : next.index + 1; // rules call this function too
  }
  return [...out, text.slice(from)].filter((part) => part !== "");
}

function first(text, at, depth) {
  for (const [pattern, make] of RULES) {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    const nodes = found && make(found, depth);
    if (nodes) return { nodes, end: at + found[0].length };
  }
  return null;
}

function span(tag) {
  return (found, depth) => [el(tag, {}, ...inline(found[1], depth + 1))];
}

function named(found, depth) {
  return link(found[2], inline(found[1], depth + 1));
}

// Where a link leads is written beside it: its text is the model's.
function link(address, label) {
  if (!URL.canParse(address)) return null;
  const url = new URL(address);
  if (!SCHEMES.includes(url.protocol)) return null;
  const anchor = el("a", { href: url.href, target: "_blank", rel: "noopener noreferrer nofollow" }, ...label);
  const place = url.host || url.pathname;
  return anchor.textContent.includes(place) ? [anchor] : [anchor, el("span", { className: "place" }, ` (${place})`)];
}
