/** One step in the making: which tiles are touched, what they held before, what came of it. */

import { IDS, type TileDelta, TILE, Tiling, writeRuns } from "./tiles";

/** Looks a plane up by its number (IDS, or the region of a soft plane). */
export type PlaneOf = (plane: number) => Uint8Array;

export class Changes {
  private readonly before = new Map<number, (Uint8Array | undefined)[]>();

  constructor(
    private readonly tiling: Tiling,
    private readonly planeOf: PlaneOf,
    private readonly touch: (plane: number, tile: number) => void,
  ) {}

  /** Keep what a tile holds, once a step, and mark it dirty; call it before anything is written. */
  capture(plane: number, tile: number): Uint8Array {
    let tiles = this.before.get(plane);
    if (!tiles) this.before.set(plane, (tiles = []));
    let content = tiles[tile];
    if (!content) tiles[tile] = content = this.tiling.copy(this.planeOf(plane), tile);
    this.touch(plane, tile);
    return content;
  }

  /** Capture the tiles of a run of pixels in row `y`. */
  captureRow(plane: number, y: number, start: number, end: number): void {
    const first = Math.floor(y / TILE) * this.tiling.across;
    const last = first + Math.floor((end - 1) / TILE);
    for (let tile = first + Math.floor(start / TILE); tile <= last; tile++) {
      this.capture(plane, tile);
    }
  }

  /** Put every tile back as it was. */
  revert(): void {
    for (const [plane, tiles] of this.before) {
      tiles.forEach((content, tile) => {
        if (!content) return;
        this.tiling.paste(this.planeOf(plane), tile, content);
        this.touch(plane, tile);
      });
    }
    this.before.clear();
  }

  /** The differences, smallest first plane first; tiles that are as before are left out. */
  finish(): TileDelta[] {
    const deltas: TileDelta[] = [];
    for (const [plane, tiles] of this.before) {
      tiles.forEach((content, tile) => {
        if (!content) return;
        const runs = writeRuns(content, this.tiling.copy(this.planeOf(plane), tile));
        if (runs) deltas.push({ plane, tile, runs });
      });
    }
    return deltas;
  }

  /** The pixels of one plane that changed, as runs with what they hold now: for the log of edits. */
  listPixels(plane: number): { spans: Int32Array; values: Uint8Array } {
    const spans: number[] = [],
      values: number[] = [],
      content = this.planeOf(plane);
    const width = this.tiling.width;
    (this.before.get(plane) ?? []).forEach((old, tile) => {
      if (!old) return;
      const { x, y, w, h } = this.tiling.rect(tile);
      for (let row = 0; row < h; row++) {
        for (let column = 0; column < w; column++) {
          const at = (y + row) * width + x + column;
          if (content[at] === old[row * w + column]) continue;
          const length = spans.length;
          if (spans[length - 3] === y + row && spans[length - 1] === x + column) {
            spans[length - 1] = x + column + 1;
          } else {
            spans.push(y + row, x + column, x + column + 1);
          }
          values.push(content[at]!);
        }
      }
    });
    return { spans: Int32Array.from(spans), values: Uint8Array.from(values) };
  }

  get planes(): number[] {
    return [...this.before.keys()];
  }
}

export { IDS };
