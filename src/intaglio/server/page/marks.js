// What differs between two answers, marked where they are shown.

import { diff } from "./diff.js";
import { el } from "./dom.js";

/** Compares the words of two elements, and with `mark` marks those that the other does not have.
 *  How many words they begin with alike, the share they have in common, and whether they are the same. */
export function compared(a, b, mark) {
  const [left, right] = [texts(a), texts(b)];
  const { same, head } = diff(...[left, right].map(words));
  if (mark) [left, right].forEach((found, side) => apply(found, same[side]));
  const total = same[0].length + same[1].length;
  const shared = same[0].reduce((sum, one) => sum + one, 0);
  return { head, share: total ? (2 * shared) / total : 1, identical: 2 * shared === total };
}

// Text nodes, and what each is made of: words at even places, the space after them at odd ones.
function texts(root) {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT, (node) =>
    node.parentElement.closest(".code-head, .place") ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT,
  );
  const found = [];
  while (walker.nextNode()) found.push({ node: walker.currentNode, parts: walker.currentNode.data.split(/(\s+)/) });
  return found;
}

const words = (found) => found.flatMap(({ parts }) => parts.filter(isWord));
const isWord = (part) => /\S/.test(part);

function apply(found, same) {
  let word = 0;
  for (const { node, parts } of found) {
    const flags = parts.map((part) => (isWord(part) ? !same[word++] : null));
    node.replaceWith(...runs(parts, flags));
  }
}

// Neighbours that differ are one mark, with the space between them.
function runs(parts, flags) {
  const out = [];
  for (const [i, part] of parts.entries()) {
    const differs = flags[i] ?? (flags[i - 1] && flags[i + 1]);
    if (out.at(-1)?.differs === Boolean(differs)) out.at(-1).text += part;
    else out.push({ differs: Boolean(differs), text: part });
  }
  return out.map(({ differs, text }) => (differs ? el("mark", {}, text) : text));
}
