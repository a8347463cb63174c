/** What changed between two texts, as runs of words: pure, for showing an edit. */

export interface Piece {
  text: string;
  kind: "same" | "gone" | "new";
}

const LONGEST = 400; // words; of longer texts the middle is shown as changed as a whole

/** The shortest edit by words and the blanks between them. */
export function compareTexts(before: string, after: string): Piece[] {
  const a = before.split(/(\s+|,)/).filter(Boolean);
  const b = after.split(/(\s+|,)/).filter(Boolean);
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
  let end = 0;
  while (
    end < a.length - start &&
    end < b.length - start &&
    a[a.length - 1 - end] === b[b.length - 1 - end]
  ) {
    end += 1;
  }
  const pieces: Piece[] = [];
  push(pieces, "same", a.slice(0, start).join(""));
  compareMiddle(a.slice(start, a.length - end), b.slice(start, b.length - end), pieces);
  push(pieces, "same", a.slice(a.length - end).join(""));
  return pieces;
}

function compareMiddle(a: string[], b: string[], pieces: Piece[]): void {
  if (a.length > LONGEST || b.length > LONGEST) {
    push(pieces, "gone", a.join(""));
    push(pieces, "new", b.join(""));
    return;
  }
  // Lengths of the longest common subsequence of what follows.
  const width = b.length + 1;
  const table = new Uint16Array((a.length + 1) * width);
  const at = (i: number, j: number) => table[i * width + j] ?? 0;
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      table[i * width + j] =
        a[i] === b[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
    }
  }
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      push(pieces, "same", a[i] ?? "");
      i += 1;
      j += 1;
    } else if (i < a.length && (j === b.length || at(i + 1, j) >= at(i, j + 1))) {
      push(pieces, "gone", a[i] ?? "");
      i += 1;
    } else {
      push(pieces, "new", b[j] ?? "");
      j += 1;
    }
  }
}

function push(pieces: Piece[], kind: Piece["kind"], text: string): void {
  if (!text) return;
  const last = pieces.at(-1);
  if (last?.kind === kind) last.text += text;
  else pieces.push({ kind, text });
}
