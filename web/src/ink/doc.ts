/**
 * A mask while it is edited: one id a pixel, soft planes beside, and strokes that change them. Pure:
 * it knows no canvas, no server and no time. Nothing anti-aliased ever touches the ids.
 */

import { Changes } from "./changes";
import { EdgeBrush } from "./edge";
import { fillColours, fillLabels, listSpans } from "./flood";
import { MaskPlanes, deriveIds } from "./planes";
import { type FillRule, GRID, type Spans, capsule, polygonSpans, snap, subtract } from "./raster";
import { SoftStroke } from "./soft";
import { NAMES, type Op, type StrokeOptions, type StrokePoint, findAllowed } from "./stroke";
import { IDS, TILE, type TileDelta } from "./tiles";

export type { Picture, StrokeOptions, StrokePoint, Tool } from "./stroke";
export type { Channel, DocOptions } from "./planes";
export { IDS, TILE, type TileDelta, type TileRect } from "./tiles";

/** What one undo takes back. `op` goes into the log of edits. */
export interface Step {
  name: string;
  deltas: TileDelta[];
  op: Op;
}

export interface FillOptions {
  region: number;
  erase?: boolean;
  locked?: ReadonlySet<number>;
  only?: number;
}

export class MaskDoc extends MaskPlanes {
  private changes: Changes | null = null;
  private stroke: StrokeOptions | null = null;
  private points: number[] = [];
  private pressures: number[] = [];
  private latest: Spans = new Int32Array(0); // the last piece of the stroke
  private softStroke: SoftStroke | null = null;
  private edge: EdgeBrush | null = null;
  private allowed: Uint8Array | null = null;

  /** Whether a stroke is under way; nothing is saved then. */
  override get busy(): boolean {
    return this.changes !== null;
  }

  begin(stroke: StrokeOptions): void {
    if (this.changes) throw new Error("a stroke is under way; end it first");
    this.stroke = stroke;
    this.changes = this.openChanges();
    const target = this.findTarget(stroke.region, stroke.tool === "eraser" || stroke.erase);
    this.allowed = findAllowed(target, stroke.locked, stroke.only);
    const painted = ["brush", "eraser"].includes(stroke.tool);
    if (painted && this.isSoft(stroke))
      this.softStroke = new SoftStroke(this, this.changes, stroke);
    if (stroke.tool === "edge") this.edge = new EdgeBrush(this.width, this.height, stroke);
  }

  /** The next points of the stroke, in pixels; any number at once. */
  extend(points: Iterable<StrokePoint>): void {
    const stroke = this.stroke;
    if (!stroke) throw new Error("no stroke is under way; begin one first");
    for (const point of points) {
      const x = snap(point.x),
        y = snap(point.y);
      const last = this.points.length;
      if (stroke.tool === "lasso" || stroke.tool === "polygon" || stroke.tool === "fill") {
        if (last && this.points[last - 2] === x && this.points[last - 1] === y) continue;
        this.points.push(x, y);
        continue;
      }
      const pressure = point.pressure ?? 1;
      this.extendExactly(x, y, this.findRadius(stroke, pressure), pressure);
    }
  }

  /** One point of a brush as the log has it: on the grid, with its radius. */
  extendExactly(x: number, y: number, radius: number, pressure = 1): void {
    if (!this.stroke) throw new Error("no stroke is under way; begin one first");
    const { points } = this,
      last = points.length;
    if (last && points[last - 3] === x && points[last - 2] === y && points[last - 1] === radius)
      return;
    points.push(x, y, radius);
    this.pressures.push(pressure);
    if (this.softStroke) this.softStroke.extend(x, y, radius, pressure);
    else this.paintSegment();
  }

  /** What the stroke came to, null where it changed nothing. */
  end(): Step | null {
    const stroke = this.stroke,
      changes = this.changes;
    if (!stroke || !changes) throw new Error("no stroke is under way; begin one first");
    this.softStroke?.finish();
    if (stroke.tool === "lasso" || stroke.tool === "polygon") this.fillPolygon(stroke);
    if (stroke.tool === "fill") this.fillAt(stroke);
    const op = this.describe(stroke);
    return this.close(NAMES[stroke.tool], op);
  }

  /** Drop the stroke under way: all is as before it began. */
  cancel(): void {
    const planes = this.changes?.planes.length;
    this.changes?.revert();
    this.leave();
    if (planes && this.truth === "soft")
      deriveIds(this, { x: 0, y: 0, w: this.width, h: this.height });
  }

