/** Where tiles lie in a grid of thousands of which only those in view are drawn: pure. */

export interface GridShape {
  columns: number;
  /** Width of a tile, and height of a row with its gap; CSS pixels. */
  tile: number;
  row: number;
  rows: number;
  height: number;
}

export const GAP = 8;
const CAPTION = 22; // below each picture
const PAD = 12;

/** The grid of `count` tiles at least `wanted` wide in `width`; the last column ends flush. */
export function shapeGrid(width: number, count: number, wanted: number): GridShape {
  const room = Math.max(width - 2 * PAD, wanted);
  const columns = Math.max(1, Math.floor((room + GAP) / (wanted + GAP)));
  const tile = Math.floor((room - (columns - 1) * GAP) / columns);
  const row = tile + CAPTION + GAP;
  const rows = Math.ceil(count / columns);
  return { columns, tile, row, rows, height: rows * row + 2 * PAD - (rows ? GAP : 0) };
}

/** First and one past the last tile in view, with `extra` rows around it. */
export function spanView(
  grid: GridShape,
  count: number,
  top: number,
  height: number,
  extra: number,
): [number, number] {
  const first = Math.max(0, Math.floor((top - PAD) / grid.row) - extra);
  const last = Math.min(grid.rows, Math.ceil((top + height - PAD) / grid.row) + extra);
  return [Math.min(first * grid.columns, count), Math.min(last * grid.columns, count)];
}

/** Left and top of a tile. */
export function placeTile(grid: GridShape, at: number): { left: number; top: number } {
  const column = at % grid.columns;
  const row = Math.floor(at / grid.columns);
  return { left: PAD + column * (grid.tile + GAP), top: PAD + row * grid.row };
}

/** How far to scroll so that a tile is wholly in view; `top` where it is. */
export function revealTile(grid: GridShape, at: number, top: number, height: number): number {
  const place = placeTile(grid, at).top;
  if (place - PAD < top) return Math.max(0, place - PAD);
  const bottom = place + grid.row + PAD;
  return bottom > top + height ? bottom - height : top;
}
