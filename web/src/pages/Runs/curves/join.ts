/** Curves of several runs on one axis: each has points of its own. */

export interface Line {
  x: number[];
  y: (number | null)[];
}

/** All places of all lines in order; a line has `undefined` where it has no point of its own. */
export function joinCurves(lines: Line[]): { x: number[]; lines: (number | null | undefined)[][] } {
  const x = [...new Set(lines.flatMap((line) => line.x))].sort((one, other) => one - other);
  const at = new Map(x.map((place, index) => [place, index]));
  return {
    x,
    lines: lines.map((line) => {
      const row = new Array<number | null | undefined>(x.length).fill(undefined);
      line.x.forEach((place, index) => (row[at.get(place)!] = line.y[index] ?? null));
      return row;
    }),
  };
}

/**
 * A running mean that forgets by `amount` in [0, 1) a point, without pull towards 0 at the start.
 * Gaps stay gaps.
 */
export function smooth(
  line: (number | null | undefined)[],
  amount: number,
): (number | null | undefined)[] {
  let sum = 0;
  let weight = 0;
  return line.map((value) => {
    if (value === null || value === undefined) return value;
    sum = sum * amount + value;
    weight = weight * amount + 1;
    return sum / weight;
  });
}