  /** Fill what hangs together with (x, y): alike in label, or in colour where a picture is given. */
  fill(
    x: number,
    y: number,
    options: FillOptions & {
      tolerance?: number;
      picture?: StrokeOptions["picture"];
      contiguous?: boolean;
    },
  ): Step | null {
    this.begin({ tool: "fill", size: 1, ...options });
    this.extend([{ x, y }]);
    return this.end();
  }

  /**
   * Lay a proposal (anything but 0 is in it) over a region: "add" paints it, "subtract" erases it
   * from the region, "replace" makes the region exactly the proposal.
   */
  replaceFrom(
    proposal: Uint8Array,
    how: "add" | "subtract" | "replace",
    options: FillOptions,
    name = "Proposal",
  ): Step | null {
    if (proposal.length !== this.ids.length) {
      throw new RangeError(`a proposal of ${proposal.length} pixels for ${this.ids.length}`);
    }
    const { region } = options;
    return this.rewrite(name, options, (id, at) => {
      if (proposal[at]) return how === "subtract" ? (id === region ? this.background : id) : region;
      return how === "replace" && id === region ? this.background : id;
    });
  }

  /** Take over other ids whole, such as those of another frame or what somebody else saved. */
  assign(ids: Uint8Array, name = "Copy"): Step | null {
    if (ids.length !== this.ids.length)
      throw new RangeError(`${ids.length} ids for ${this.ids.length}`);
    return this.rewrite(name, { region: -1 }, (_, at) => ids[at]!);
  }

  /** Change every pixel by a rule of its id; locked regions stay, and `only` limits what changes. */
  rewrite(
    name: string,
    options: FillOptions,
    rule: (id: number, at: number) => number,
  ): Step | null {
    const changes = (this.changes = this.openChanges());
    const allowed = findAllowed(-1, options.locked, options.only);
    this.writePixels(IDS, changes, (id, at) => {
      const next = rule(id, at);
      return allowed && !allowed[id] ? id : next;
    });
    if (this.truth === "soft") SoftStroke.harden(this, changes);
    return this.close(name, this.describePixels(name));
  }

  /** Write a soft plane anew, such as a feathered region; made blank where there was none. */
  rewriteSoft(region: number, plane: Uint8Array, name: string): Step | null {
    if (plane.length !== this.ids.length)
      throw new RangeError(`${plane.length} values for ${this.ids.length}`);
    const changes = (this.changes = this.openChanges());
    this.writePixels(region, changes, (_, at) => plane[at]!);
    return this.close(name, this.describePixels(name));
  }

  private writePixels(
    plane: number,
    changes: Changes,
    rule: (value: number, at: number) => number,
  ): void {
    const content = this.plane(plane);
    for (let y = 0, at = 0; y < this.height; y++) {
      const row = Math.floor(y / TILE) * this.tiling.across;
      let captured = -1;
      for (let x = 0; x < this.width; x++, at++) {
        const value = content[at]!,
          next = rule(value, at);
        if (next === value) continue;
        const tile = row + Math.floor(x / TILE);
        if (tile !== captured) changes.capture(plane, (captured = tile));
        content[at] = next;
      }
    }
  }

  private openChanges(): Changes {
    return new Changes(
      this.tiling,
      (plane) => this.plane(plane),
      (plane, tile) => this.touch(plane, tile),
    );
  }

  private findTarget(region: number, erase: boolean | undefined): number {
    return erase ? this.background : region;
  }

  private isSoft(stroke: StrokeOptions): boolean {
    return this.truth === "soft" || stroke.mode === "soft";
  }

  private findRadius(stroke: StrokeOptions, pressure: number): number {
    const resized = stroke.pressure && !this.isSoft(stroke);
    const share = resized ? Math.min(Math.max(pressure, 0.02), 1) : 1;
    return Math.max(snap((stroke.size / 2) * share), 1 / GRID);
  }

  private paintSegment(): void {
    const { points, width, height } = this,
      last = points.length - 3;
    const from = last >= 3 ? last - 3 : last;
    const spans = capsule(
      points[from]!,
      points[from + 1]!,
      points[from + 2]!,
      points[last]!,
      points[last + 1]!,
      points[last + 2]!,
      width,
      height,
    );
    const stroke = this.stroke!;
    if (this.edge) {
      this.paintSpans(this.edge.limit(spans, points[last]!, points[last + 1]!), stroke);
      return;
    }
    this.paintSpans(subtract(spans, this.latest), stroke);
    this.latest = spans;
  }

