/** Which pixels a fill takes: by label or by colour, hanging together or all alike. */

import type { Spans } from "./raster";
import type { Picture } from "./stroke";

/**
 * 1 where a pixel is reached from (x, y) over edges (not corners) through pixels that `alike` says
 * yes to. `alike` gets the index of a pixel. Rows are filled whole, so that time is in pixels.
 */
export function flood(
  width: number, height: number, x: number, y: number, alike: (at: number) => boolean,
): Uint8Array {
  const reached = new Uint8Array(width * height);
  if (!alike(y * width + x)) return reached;
  const seeds = [y * width + x];
  while (seeds.length) {
    const seed = seeds.pop()!;
    if (reached[seed]) continue;
    const row = Math.floor(seed / width) * width;
    let start = seed, end = seed + 1;
    while (start > row && !reached[start - 1] && alike(start - 1)) start--;
    while (end < row + width && !reached[end] && alike(end)) end++;
    reached.fill(1, start, end);
    for (const next of [row - width, row + width]) {
      if (next < 0 || next >= width * height) continue;
      let within = false;
      for (let at = start - row + next; at < end - row + next; at++) {
        const open = !reached[at] && alike(at);
        if (open && !within) seeds.push(at);
        within = open;
      }
    }
  }
  return reached;
}

/** Pixels with the label of (x, y). */
export function fillLabels(
  ids: Uint8Array, width: number, height: number, x: number, y: number, contiguous: boolean,
): Uint8Array {
  const label = ids[y * width + x]!;
  if (contiguous) return flood(width, height, x, y, (at) => ids[at] === label);
  return ids.map((id) => (id === label ? 1 : 0));
}

/** Pixels whose channels are all within `tolerance` levels of those at (x, y). */
export function fillColours(
  picture: Picture, x: number, y: number, tolerance: number, contiguous: boolean,
): Uint8Array {
  const { width, height } = picture;
  const alike = nearColour(picture, readColour(picture, x, y, 0), tolerance);
  if (contiguous) return flood(width, height, x, y, alike);
  const pixels = new Uint8Array(width * height);
  for (let at = 0; at < pixels.length; at++) pixels[at] = alike(at) ? 1 : 0;
  return pixels;
}

/** Mean colour of the window of `reach` pixels to each side of (x, y). */
export function readColour(
  picture: Picture, x: number, y: number, reach: number,
): [number, number, number] {
  const { width, height, data } = picture;
  let red = 0, green = 0, blue = 0, count = 0;
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

/** Whether the pixel of an index has all channels within `tolerance` of a colour. */
export function nearColour(
  picture: Picture, colour: readonly [number, number, number], tolerance: number,
): (at: number) => boolean {
  const { data } = picture;
  const [red, green, blue] = colour;
  return (at) => {
    const place = at * 4;
    return Math.abs(data[place]! - red) <= tolerance
      && Math.abs(data[place + 1]! - green) <= tolerance
      && Math.abs(data[place + 2]! - blue) <= tolerance;
  };
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
