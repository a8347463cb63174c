/** The planes of a mask, which of their tiles are dirty, and what differences do to them. */

import { IDS, type TileDelta, type TileRect, Tiling } from "./tiles";

const HALF = 128; // a soft pixel of at least this counts as its region's where ids are shown

export interface DocOptions {
  frame?: number;
  /** The id of what no region covers. */
  background?: number;
  soft?: Map<number, Uint8Array>;
  /** "soft" where planes are what is saved and the ids only show the strongest of them. */
  truth?: "ids" | "soft";
}

/** Who takes dirty tiles: the view redraws them, saving sends them; neither sees the other's. */
export type Channel = "view" | "sync";

export abstract class MaskPlanes {
  readonly ids: Uint8Array;
  readonly soft: Map<number, Uint8Array>;
  readonly frame: number;
  readonly background: number;
  readonly truth: "ids" | "soft";
  readonly tiling: Tiling;
  /** Rises with every change, strokes under way included. */
  version = 0;

  private readonly dirty: Record<Channel, Map<number, Uint8Array>> = {
    view: new Map(),
    sync: new Map(),
  };

  constructor(
    readonly width: number,
    readonly height: number,
    ids?: Uint8Array,
    options: DocOptions = {},
  ) {
    if (!(width > 0 && height > 0 && Number.isInteger(width) && Number.isInteger(height))) {
      throw new RangeError(`a mask of ${width} x ${height} pixels`);
    }
    this.ids = ids ?? new Uint8Array(width * height).fill(options.background ?? 0);
    this.soft = options.soft ?? new Map();
    this.frame = options.frame ?? 0;
    this.background = options.background ?? 0;
    this.truth = options.truth ?? "ids";
    this.tiling = new Tiling(width, height);
    for (const plane of [this.ids, ...this.soft.values()]) {
      if (plane.length !== width * height) {
        throw new RangeError(`${plane.length} ids for ${width} x ${height} pixels`);
      }
    }
    if (this.truth === "soft") deriveIds(this, { x: 0, y: 0, w: width, h: height });
  }

  /** Whether a stroke is under way; nothing is saved then. */
  abstract get busy(): boolean;

  /** The soft plane of a region, made blank where there was none. */
  softPlane(region: number): Uint8Array {
    let plane = this.soft.get(region);
    if (!plane) this.soft.set(region, (plane = new Uint8Array(this.ids.length)));
    return plane;
  }

  plane(plane: number): Uint8Array {
    return plane === IDS ? this.ids : this.softPlane(plane);
  }

  /** Lay the differences of a step over the planes: undo where it is done, redo where it is undone. */
  toggle(deltas: readonly TileDelta[]): void {
    if (this.busy) throw new Error("a stroke is under way; end it first");
    for (const { plane, tile, runs } of deltas) {
      this.tiling.toggle(this.plane(plane), tile, runs);
      this.touch(plane, tile);
    }
    this.showPlanes(deltas.map(({ tile }) => tile));
    this.version++;
  }

  /** Tiles changed since the last call, each once, whatever the plane; for drawing. */
  takeDirty(): TileRect[] {
    const tiles = new Set<number>();
    for (const [, marks] of this.takePlanes("view")) for (const tile of marks) tiles.add(tile);
    if (this.busy) this.showPlanes(tiles);
    return [...tiles].sort((one, other) => one - other).map((tile) => this.tiling.rect(tile));
  }

  /** Tiles changed since the last call by plane, in order; for saving. */
  takePlanes(channel: Channel): Map<number, number[]> {
    const taken = new Map<number, number[]>();
    for (const [plane, marks] of this.dirty[channel]) {
      if (this.truth === "soft" && plane === IDS && channel === "sync") continue;
      const tiles: number[] = [];
      marks.forEach((mark, tile) => mark && tiles.push(tile));
      if (tiles.length) taken.set(plane, tiles);
    }
    this.dirty[channel].clear();
    return taken;
  }

  /** Mark tiles as changed again, such as those whose saving failed. */
  touch(plane: number, tile: number, channels: readonly Channel[] = ["view", "sync"]): void {
    for (const channel of channels) {
      let marks = this.dirty[channel].get(plane);
      if (!marks) {
        marks = new Uint8Array(this.tiling.across * this.tiling.down);
        this.dirty[channel].set(plane, marks);
      }
      marks[tile] = 1;
    }
  }

  /** Whether a channel has tiles to take. */
  hasDirty(channel: Channel): boolean {
    return this.dirty[channel].size > 0;
  }

  /** Where planes are the truth, show in the ids what they now say within some tiles. */
  protected showPlanes(tiles: Iterable<number>): void {
    if (this.truth === "ids") return;
    for (const tile of new Set(tiles)) deriveIds(this, this.tiling.rect(tile));
  }
}

/** Where planes are the truth: the ids within a rectangle, the strongest plane of at least a half. */
export function deriveIds(doc: MaskPlanes, rect: TileRect): void {
  const { ids, width, background } = doc;
  const planes = [...doc.soft];
  for (let y = rect.y; y < rect.y + rect.h; y++) {
    for (let x = rect.x, at = y * width + rect.x; x < rect.x + rect.w; x++, at++) {
      let best = HALF - 1,
        id = background;
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