  private paintSpans(spans: Spans, stroke: StrokeOptions): void {
    const target = this.findTarget(stroke.region, stroke.tool === "eraser" || stroke.erase);
    if (this.isSoft(stroke)) {
      SoftStroke.fillSpans(this, this.changes!, stroke, spans);
      this.version++;
      return;
    }
    const { ids, width, allowed } = this,
      changes = this.changes!;
    for (let index = 0; index < spans.length; index += 3) {
      const y = spans[index]!,
        start = spans[index + 1]!,
        end = spans[index + 2]!;
      changes.captureRow(IDS, y, start, end);
      const row = y * width;
      if (!allowed) {
        ids.fill(target, row + start, row + end);
        continue;
      }
      for (let at = row + start; at < row + end; at++) if (allowed[ids[at]!]) ids[at] = target;
    }
    this.version++;
  }

  private fillPolygon(stroke: StrokeOptions): void {
    this.paintSpans(
      polygonSpans(this.points, this.findRule(stroke), this.width, this.height),
      stroke,
    );
  }

  private findRule(stroke: StrokeOptions): FillRule {
    return stroke.rule ?? (stroke.tool === "lasso" ? "nonzero" : "evenodd");
  }

  private fillAt(stroke: StrokeOptions): void {
    const x = Math.floor(this.points[0] ?? -1),
      y = Math.floor(this.points[1] ?? -1);
    const { width, height, ids } = this;
    if (x < 0 || y < 0 || x >= width || y >= height) return;
    const contiguous = stroke.contiguous ?? true,
      { picture } = stroke;
    if (picture && (picture.width !== width || picture.height !== height)) {
      throw new RangeError(
        `a picture of ${picture.width} x ${picture.height} for a mask of ${width} x ${height}`,
      );
    }
    const pixels = picture
      ? fillColours(picture, x, y, stroke.tolerance ?? 16, contiguous)
      : fillLabels(ids, width, height, x, y, contiguous);
    this.paintSpans(listSpans(pixels, width, height), stroke);
  }

  private describe(stroke: StrokeOptions): Op {
    if (stroke.tool === "edge" || stroke.picture) return this.describePixels(NAMES[stroke.tool]);
    if (this.isSoft(stroke)) {
      const { picture: _, locked, ...settings } = stroke;
      const { points, pressures } = this;
      return {
        op: "soft",
        stroke: { ...settings, locked: [...(locked ?? [])] },
        points,
        pressures,
      };
    }
    const id = this.findTarget(stroke.region, stroke.tool === "eraser" || stroke.erase);
    const shared = { id, locked: [...(stroke.locked ?? [])], only: stroke.only ?? null };
    if (stroke.tool === "fill") {
      const [x, y] = [Math.floor(this.points[0] ?? -1), Math.floor(this.points[1] ?? -1)];
      return { op: "fill", x, y, contiguous: stroke.contiguous ?? true, ...shared };
    }
    if (stroke.tool === "lasso" || stroke.tool === "polygon") {
      return { op: "polygon", points: this.points, rule: this.findRule(stroke), ...shared };
    }
    return { op: "stroke", points: this.points, ...shared };
  }

  /** The pixels that changed as they are now; of several planes the first that is saved. */
  private describePixels(name: string): Op {
    const planes = this.changes!.planes.filter((plane) => this.truth === "ids" || plane !== IDS);
    const plane = planes[0] ?? IDS;
    return { op: "pixels", name, plane, ...this.changes!.listPixels(plane) };
  }

  private close(name: string, op: Op): Step | null {
    const deltas = this.changes!.finish().filter(
      ({ plane }) => this.truth === "ids" || plane !== IDS,
    );
    this.showPlanes(deltas.map(({ tile }) => tile));
    this.leave();
    if (!deltas.length) return null;
    this.version++;
    return { name, deltas, op };
  }

  private leave(): void {
    this.changes = null;
    this.stroke = null;
    this.softStroke = null;
    this.edge = null;
    this.allowed = null;
    this.latest = new Int32Array(0);
    this.points = [];
    this.pressures = [];
  }
}
