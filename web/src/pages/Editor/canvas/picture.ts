// The picture under the mask: levels and tiles of a still, or one frame of a video. What is not
// there yet is shown from the coarser level; what is out of sight is not fetched.
import { raw } from "../../../lib/api.ts";
import { toImage, type Rect, type Size, type View } from "./view.ts";

export interface PictureSize extends Size {
  levels: number;
  version: string;
  tile: number;
}

/** Where the pixels of one level or tile are fetched: paths below /api. */
export interface PictureSource extends PictureSize {
  levelAddress(level: number): string;
  tileAddress(level: number, column: number, row: number): string;
  exactAddress(): string;
}

export interface Tile {
  level: number;
  column: number;
  row: number;
}

const KEPT = 160; // tiles of 512 x 512, about 160 MiB
const AT_ONCE = 4; // requests on their way; the browser has six for all of the page

/** The level whose pixels are no larger than the canvas' own, as far as there are levels. */
export function chooseLevel(scale: number, levels: number): number {
  const level = Math.floor(Math.log2(1 / Math.max(scale, 1e-6)) + 1e-6);
  return Math.min(Math.max(level, 0), levels - 1);
}

/** The tiles of a level that are in sight, the middle of the canvas first. */
export function listTiles(size: PictureSize, view: View, canvas: Size, level: number): Tile[] {
  const step = size.tile << level;
  const [left, top] = toImage(view, 0, 0);
  const [right, bottom] = toImage(view, canvas.width, canvas.height);
  const columns = Math.ceil(size.width / step);
  const rows = Math.ceil(size.height / step);
  const tiles: (Tile & { far: number })[] = [];
  const middle = [(left + right) / 2 / step, (top + bottom) / 2 / step] as const;
  const last = {
    column: Math.min(Math.floor(right / step), columns - 1),
    row: Math.min(Math.floor(bottom / step), rows - 1),
  };
  for (let row = Math.max(Math.floor(top / step), 0); row <= last.row; row++)
    for (let column = Math.max(Math.floor(left / step), 0); column <= last.column; column++)
      tiles.push({
        level,
        column,
        row,
        far: Math.hypot(column + 0.5 - middle[0], row + 0.5 - middle[1]),
      });
  return tiles.sort((first, second) => first.far - second.far);
}

export class PictureLayer {
  private readonly tiles = new Map<string, ImageBitmap>();
  private readonly failed = new Set<string>();
  private readonly fetching = new Map<string, AbortController>();
  private wanted: Tile[] = [];
  private first: ImageBitmap | null = null;
  private closed = false;

  constructor(
    readonly source: PictureSource,
    private readonly changed: () => void,
    private readonly told: (message: string) => void,
  ) {}

  /** Fetch the coarsest level, which stands in for everything until its tiles come. */
  async open(): Promise<void> {
    const bitmap = await fetchBitmap(this.source.levelAddress(this.source.levels - 1));
    if (this.closed) return bitmap.close();
    this.first = bitmap;
    this.changed();
  }

  draw(context: CanvasRenderingContext2D, view: View, canvas: Size, ratio: number): void {
    context.clearRect(0, 0, canvas.width, canvas.height);
    const { source } = this;
    // Above 200 % the pixels themselves are what one wants to see.
    context.imageSmoothingEnabled = view.scale < 2 * ratio;
    context.imageSmoothingQuality = view.scale < 1 ? "medium" : "low";
    if (this.first) {
      const whole = { left: 0, top: 0, right: source.width, bottom: source.height };
      drawRounded(context, this.first, view, whole);
    }
    const level = chooseLevel(view.scale, source.levels);
    if (level === source.levels - 1) return this.want([]);
    const tiles = listTiles(source, view, canvas, level);
    const missing: Tile[] = [];
    for (const tile of tiles) {
      const key = `${tile.level}/${tile.column}/${tile.row}`;
      const bitmap = this.tiles.get(key);
      if (!bitmap) {
        if (!this.failed.has(key)) missing.push(tile);
        continue;
      }
      this.tiles.delete(key); // to the young end
      this.tiles.set(key, bitmap);
      drawRounded(context, bitmap, view, this.placeTile(tile));
    }
    this.want(missing);
  }

