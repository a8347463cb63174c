/** How the grid is shown; remembered by this browser. */

const KEY = "frisket-data-view";

interface Kept {
  tile: number;
  overlay: boolean;
  opacity: number;
  side: boolean;
}

function recall(): Kept {
  const usual = { tile: 168, overlay: true, opacity: 0.7, side: true };
  try {
    return { ...usual, ...(JSON.parse(localStorage.getItem(KEY) ?? "{}") as Partial<Kept>) };
  } catch {
    return usual;
  }
}

export const view: Kept = $state(recall());

export function remember(): void {
  localStorage.setItem(KEY, JSON.stringify(view));
}

/** The picture to ask for, of the sizes that are kept: sharp on dense screens, not larger. */
export function thumbSize(tile: number): number {
  return Math.min(512, tile * Math.min(devicePixelRatio, 2) > 200 ? 384 : 192);
}
