/** Where one cell of a sheet of previews lies, as the sheet was laid out by `frisket train`. */

const MARGIN = 4; // pixels between and around the cells

export interface Crop {
  /** Size of what is shown, in pixels of the file. */
  width: number;
  height: number;
  /** The whole file, in sizes of what is shown; and how far what is shown lies in it. */
  across: number;
  down: number;
  left: number;
  top: number;
}

/** The whole picture, or the cell of a sheet: its label is shown too, the margin is not. */
export function findCrop(
  width: number,
  height: number,
  grid?: { rows: number; columns: number; row: number; column: number },
): Crop {
  if (!grid || !width || !height) {
    return { width: width || 1, height: height || 1, across: 1, down: 1, left: 0, top: 0 };
  }
  const wide = Math.floor((width - MARGIN) / grid.columns);
  const tall = Math.floor((height - MARGIN) / grid.rows);
  const cell = { width: Math.max(1, wide - MARGIN), height: Math.max(1, tall - MARGIN) };
  return {
    ...cell,
    across: width / cell.width,
    down: height / cell.height,
    left: (MARGIN + grid.column * wide) / cell.width,
    top: (MARGIN + grid.row * tall) / cell.height,
  };
}

/** Zoom by `factor` at a point, so that what is under it stays; pictures never leave their frame. */
export function zoomAt(
  view: { scale: number; x: number; y: number },
  factor: number,
  at: { x: number; y: number },
  size: { width: number; height: number },
): { scale: number; x: number; y: number } {
  const scale = Math.min(32, Math.max(1, view.scale * factor));
  const grown = scale / view.scale;
  return hold(
    { scale, x: at.x - (at.x - view.x) * grown, y: at.y - (at.y - view.y) * grown },
    size,
  );
}

/** The same view with no gap at an edge. */
export function hold(
  view: { scale: number; x: number; y: number },
  size: { width: number; height: number },
): { scale: number; x: number; y: number } {
  const least = { x: size.width * (1 - view.scale), y: size.height * (1 - view.scale) };
  return {
    scale: view.scale,
    x: Math.min(0, Math.max(least.x, view.x)),
    y: Math.min(0, Math.max(least.y, view.y)),
  };
}