  close(): void {
    this.closed = true;
    for (const request of this.fetching.values()) request.abort();
    for (const bitmap of this.tiles.values()) bitmap.close();
    this.tiles.clear();
    this.first?.close();
    this.first = null;
  }

  private placeTile(tile: Tile): Rect {
    const step = this.source.tile << tile.level;
    return {
      left: tile.column * step,
      top: tile.row * step,
      right: Math.min((tile.column + 1) * step, this.source.width),
      bottom: Math.min((tile.row + 1) * step, this.source.height),
    };
  }

  private want(tiles: Tile[]): void {
    this.wanted = tiles;
    const keys = new Set(tiles.map((tile) => `${tile.level}/${tile.column}/${tile.row}`));
    for (const [key, request] of this.fetching) if (!keys.has(key)) request.abort();
    this.fetchNext();
  }

  private fetchNext(): void {
    for (const tile of this.wanted) {
      if (this.fetching.size >= AT_ONCE) return;
      const key = `${tile.level}/${tile.column}/${tile.row}`;
      if (!this.fetching.has(key) && !this.tiles.has(key) && !this.failed.has(key))
        void this.fetchTile(tile, key);
    }
  }

  private async fetchTile(tile: Tile, key: string): Promise<void> {
    const request = new AbortController();
    this.fetching.set(key, request);
    try {
      const address = this.source.tileAddress(tile.level, tile.column, tile.row);
      const bitmap = await fetchBitmap(address, request.signal);
      if (this.closed) return bitmap.close();
      this.tiles.set(key, bitmap);
      this.forgetOldest();
      this.changed();
    } catch (error) {
      if (request.signal.aborted) return;
      this.failed.add(key); // tried once: a broken file is told, not asked for in a loop
      this.told(error instanceof Error ? error.message : String(error));
    } finally {
      this.fetching.delete(key);
      if (!this.closed) this.fetchNext();
    }
  }

  private forgetOldest(): void {
    for (const [key, bitmap] of this.tiles) {
      if (this.tiles.size <= KEPT) return;
      bitmap.close();
      this.tiles.delete(key);
    }
  }
}

/** Edges fall on whole canvas pixels, so that neighbouring tiles leave no seam. */
function drawRounded(
  context: CanvasRenderingContext2D,
  bitmap: ImageBitmap,
  view: View,
  place: Rect,
): void {
  const left = Math.round(place.left * view.scale + view.x);
  const top = Math.round(place.top * view.scale + view.y);
  const right = Math.round(place.right * view.scale + view.x);
  const bottom = Math.round(place.bottom * view.scale + view.y);
  if (right <= 0 || bottom <= 0 || left >= context.canvas.width || top >= context.canvas.height)
    return;
  context.drawImage(bitmap, left, top, Math.max(right - left, 1), Math.max(bottom - top, 1));
}

async function fetchBitmap(path: string, signal?: AbortSignal): Promise<ImageBitmap> {
  const response = await raw(path, { signal: signal ?? null });
  return createImageBitmap(await response.blob(), { colorSpaceConversion: "none" });
}

/** All pixels of the picture as RGBA, for the tools that look at colours. */
export async function fetchPixels(source: PictureSource): Promise<Uint8ClampedArray> {
  const bitmap = await fetchBitmap(source.exactAddress());
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true })!;
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, canvas.width, canvas.height).data;
}

export function describeStill(clip: string, size: PictureSize): PictureSource {
  const base = `/clips/${encodeURIComponent(clip)}/picture/${size.version}`;
  return {
    ...size,
    levelAddress: (level) => `${base}/${level}`,
    tileAddress: (level, column, row) => `${base}/${level}/${column}/${row}`,
    exactAddress: () => `${base}/0?exact=1`,
  };
}

/** One frame of a video, shown whole. */
export function describeFrame(clip: string, frame: number, size: Size): PictureSource {
  const base = `/clips/${encodeURIComponent(clip)}/frames/${frame}`;
  return {
    ...size,
    levels: 1,
    version: String(frame),
    tile: 1 << 20,
    levelAddress: () => base,
    tileAddress: () => base,
    exactAddress: () => `${base}?exact=1`,
  };
}
