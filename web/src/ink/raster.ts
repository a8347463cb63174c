/**
 * Shapes to runs of pixels, by one exact rule that the Python twin (frisket.masks.painting.raster)
 * keeps too: same numbers in, same bytes out.
 *
 * Pixel (x, y) covers [x, x + 1) by [y, y + 1); its centre is (x + 0.5, y + 0.5). A disc and a
 * stroke hold the pixels whose centre is no farther from it than the radius (the border counts); a
 * polygon holds those whose centre is inside (left and upper border count, right and lower do not,
 * so that two polygons that share an edge share no pixel and leave no gap). Sums are in doubles, in
 * the order written here: do not "simplify" them in one language alone.
 */

/** Runs of pixels, three numbers each: row, first column, column after the last. */
export type Spans = Int32Array;

export type FillRule = "evenodd" | "nonzero";

/** Points and radii lie on a grid of 1/16 pixel, so that a log of them is short and exact. */
export const GRID = 16;

/** Largest number a coordinate may be; farther points are moved onto this border. */
export const FAR = 1 << 20;

/** A coordinate on the grid, halves upwards; NaN is refused by a RangeError. */
export function snap(value: number): number {
  if (Number.isNaN(value)) throw new RangeError("a point of a stroke is no number");
  return Math.floor(Math.min(Math.max(value, -FAR), FAR) * GRID + 0.5) / GRID;
}

class SpanList {
  private numbers = new Int32Array(192);
  private length = 0;

  add(y: number, start: number, end: number): void {
    if (this.length + 3 > this.numbers.length) {
      const larger = new Int32Array(this.numbers.length * 2);
      larger.set(this.numbers);
      this.numbers = larger;
    }
    this.numbers[this.length] = y;
    this.numbers[this.length + 1] = start;
    this.numbers[this.length + 2] = end;
    this.length += 3;
  }

  finish(): Spans {
    return this.numbers.subarray(0, this.length);
  }
}

/** Pixels no farther than `r` from (cx, cy), and the one pixel that (cx, cy) is in. */
export function discSpans(cx: number, cy: number, r: number, width: number, height: number): Spans {
  return capsule(cx, cy, r, cx, cy, r, width, height);
}

/**
 * All discs from (x0, y0, r0) to (x1, y1, r1), centre and radius moving alike: a piece of a stroke
 * whose size changes with pressure. Both ends also hold the pixel their centre is in.
 */
export function capsule(
  x0: number,
  y0: number,
  r0: number,
  x1: number,
  y1: number,
  r1: number,
  width: number,
  height: number,
): Spans {
  const spans = new SpanList();
  const quad = findQuad(x0, y0, r0, x1, y1, r1);
  const home0 = Math.floor(y0),
    home1 = Math.floor(y1);
  const top = Math.max(0, Math.min(home0, home1, Math.floor(Math.min(y0 - r0, y1 - r1))));
  const last = Math.min(height - 1, Math.max(home0, home1, Math.floor(Math.max(y0 + r0, y1 + r1))));
  for (let y = top; y <= last; y++) {
    const line = y + 0.5;
    let left = Infinity,
      right = -Infinity;
    let dy = line - y0;
    let inside = r0 * r0 - dy * dy;
    if (inside >= 0) {
      const half = Math.sqrt(inside);
      left = x0 - half;
      right = x0 + half;
    }
    dy = line - y1;
    inside = r1 * r1 - dy * dy;
    if (inside >= 0) {
      const half = Math.sqrt(inside);
      left = Math.min(left, x1 - half);
      right = Math.max(right, x1 + half);
    }
    if (quad) {
      for (let corner = 0; corner < 8; corner += 2) {
        const next = (corner + 2) % 8;
        const ax = quad[corner]!,
          ay = quad[corner + 1]!,
          bx = quad[next]!,
          by = quad[next + 1]!;
        if (ay === by || line < Math.min(ay, by) || line > Math.max(ay, by)) continue;
        const x = ax + ((line - ay) * (bx - ax)) / (by - ay);
        left = Math.min(left, x);
        right = Math.max(right, x);
      }
    }
    let start = Math.ceil(left - 0.5),
      end = Math.floor(right - 0.5) + 1;
    if (!(start < end)) {
      start = Infinity;
      end = -Infinity;
    }
    if (y === home0) {
      start = Math.min(start, Math.floor(x0));
      end = Math.max(end, Math.floor(x0) + 1);
    }
    if (y === home1) {
      start = Math.min(start, Math.floor(x1));
      end = Math.max(end, Math.floor(x1) + 1);
    }
    start = Math.max(start, 0);
    end = Math.min(end, width);
    if (start < end) spans.add(y, start, end);
  }
  return spans.finish();
}

/**
 * The runs of `spans` without those of `taken`, where both have at most one run a row (as discs and
 * pieces of strokes have): what a brush that moves a little has not painted yet.
 */
