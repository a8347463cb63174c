/**
 * A brush that keeps to the side of an edge it began on. The mean colour of the 5 x 5 pixels where
 * the stroke began is what it looks for; at each piece only pixels within the tolerance of it are
 * painted, and of those only what hangs together with the point inside the brush, so that nothing
 * is reached across a border. Thinner noise than a pixel is closed up: a pixel whose four
 * neighbours are painted is painted too. Quick, and no cutting by graphs: time is in brush pixels.
 */

import { flood, listSpans, markNear, readColour } from "./flood";
import type { Spans } from "./raster";
import type { StrokeOptions } from "./stroke";

const REACH = 2; // pixels to either side whose mean is the colour looked for

export class EdgeBrush {
  private colour: [number, number, number] | null = null;

  constructor(
    private readonly width: number,
    private readonly height: number,
    private readonly stroke: StrokeOptions,
  ) {
    const { picture } = stroke;
    if (!picture || picture.width !== width || picture.height !== height) {
      throw new RangeError("the edge brush needs the clip's pixels at the size of the mask");
    }
  }

  /** Of a piece of the stroke that ends at (x, y), what is to be painted. */
  limit(spans: Spans, x: number, y: number): Spans {
    const picture = this.stroke.picture!;
    const column = Math.min(Math.max(Math.floor(x), 0), this.width - 1);
    const row = Math.min(Math.max(Math.floor(y), 0), this.height - 1);
    this.colour ??= readColour(picture, column, row, REACH);
    if (!spans.length) return spans;
    const box = findBox(spans);
    const width = box.right - box.left,
      height = box.bottom - box.top;
    const inside = new Uint8Array(width * height),
      open = new Uint8Array(width * height);
    for (let index = 0; index < spans.length; index += 3) {
      const y = spans[index]!,
        start = spans[index + 1]!,
        end = spans[index + 2]!;
      const place = (y - box.top) * width + start - box.left;
      inside.fill(1, place, place + end - start);
      const line = y * this.width;
      markNear(
        picture,
        this.colour,
        this.stroke.tolerance ?? 24,
        line + start,
        line + end,
        open,
        place,
      );
    }
    const atX = Math.min(Math.max(column - box.left, 0), width - 1);
    const atY = Math.min(Math.max(row - box.top, 0), height - 1);
    const reached = flood(open, width, height, atX, atY);
    closePixels(reached, inside, width, height);
    const found = listSpans(reached, width, height);
    for (let index = 0; index < found.length; index += 3) {
      found[index]! += box.top;
      found[index + 1]! += box.left;
      found[index + 2]! += box.left;
    }
    return found;
  }
}

function findBox(spans: Spans): { left: number; right: number; top: number; bottom: number } {
  let left = Infinity,
    right = 0,
    top = Infinity,
    bottom = 0;
  for (let index = 0; index < spans.length; index += 3) {
    top = Math.min(top, spans[index]!);
    bottom = Math.max(bottom, spans[index]! + 1);
    left = Math.min(left, spans[index + 1]!);
    right = Math.max(right, spans[index + 2]!);
  }
  return { left, right, top, bottom };
}

function closePixels(reached: Uint8Array, inside: Uint8Array, width: number, height: number): void {
  for (let y = 1; y < height - 1; y++) {
    for (let x = 1, at = y * width + 1; x < width - 1; x++, at++) {
      if (
        !reached[at] &&
        inside[at] &&
        reached[at - 1] &&
        reached[at + 1] &&
        reached[at - width] &&
        reached[at + width]
      )
        reached[at] = 1;
    }
  }
}
