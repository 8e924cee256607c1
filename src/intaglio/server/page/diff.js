// Word diff: which words of two texts are in a longest common subsequence of both.

const MOST = 4e6; // cells of the table: two texts of two thousand words

/** For words `a` and `b`: whether each is shared, and how many the texts begin with alike. */
export function diff(a, b) {
  let head = 0;
  while (head < a.length && a[head] === b[head]) head++;
  const same = [a, b].map((words) => new Uint8Array(words.length).fill(1, 0, head));
  mark(a.slice(head), b.slice(head), head, same);
  return { same, head };
}

// Texts too long for the table keep only their common beginning.
function mark(a, b, offset, same) {
  if (a.length * b.length > MOST) return;
  const width = b.length + 1;
  const best = lengths(a, b, width);
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    if (a[i] === b[j]) same[0][offset + i++] = same[1][offset + j++] = 1;
    else if (best[(i + 1) * width + j] >= best[i * width + j + 1]) i++;
    else j++;
  }
}

// best[i * width + j]: how many words a[i:] and b[j:] have in common, at most 2,000 by MOST
function lengths(a, b, width) {
  const best = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1, at = i * width + j; j >= 0; j--, at--) {
      best[at] = a[i] === b[j] ? best[at + width + 1] + 1 : Math.max(best[at + width], best[at + 1]);
    }
  }
  return best;
}