export function subtract(spans: Spans, taken: Spans): Spans {
  const left = new SpanList();
  let other = 0;
  for (let index = 0; index < spans.length; index += 3) {
    const y = spans[index]!,
      start = spans[index + 1]!,
      end = spans[index + 2]!;
    while (other < taken.length && taken[other]! < y) other += 3;
    if (other >= taken.length || taken[other] !== y) {
      left.add(y, start, end);
      continue;
    }
    const from = taken[other + 1]!,
      to = taken[other + 2]!;
    if (start < from) left.add(y, start, Math.min(end, from));
    if (end > to) left.add(y, Math.max(start, to), end);
  }
  return left.finish();
}

/** Where the two common tangents touch two discs, x and y of four corners; null if one holds the other. */
function findQuad(
  x0: number,
  y0: number,
  r0: number,
  x1: number,
  y1: number,
  r1: number,
): number[] | null {
  const dx = x1 - x0,
    dy = y1 - y0;
  const length = Math.sqrt(dx * dx + dy * dy);
  if (length <= Math.abs(r0 - r1)) return null;
  const ux = dx / length,
    uy = dy / length;
  const sine = (r0 - r1) / length;
  const cosine = Math.sqrt(1 - sine * sine);
  const ax = ux * sine - uy * cosine,
    ay = uy * sine + ux * cosine;
  const bx = ux * sine + uy * cosine,
    by = uy * sine - ux * cosine;
  return [
    x0 + r0 * ax,
    y0 + r0 * ay,
    x1 + r1 * ax,
    y1 + r1 * ay,
    x1 + r1 * bx,
    y1 + r1 * by,
    x0 + r0 * bx,
    y0 + r0 * by,
  ];
}

/**
 * Pixels inside a polygon of `points` (x, y, x, y, ...), closed by itself. Fewer than three points
 * hold none. "evenodd" leaves out what is gone round twice, "nonzero" takes it in.
 */
export function polygonSpans(
  points: ArrayLike<number>,
  rule: FillRule,
  width: number,
  height: number,
): Spans {
  const spans = new SpanList();
  const count = points.length >> 1;
  if (count < 3) return spans.finish();
  let lowest = Infinity,
    highest = -Infinity;
  for (let index = 0; index < count; index++) {
    lowest = Math.min(lowest, points[2 * index + 1]!);
    highest = Math.max(highest, points[2 * index + 1]!);
  }
  const top = Math.max(0, Math.ceil(lowest - 0.5));
  const last = Math.min(height - 1, Math.ceil(highest - 0.5) - 1);
  const rows = sortEdges(points, count, top, last);
  for (let y = top; y <= last; y++) {
    const line = y + 0.5;
    const crossings: [number, number][] = [];
    for (const edge of rows[y - top]!) {
      // From the upper end, so that polygons on either side of an edge meet at the same number.
      const [ax, ay, bx, by, turn] = edge;
      crossings.push([ax + ((line - ay) * (bx - ax)) / (by - ay), turn]);
    }
    crossings.sort((one, other) => one[0] - other[0]);
    addRow(spans, y, crossings, rule, width);
  }
  return spans.finish();
}

type Edge = [number, number, number, number, number]; // upper end, lower end, 1 where drawn downward

/** The edges that cross each row's line, by row from `top`. */
function sortEdges(points: ArrayLike<number>, count: number, top: number, last: number): Edge[][] {
  const rows: Edge[][] = Array.from({ length: Math.max(last - top + 1, 0) }, () => []);
  for (let index = 0; index < count; index++) {
    const next = (index + 1) % count;
    const ax = points[2 * index]!,
      ay = points[2 * index + 1]!;
    const bx = points[2 * next]!,
      by = points[2 * next + 1]!;
    if (ay === by) continue;
    const edge: Edge = ay < by ? [ax, ay, bx, by, 1] : [bx, by, ax, ay, -1];
    const from = Math.max(top, Math.ceil(edge[1] - 0.5));
    const to = Math.min(last, Math.ceil(edge[3] - 0.5) - 1);
    for (let y = from; y <= to; y++) rows[y - top]!.push(edge);
  }
  return rows;
}

function addRow(
  spans: SpanList,
  y: number,
  crossings: [number, number][],
  rule: FillRule,
  width: number,
): void {
  let winding = 0,
    begun = 0,
    until = 0; // what of the row is taken already ends at `until`
  for (const [x, turn] of crossings) {
    const before = winding;
    winding = rule === "evenodd" ? 1 - winding : winding + turn;
    if (before === 0) {
      begun = x;
    } else if (winding === 0) {
      const start = Math.max(Math.ceil(begun - 0.5), until, 0);
      const end = Math.min(Math.ceil(x - 0.5), width);
      if (start < end) {
        spans.add(y, start, end);
        until = end;
      }
    }
  }
}
