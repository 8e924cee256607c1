// Markdown as models write it, made of elements and text nodes only.

import { copyButton, el } from "./dom.js";
import { inline } from "./inline.js";

const DEEPEST = 6; // lists within each other
const FENCE = /^ *(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6}) (.*)/;
const RULE = /^ {0,3}([-*_])( *\1){2,} *$/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])( {1,4})(?=\S)/;

// A kind of block: null, or where the one that begins at lines[i] ends and how it is built.
const KINDS = [fence, heading, rule, list, paragraph];
const shown = new WeakMap();

/** Makes `target` show the text; the blocks at its beginning that did not change stay as they are. */
export function render(target, text) {
  const old = shown.get(target) ?? [];
  const blocks = split(text.split("\n"), 0);
  let same = 0;
  while (same < old.length && old[same].source === blocks[same]?.source) same++;
  for (const block of old.splice(same)) block.node.remove();
  for (const block of blocks.slice(same)) {
    old.push({ source: block.source, node: block.build() });
    target.append(old.at(-1).node);
  }
  shown.set(target, old);
}

function split(lines, depth) {
  const blocks = [];
  for (let i = 0; i < lines.length; ) {
    if (!lines[i].trim()) {
      i++;
      continue;
    }
    const { end, build } = begin(lines, i, depth);
    blocks.push({ source: lines.slice(i, end).join("\n"), build });
    i = end;
  }
  return blocks;
}

function begin(lines, i, depth) {
  if (depth >= DEEPEST) return paragraph(lines, i);
  for (const kind of KINDS) {
    const block = kind(lines, i, depth);
    if (block) return block;
  }
}

function fence(lines, i) {
  const open = FENCE.exec(lines[i]);
  if (!open) return null;
  const closes = (line) => line.trim().startsWith(open[1]) && !line.trim().replaceAll(open[1][0], "");
  const close = until(lines, i, closes);
  const code = lines.slice(i + 1, close).join("\n");
  return { end: close + 1, build: () => codeBlock(open[2].trim(), code) };
}

function codeBlock(language, code) {
  const head = el("div", { className: "code-head" }, el("span", {}, language || "text"), copyButton(() => code));
  return el("div", { className: "code" }, head, el("pre", { tabIndex: 0 }, el("code", {}, code)));
}

function heading(lines, i) {
  const found = HEADING.exec(lines[i]);
  if (!found) return null;
  const level = Math.min(6, found[1].length + 2); // below the page's own
  return { end: i + 1, build: () => el(`h${level}`, {}, ...inline(found[2].replace(/ #+$/, "").trim())) };
}

function rule(lines, i) {
  return RULE.test(lines[i]) ? { end: i + 1, build: () => el("hr") } : null;
}

function list(lines, i, depth) {
  const first = ITEM.exec(lines[i]);
  if (!first) return null;
  const ordered = first[2].length > 1;
  const end = until(lines, i, (line, j) => !within(lines, j, first, ordered));
  const build = () => {
    const items = parts(lines.slice(i, end)).map((part) => el("li", {}, ...built(part, depth + 1)));
    return ordered ? el("ol", { start: parseInt(first[2], 10) }, ...items) : el("ul", {}, ...items);
  };
  return { end, build };
}

// Whether lines[j] goes on with the list: an item, an indented line, or one that follows without a gap.
function within(lines, j, first, ordered) {
  const line = lines[j];
  if (!line.trim()) return j + 1 < lines.length && lines[j + 1].trim() !== "" && within(lines, j + 1, first, ordered);
  const item = ITEM.exec(line);
  if (line.search(/\S/) > first[1].length) return true;
  if (item) return item[2].length > 1 === ordered;
  return lines[j - 1].trim() !== "" && !starts(lines, j);
}

// The lines of each item, moved to the left edge.
function parts(lines) {
  const items = [];
  let indent = 0;
  for (const line of lines) {
    const found = ITEM.exec(line);
    if (found && (!items.length || found[1].length < indent)) {
      indent = found[0].length;
      items.push([line.slice(indent)]);
    } else {
      items.at(-1).push(line.slice(Math.min(indent, Math.max(0, line.search(/\S|$/)))));
    }
  }
  return items;
}

function paragraph(lines, i) {
  const end = until(lines, i, (line, j) => !line.trim() || starts(lines, j));
  const text = lines.slice(i, end).join("\n").trim();
  return { end, build: () => el("p", {}, ...inline(text)) };
}

const starts = (lines, j) => [FENCE, HEADING, RULE, ITEM].some((pattern) => pattern.test(lines[j]));

function until(lines, i, ends) {
  let j = i + 1;
  while (j < lines.length && !ends(lines[j], j)) j++;
  return j;
}

const built = (lines, depth) => split(lines, depth).map((block) => block.build());
