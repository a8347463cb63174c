/** Strokes on soft planes: a profile of hardness, gathered at its highest, laid down once. */

import type { Changes } from "./changes";
import type { MaskDoc } from "./doc";
import { type Spans, capsule } from "./raster";
import type { StrokeOptions } from "./stroke";
import { IDS, TILE, type TileRect } from "./tiles";

const HALF = 128; // a soft pixel of at least this counts as its region's where ids are shown

interface Target {
  plane: number;
  value: number;
}

/** The planes a stroke changes, and towards what. */
function findTargets(doc: MaskDoc, stroke: StrokeOptions): Target[] {
  const erase = stroke.tool === "eraser" || Boolean(stroke.erase);
  if (stroke.mode === "soft") {
    doc.softPlane(stroke.region);
    return [{ plane: stroke.region, value: erase ? 0 : 255 }];
  }
  // As a label would: one region a pixel, so the others give way.
  if (!erase) doc.softPlane(stroke.region);
  return [...doc.soft.keys()]
    .filter((plane) => !stroke.locked?.has(plane))
    .filter((plane) => stroke.only === undefined || plane === stroke.only || plane === stroke.region)
    .map((plane) => ({ plane, value: !erase && plane === stroke.region ? 255 : 0 }));
}

export class SoftStroke {
  private readonly cover: (Uint8Array | undefined)[] = [];
  private readonly targets: Target[];
  private last: [number, number, number, number] | null = null;
  private drawn = false;

  constructor(
    private readonly doc: MaskDoc, private readonly changes: Changes, private readonly stroke: StrokeOptions,
  ) {
    this.targets = findTargets(doc, stroke);
  }

  extend(x: number, y: number, radius: number, pressure: number): void {
    const flow = this.stroke.pressure ? Math.min(Math.max(pressure, 0), 1) : 1;
    if (this.last) {
      const [lastX, lastY] = this.last;
      // Pieces much shorter than the brush would repeat the same sums; the end draws what is left.
      if (Math.hypot(x - lastX, y - lastY) < radius / 12 && this.drawn) {
        this.pending = [x, y, radius, flow];
        return;
      }
    }
    this.draw(x, y, radius, flow);
  }

  private pending: [number, number, number, number] | null = null;

  finish(): void {
    if (this.pending) this.draw(...this.pending);
  }

  private draw(x: number, y: number, radius: number, flow: number): void {
    const [x0, y0, r0, f0] = this.last ?? [x, y, radius, flow];
    const { doc } = this;
    const spans = capsule(x0, y0, r0, x, y, radius, doc.width, doc.height);
    const hardness = this.isHard() ? 1 : Math.min(Math.max(this.stroke.hardness ?? 1, 0), 1);
    const dx = x - x0, dy = y - y0, square = dx * dx + dy * dy;
    const profile = (column: number, row: number): number => {
      const px = column + 0.5 - x0, py = row + 0.5 - y0;
      const along = square ? Math.min(Math.max((px * dx + py * dy) / square, 0), 1) : 0;
      const reach = r0 + along * (radius - r0), level = f0 + along * (flow - f0);
      if (hardness >= 1) return level;
      const distance = Math.hypot(px - along * dx, py - along * dy) / reach;
      if (distance <= hardness) return level;
      const fall = Math.max((1 - distance) / (1 - hardness), 0);
      return level * fall * fall * (3 - 2 * fall);
    };
    for (let index = 0; index < spans.length; index += 3) {
      this.coverRow(spans[index]!, spans[index + 1]!, spans[index + 2]!, profile);
    }
    this.last = [x, y, radius, flow];
    this.pending = null;
    this.drawn = true;
    doc.version++;
  }

  /** A brush for labels on soft planes is hard: hardness belongs to soft painting. */
  private isHard(): boolean {
    return this.stroke.mode !== "soft";
  }

  private coverRow(
    y: number, start: number, end: number, profile: (column: number, row: number) => number,
  ): void {
    const { tiling, width } = this.doc;
    const opacity = this.isHard() ? 1 : Math.min(Math.max(this.stroke.opacity ?? 1, 0), 1);
    for (let x = start; x < end; ) {
      const tile = Math.floor(y / TILE) * tiling.across + Math.floor(x / TILE);
      const rect = tiling.rect(tile), stop = Math.min(end, rect.x + rect.w);
      const cover = (this.cover[tile] ??= new Uint8Array(rect.w * rect.h));
      const planes = this.targets.map(({ plane, value }) => ({
        value, before: this.changes.capture(plane, tile), now: this.doc.plane(plane),
      }));
      for (; x < stop; x++) {
        const place = (y - rect.y) * rect.w + x - rect.x;
        const level = Math.round(255 * profile(x, y));
        if (level <= cover[place]!) continue;
        cover[place] = level;
        const share = (level * opacity) / 255;
        for (const { value, before, now } of planes) {
          const old = before[place]!;
          now[y * width + x] = Math.round(old + (value - old) * share);
        }
      }
    }
  }

  /** Lay runs down whole (lasso, polygon, fill), at the stroke's opacity. */
  static fillSpans(doc: MaskDoc, changes: Changes, stroke: StrokeOptions, spans: Spans): void {
    const filling = new SoftStroke(doc, changes, stroke);
    for (let index = 0; index < spans.length; index += 3) {
      filling.coverRow(spans[index]!, spans[index + 1]!, spans[index + 2]!, () => 1);
    }
  }

  /** Bring soft planes to ids that were rewritten: full where a label came, none where it went. */
  static harden(doc: MaskDoc, changes: Changes): void {
    const { spans, values } = changes.listPixels(IDS);
    let next = 0;
    for (const id of new Set(values)) if (id !== doc.background) doc.softPlane(id);
    for (let index = 0; index < spans.length; index += 3) {
      const y = spans[index]!, start = spans[index + 1]!, end = spans[index + 2]!;
      for (const plane of doc.soft.keys()) changes.captureRow(plane, y, start, end);
      for (let x = start; x < end; x++) {
        const id = values[next++]!;
        for (const [plane, content] of doc.soft) content[y * doc.width + x] = plane === id ? 255 : 0;
      }
    }
  }
}

/** Where planes are the truth: the ids within a rectangle, the strongest plane of at least a half. */
export function deriveIds(doc: MaskDoc, rect: TileRect): void {
  const { ids, width, background } = doc;
  const planes = [...doc.soft];
  for (let y = rect.y; y < rect.y + rect.h; y++) {
    for (let x = rect.x, at = y * width + rect.x; x < rect.x + rect.w; x++, at++) {
      let best = HALF - 1, id = background;
      for (const [region, plane] of planes) {
        if (plane[at]! > best) {
          best = plane[at]!;
          id = region;
        }
      }
      ids[at] = id;
    }
  }
}
