/** Strokes on soft planes: a profile of hardness, gathered at its highest, laid down once. */

import type { Changes } from "./changes";
import type { MaskDoc } from "./doc";
import { type Spans, capsule } from "./raster";
import type { StrokeOptions } from "./stroke";
import { IDS, TILE } from "./tiles";

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
    .filter(
      (plane) => stroke.only === undefined || plane === stroke.only || plane === stroke.region,
    )
    .map((plane) => ({ plane, value: !erase && plane === stroke.region ? 255 : 0 }));
}

type Dab = [x: number, y: number, radius: number, flow: number];

/** How full a piece of a stroke is at a pixel: by its distance from the line between two dabs. */
class Profile {
  private readonly dx: number;
  private readonly dy: number;
  private readonly square: number;

  constructor(
    private readonly begin: Dab,
    private readonly end: Dab,
    private readonly hardness: number,
  ) {
    this.dx = end[0] - begin[0];
    this.dy = end[1] - begin[1];
    this.square = this.dx * this.dx + this.dy * this.dy;
  }

  /**
   * The part of a run that is beside the line or past its end: what is behind its beginning is as
   * the piece before has left it, for it is nearest to the point that both share.
   */
  trim(y: number, start: number, end: number): [number, number] {
    const { dx, dy, begin } = this;
    if (!this.square || begin[2] !== this.end[2] || begin[3] !== this.end[3]) return [start, end];
    const across = (y + 0.5 - begin[1]) * dy;
    if (dx === 0) return across > 0 ? [start, end] : [start, start];
    const bound = begin[0] - across / dx - 0.5; // the column where the line begins
    if (dx > 0) return [Math.max(start, Math.floor(bound)), end];
    return [start, Math.min(end, Math.ceil(bound) + 1)];
  }

  /** Levels from 0 to 255 of a run of pixels, written from the first place on. */
  measure(y: number, start: number, end: number, levels: Uint8Array): void {
    const { dx, dy, square, begin, hardness } = this;
    const [x0, y0, r0, f0] = begin,
      grows = this.end[2] - r0,
      swells = this.end[3] - f0;
    const py = y + 0.5 - y0;
    for (let x = start, at = 0; x < end; x++, at++) {
      const px = x + 0.5 - x0;
      let along = square ? (px * dx + py * dy) / square : 0;
      along = along < 0 ? 0 : along > 1 ? 1 : along;
      let level = 255 * (f0 + along * swells);
      if (hardness < 1) {
        const ax = px - along * dx,
          ay = py - along * dy;
        const share = Math.sqrt(ax * ax + ay * ay) / (r0 + along * grows);
        if (share > hardness) {
          const fall = share < 1 ? (1 - share) / (1 - hardness) : 0;
          level *= fall * fall * (3 - 2 * fall);
        }
      }
      levels[at] = Math.round(level);
    }
  }
}

export class SoftStroke {
  private readonly cover: (Uint8Array | undefined)[] = [];
  private readonly targets: Target[];
  private readonly levels = new Uint8Array(TILE);
  private last: Dab | null = null;
  private drawn = false;

  constructor(
    private readonly doc: MaskDoc,
    private readonly changes: Changes,
    private readonly stroke: StrokeOptions,
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

  private pending: Dab | null = null;

  finish(): void {
    if (this.pending) this.draw(...this.pending);
  }

  private draw(x: number, y: number, radius: number, flow: number): void {
    const begin = this.last ?? [x, y, radius, flow];
    const spans = capsule(
      begin[0],
      begin[1],
      begin[2],
      x,
      y,
      radius,
      this.doc.width,
      this.doc.height,
    );
    const profile = new Profile(begin, [x, y, radius, flow], this.hardness);
    for (let index = 0; index < spans.length; index += 3) {
      const row = spans[index]!;
      const [start, end] = profile.trim(row, spans[index + 1]!, spans[index + 2]!);
      this.coverRow(row, start, end, profile);
    }
    this.last = [x, y, radius, flow];
    this.pending = null;
    this.drawn = true;
    this.doc.version++;
  }

  private get hardness(): number {
    return this.isHard() ? 1 : Math.min(Math.max(this.stroke.hardness ?? 1, 0), 1);
  }

  /** A brush for labels on soft planes is hard: hardness belongs to soft painting. */
  private isHard(): boolean {
    return this.stroke.mode !== "soft";
  }

  private coverRow(y: number, start: number, end: number, profile: Profile | null): void {
    const { tiling, width } = this.doc;
    const opacity = this.isHard() ? 1 : Math.min(Math.max(this.stroke.opacity ?? 1, 0), 1);
    for (let x = start; x < end;) {
      const tile = Math.floor(y / TILE) * tiling.across + Math.floor(x / TILE);
      const rect = tiling.rect(tile),
        from = x,
        stop = Math.min(end, rect.x + rect.w);
      const cover = (this.cover[tile] ??= new Uint8Array(rect.w * rect.h));
      const first = (y - rect.y) * rect.w + from - rect.x;
      const { levels } = this;
      if (profile) profile.measure(y, from, stop, levels);
      else levels.fill(255, 0, stop - from);
      for (let at = 0; at < stop - from; at++) {
        if (levels[at]! <= cover[first + at]!) levels[at] = 0;
        else cover[first + at] = levels[at]!;
      }
      for (const { plane, value } of this.targets) {
        const before = this.changes.capture(plane, tile),
          now = this.doc.plane(plane);
        for (let at = 0, place = y * width + from; at < stop - from; at++, place++) {
          if (!levels[at]) continue;
          const old = before[first + at]!;
          now[place] = Math.round(old + ((value - old) * levels[at]! * opacity) / 255);
        }
      }
      x = stop;
    }
  }

  /** Lay runs down whole (lasso, polygon, fill), at the stroke's opacity. */
  static fillSpans(doc: MaskDoc, changes: Changes, stroke: StrokeOptions, spans: Spans): void {
    const filling = new SoftStroke(doc, changes, stroke);
    for (let index = 0; index < spans.length; index += 3) {
      filling.coverRow(spans[index]!, spans[index + 1]!, spans[index + 2]!, null);
    }
  }

  /** Bring soft planes to ids that were rewritten: full where a label came, none where it went. */
  static harden(doc: MaskDoc, changes: Changes): void {
    const { spans, values } = changes.listPixels(IDS);
    let next = 0;
    for (const id of new Set(values)) if (id !== doc.background) doc.softPlane(id);
    for (let index = 0; index < spans.length; index += 3) {
      const y = spans[index]!,
        start = spans[index + 1]!,
        end = spans[index + 2]!;
      for (const plane of doc.soft.keys()) changes.captureRow(plane, y, start, end);
      for (let x = start; x < end; x++) {
        const id = values[next++]!;
        for (const [plane, content] of doc.soft)
          content[y * doc.width + x] = plane === id ? 255 : 0;
      }
    }
  }
}
