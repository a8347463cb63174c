// From points under the pointer to strokes of the document. Points wait in a queue and are taken to
// the document once a frame; nothing here waits for anything.
import type { MaskDoc, Picture, Step, StrokeOptions, StrokePoint } from "../../../ink/doc.ts";
import type { ToolName } from "./settings.svelte.ts";

export interface StrokeSettings {
  tool: ToolName;
  region: number;
  size: number;
  hardness: number;
  opacity: number;
  pressure: boolean;
  soft: boolean;
  over: "all" | "background" | "start";
  tolerance: number;
  contiguous: boolean;
  fillBy: "mask" | "colour";
  locked: ReadonlySet<number>;
}

export interface StrokeHost {
  doc(): MaskDoc | null;
  settings(): StrokeSettings;
  /** The clip's pixels, where they were fetched already; tools that need them ask first. */
  picture(): Picture | null;
  finished(step: Step | null): void;
  /** The outline drawn while a lasso is on its way, x and y in turns. */
  showPath(points: number[]): void;
  ask(): void; // for a frame
}

type Pressed = "draw" | "erase";

export class StrokeTaker {
  private queue: StrokePoint[] = [];
  private last: StrokePoint | null = null; // where the stroke before ended: Shift-click goes on there
  private path: number[] = [];
  private lasso = false;

  constructor(private readonly host: StrokeHost) {}

  get busy(): boolean {
    return this.host.doc()?.busy ?? false;
  }

  /** Begin a stroke; false where the tool takes none here. */
  press(point: StrokePoint, pressed: Pressed, straight: boolean): boolean {
    const doc = this.host.doc();
    if (!doc || doc.busy) return false;
    const options = this.describe(doc, point, pressed);
    if (!options) return false;
    if (options.tool === "fill") {
      this.fill(doc, options, point);
      return false;
    }
    doc.begin(options);
    this.lasso = options.tool === "lasso";
    this.path = [];
    const start = straight && this.last && !this.lasso ? [this.last, point] : [point];
    this.move(start);
    return true;
  }

  move(points: StrokePoint[]): void {
    this.queue.push(...points);
    this.host.ask();
  }

  /** Take what came since the last frame to the document. */
  drain(): void {
    const doc = this.host.doc();
    if (!this.queue.length || !doc?.busy) return;
    doc.extend(this.queue);
    if (this.lasso) {
      for (const point of this.queue) this.path.push(point.x, point.y);
      this.host.showPath(this.path);
    }
    this.last = this.queue.at(-1) ?? this.last;
    this.queue = [];
  }

  release(point: StrokePoint): void {
    const doc = this.host.doc();
    if (!doc?.busy) return;
    this.queue.push(point);
    this.drain();
    this.finish(doc.end());
  }

  cancel(): void {
    this.queue = [];
    const doc = this.host.doc();
    if (doc?.busy) doc.cancel();
    this.finish(null);
  }

  /** Fill a closed outline, x and y in turns. */
  fillPolygon(points: number[], erase: boolean): void {
    const doc = this.host.doc();
    if (!doc || doc.busy || points.length < 6) return;
    const options = this.describe(doc, { x: points[0]!, y: points[1]! }, erase ? "erase" : "draw");
    if (!options) return;
    doc.begin({ ...options, tool: "polygon" });
    const corners: StrokePoint[] = [];
    for (let index = 0; index < points.length; index += 2)
      corners.push({ x: points[index]!, y: points[index + 1]! });
    doc.extend(corners);
    this.finish(doc.end());
  }

  /** Strokes of another clip do not go on from here. */
  forget(): void {
    this.last = null;
    this.queue = [];
  }

  private finish(step: Step | null): void {
    this.lasso = false;
    this.host.showPath([]);
    this.host.finished(step);
    this.host.ask();
  }

  private fill(doc: MaskDoc, options: StrokeOptions, point: StrokePoint): void {
    if (point.x < 0 || point.y < 0 || point.x >= doc.width || point.y >= doc.height) return;
    doc.begin(options);
    doc.extend([point]);
    this.finish(doc.end());
  }

  private describe(doc: MaskDoc, point: StrokePoint, pressed: Pressed): StrokeOptions | null {
    const now = this.host.settings();
    const shared = {
      region: now.region,
      size: now.size,
      hardness: now.hardness,
      opacity: now.opacity,
      pressure: now.pressure,
      locked: now.locked,
      mode: now.soft ? ("soft" as const) : ("ids" as const),
      erase: pressed === "erase",
      ...this.limit(doc, now.over, point),
    };
    const picture = this.host.picture();
    switch (now.tool) {
      case "brush":
      case "eraser":
        return { ...shared, tool: pressed === "erase" ? "eraser" : now.tool };
      case "edge":
        return picture && { ...shared, tool: "edge", tolerance: now.tolerance, picture };
      case "lasso":
      case "polygon":
        return { ...shared, tool: now.tool };
      case "fill": {
        const fill = { ...shared, tool: "fill" as const, contiguous: now.contiguous };
        if (now.fillBy === "mask") return fill;
        return picture && { ...fill, tolerance: now.tolerance, picture };
      }
      default:
        return null;
    }
  }

  private limit(doc: MaskDoc, over: StrokeSettings["over"], point: StrokePoint): { only?: number } {
    if (over === "all") return {};
    if (over === "background") return { only: doc.background };
    const x = Math.min(Math.max(Math.floor(point.x), 0), doc.width - 1);
    const y = Math.min(Math.max(Math.floor(point.y), 0), doc.height - 1);
    return { only: doc.ids[y * doc.width + x]! };
  }
}
