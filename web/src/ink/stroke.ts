/** What a stroke is: the tool and its settings, the points, and how it is written into the log. */

import type { FillRule } from "./raster";

export type Tool = "brush" | "eraser" | "edge" | "lasso" | "polygon" | "fill";

/** The clip's pixels, four bytes each (red, green, blue, alpha), at the size of the document. */
export interface Picture {
  width: number;
  height: number;
  data: Uint8ClampedArray | Uint8Array;
}

/** Pixel units of the document; `pressure` in [0, 1], 1 where the pointer tells none. */
export interface StrokePoint {
  x: number;
  y: number;
  pressure?: number;
}

export interface StrokeOptions {
  tool: Tool;
  /** Region painted; an eraser leaves background, whatever this is. */
  region: number;
  /** Diameter in pixels, of brush, eraser and edge. */
  size: number;
  /** Share of the radius that is painted fully, in [0, 1]; soft planes only. */
  hardness?: number;
  /** In [0, 1], never exceeded within one stroke; soft planes only. */
  opacity?: number;
  /** Whether pressure changes the size (ids) or the opacity (soft planes). */
  pressure?: boolean;
  /** Regions whose pixels stay as they are. */
  locked?: ReadonlySet<number>;
  /** "ids" paints labels, "soft" the soft plane of `region` alone. */
  mode?: "ids" | "soft";
  /** Erase instead of paint, for lasso, polygon, edge and fill. */
  erase?: boolean;
  /** Touch only pixels of this region. */
  only?: number;
  /** Of lasso ("nonzero" by itself) and polygon ("evenodd"). */
  rule?: FillRule;
  /** Of edge, and of fill by colour: largest difference of a channel, in levels. */
  tolerance?: number;
  /** Of fill: only what hangs together with the point (true), or all alike. */
  contiguous?: boolean;
  /** Of edge, and of fill by colour (left out: fill goes by labels). */
  picture?: Picture;
}

/** The settings of a stroke on soft planes, as they are logged. */
export interface SoftRecord extends Omit<StrokeOptions, "locked" | "picture"> {
  locked: number[];
}

/** An entry of the log that `frisket masks replay` reads; see frisket.masks.painting.strokes. */
export type Op =
  | { op: "stroke"; id: number; points: number[]; locked: number[]; only: number | null }
  | {
      op: "polygon";
      id: number;
      points: number[];
      rule: FillRule;
      locked: number[];
      only: number | null;
    }
  | {
      op: "fill";
      id: number;
      x: number;
      y: number;
      contiguous: boolean;
      locked: number[];
      only: number | null;
    }
  | { op: "pixels"; name: string; plane: number; spans: Int32Array; values: Uint8Array }
  | { op: "soft"; stroke: SoftRecord; points: number[]; pressures: number[] }
  | { op: "undo" }
  | { op: "redo" };

export const NAMES: Record<Tool, string> = {
  brush: "Brush",
  eraser: "Eraser",
  edge: "Edge brush",
  lasso: "Lasso",
  polygon: "Polygon",
  fill: "Fill",
};

/** What is laid down where: the ids a pixel may have for a stroke to change it. */
export function findAllowed(
  target: number,
  locked: ReadonlySet<number> | undefined,
  only: number | undefined,
): Uint8Array | null {
  if (!locked?.size && only === undefined) return null;
  const allowed = new Uint8Array(256);
  for (let id = 0; id < 256; id++) {
    allowed[id] = id !== target && !locked?.has(id) && (only === undefined || id === only) ? 1 : 0;
  }
  return allowed;
}
