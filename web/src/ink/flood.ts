/** Which pixels a fill takes: by label or by colour, hanging together or all alike. */

import type { Spans } from "./raster";
import type { Picture } from "./stroke";

/**
 * Of pixels that are `open` (1), those reached from (x, y) over edges, not corners, as 1 and all
 * others as 0, written over `open` itself. Rows are filled whole, so that time is in pixels.
 */
export function flood(
  open: Uint8Array,
  width: number,
  height: number,
  x: number,
  y: number,
): Uint8Array {
  const seeds = open[y * width + x] ? [y * width + x] : [];
  while (seeds.length) {
    const seed = seeds.pop()!;
    if (open[seed] !== 1) continue;
    const row = seed - (seed % width),
      last = row + width;
    let start = seed,
      end = seed + 1;
    while (start > row && open[start - 1] === 1) start--;
    while (end < last && open[end] === 1) end++;
    open.fill(2, start, end);
    if (row > 0) addSeeds(open, start - width, end - width, seeds);
    if (last < width * height) addSeeds(open, start + width, end + width, seeds);
  }
  for (let at = 0; at < open.length; at++) open[at] = open[at]! >> 1;
  return open;
}

/** One seed for each run of open pixels between two places of a row. */
function addSeeds(open: Uint8Array, start: number, end: number, seeds: number[]): void {
  let within = false;
  for (let at = start; at < end; at++) {
    const reached = open[at] === 1;
    if (reached && !within) seeds.push(at);
    within = reached;
  }
}

/** Pixels with the label of (x, y). */
export function fillLabels(
  ids: Uint8Array,
  width: number,
  height: number,
  x: number,
  y: number,
  contiguous: boolean,
): Uint8Array {
  const label = ids[y * width + x]!,
    open = new Uint8Array(ids.length);
  for (let at = 0; at < ids.length; at++) open[at] = ids[at] === label ? 1 : 0;
  return contiguous ? flood(open, width, height, x, y) : open;
}

/** Pixels whose channels are all within `tolerance` levels of those at (x, y). */
export function fillColours(
  picture: Picture,
  x: number,
  y: number,
  tolerance: number,
  contiguous: boolean,
): Uint8Array {
  const { width, height } = picture,
    colour = readColour(picture, x, y, 0);
  const open = new Uint8Array(width * height);
  markNear(picture, colour, tolerance, 0, open.length, open, 0);
  return contiguous ? flood(open, width, height, x, y) : open;
}

/** Mean colour of the window of `reach` pixels to each side of (x, y). */
export function readColour(
  picture: Picture,
  x: number,
  y: number,
  reach: number,
): [number, number, number] {
  const { width, height, data } = picture;
  let red = 0,
    green = 0,
    blue = 0,
    count = 0;
  for (let row = Math.max(0, y - reach); row <= Math.min(height - 1, y + reach); row++) {
    for (let column = Math.max(0, x - reach); column <= Math.min(width - 1, x + reach); column++) {
      const at = (row * width + column) * 4;
      red += data[at]!;
      green += data[at + 1]!;
      blue += data[at + 2]!;
      count++;
    }
  }
  return [red / count, green / count, blue / count];
}

/** Write 1 to `open`, from `place` on, for each of a run of pixels that is near a colour, else 0. */
export function markNear(
  picture: Picture,
  colour: readonly [number, number, number],
  tolerance: number,
  start: number,
  end: number,
  open: Uint8Array,
  place: number,
): void {
  const { data } = picture,
    [red, green, blue] = colour;
  for (let at = start; at < end; at++) {
    const byte = at * 4;
    open[place++] =
      Math.abs(data[byte]! - red) <= tolerance &&
      Math.abs(data[byte + 1]! - green) <= tolerance &&
      Math.abs(data[byte + 2]! - blue) <= tolerance
        ? 1
        : 0;
  }
}

/** Pixels that are not 0 as runs. */
export function listSpans(pixels: Uint8Array, width: number, height: number): Spans {
  const spans: number[] = [];
  for (let y = 0; y < height; y++) {
    const row = y * width;
    let x = 0;
    while (x < width) {
      if (!pixels[row + x]) {
        x++;
        continue;
      }
      const start = x;
      while (x < width && pixels[row + x]) x++;
      spans.push(y, start, x);
    }
  }
  return Int32Array.from(spans);
}
