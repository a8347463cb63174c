// Colours for the part of a mask that is in sight: one look-up a canvas pixel, so that the cost goes
// with the screen and never with the picture, and outlines and hatching stay crisp at every zoom.
// Ids are read where the centre of a canvas pixel falls: nothing is ever mixed.
import type { Rect, View } from "./view.ts";

export const PATTERN = 8; // canvas pixels after which hatching repeats, both ways

export interface MaskColours {
  /** RGBA (little endian) of each id at each place of an 8 x 8 pattern: id * 64 + y * 8 + x. */
  fill: Uint32Array;
  /** RGBA of the line where a region ends, by id; 0 draws none. */
  edge: Uint32Array;
  /** Canvas pixels of that line. */
  thickness: number;
}

export interface IdMap {
  width: number;
  height: number;
  ids: Uint8Array;
}

/** Canvas columns (or rows) to image columns; -1 outside of the picture. */
export function mapAxis(from: number, to: number, scale: number, offset: number, length: number) {
  const places = new Int32Array(Math.max(to - from, 0));
  for (let index = 0; index < places.length; index++) {
    const place = Math.floor((from + index + 0.5 - offset) / scale);
    places[index] = place < 0 || place >= length ? -1 : place;
  }
  return places;
}

/** Fill `out` (a rectangle of canvas pixels, row by row) with the colours of the ids beneath. */
export function paintIds(
  out: Uint32Array,
  rect: Rect,
  view: View,
  map: IdMap,
  colours: MaskColours,
): void {
  const { width, height, ids } = map;
  const { fill, edge, thickness } = colours;
  const columns = mapAxis(rect.left, rect.right, view.scale, view.x, width);
  const lefts = mapAxis(rect.left - thickness, rect.right - thickness, view.scale, view.x, width);
  const rows = mapAxis(rect.top, rect.bottom, view.scale, view.y, height);
  const aboves = mapAxis(rect.top - thickness, rect.bottom - thickness, view.scale, view.y, height);
  // The pattern is anchored to the picture, so that it does not swim while the view is panned.
  const phaseX = (rect.left - Math.floor(view.x)) & (PATTERN - 1);
  const phaseY = (rect.top - Math.floor(view.y)) & (PATTERN - 1);
  const across = columns.length;
  for (let y = 0; y < rows.length; y++) {
    const start = y * across;
    const row = rows[y]! * width;
    if (row < 0) {
      out.fill(0, start, start + across);
      continue;
    }
    const above = aboves[y]! < 0 ? -1 : aboves[y]! * width;
    const hatch = ((y + phaseY) & 7) << 3;
    for (let x = 0; x < across; x++) {
      const column = columns[x]!;
      if (column < 0) {
        out[start + x] = 0;
        continue;
      }
      const id = ids[row + column]!;
      const left = lefts[x]! < 0 ? id : ids[row + lefts[x]!]!;
      const top = above < 0 ? id : ids[above + column]!;
      if (left !== id || top !== id) {
        const line = edge[id] || edge[left] || edge[top];
        if (line) {
          out[start + x] = line;
          continue;
        }
      }
      out[start + x] = fill[(id << 6) | hatch | ((x + phaseX) & 7)]!;
    }
  }
}

export interface SoftLayer {
  plane: Uint8Array; // width * height, 0 to 255
  colour: number; // 0xBBGGRR
}

/** As `paintIds`, for soft planes: the strongest plane of a pixel, as see-through as it is weak. */
export function paintSoft(
  out: Uint32Array,
  rect: Rect,
  view: View,
  size: { width: number; height: number },
  layers: SoftLayer[],
  opacity: number,
): void {
  const columns = mapAxis(rect.left, rect.right, view.scale, view.x, size.width);
  const rows = mapAxis(rect.top, rect.bottom, view.scale, view.y, size.height);
  const across = columns.length;
  for (let y = 0; y < rows.length; y++) {
    const row = rows[y]! * size.width;
    for (let x = 0; x < across; x++) {
      const column = columns[x]!;
      if (row < 0 || column < 0) continue;
      let strongest = 0;
      let colour = 0;
      for (const layer of layers) {
        const value = layer.plane[row + column]!;
        if (value > strongest) {
          strongest = value;
          colour = layer.colour;
        }
      }
      if (strongest) out[y * across + x] = ((strongest * opacity) << 24) | colour;
    }
  }
}

const DASH = 4; // canvas pixels of one colour of a marching outline
const WHITE = 0xffffffff;
const BLACK = 0xff000000;

/** As `paintIds`, for something proposed: a light film, and an outline whose dashes march. */
export function paintProposal(
  out: Uint32Array,
  rect: Rect,
  view: View,
  map: IdMap,
  film: Uint32Array,
  thickness: number,
  phase: number,
): void {
  const { width, height, ids } = map;
  const columns = mapAxis(rect.left, rect.right, view.scale, view.x, width);
  const lefts = mapAxis(rect.left - thickness, rect.right - thickness, view.scale, view.x, width);
  const rows = mapAxis(rect.top, rect.bottom, view.scale, view.y, height);
  const aboves = mapAxis(rect.top - thickness, rect.bottom - thickness, view.scale, view.y, height);
  const across = columns.length;
  const dash = DASH * thickness;
  for (let y = 0; y < rows.length; y++) {
    const row = rows[y]! * width;
    const start = y * across;
    if (row < 0) {
      out.fill(0, start, start + across);
      continue;
    }
    for (let x = 0; x < across; x++) {
      const column = columns[x]!;
      if (column < 0) {
        out[start + x] = 0;
        continue;
      }
      const id = ids[row + column]!;
      const left = lefts[x]! < 0 ? 0 : ids[row + lefts[x]!]!;
      const above = aboves[y]! < 0 ? 0 : ids[aboves[y]! * width + column]!;
      if (id !== left || id !== above) {
        out[start + x] = (x + y + phase) % (2 * dash) < dash ? WHITE : BLACK;
      } else out[start + x] = film[id]!;
    }
  }
}
