// What the palette knows of a region, and how much of the mask each has.
export interface PaletteRegion {
  id: number; // in the mask
  name: string;
  colour: string; // "#rrggbb"
  weight: number | null; // null where no configuration gives it one
  hidden: boolean;
  locked: boolean;
  key: string; // "1" to "9", "0" for the background, "" beyond
}

export interface LegendEntry {
  id: number;
  name: string;
  colour: string;
  weight: number | null;
}

/** Regions in the legend's order with their keys; what was hidden or locked stays so by name. */
export function layPalette(
  legend: LegendEntry[],
  background: number,
  before: PaletteRegion[],
): PaletteRegion[] {
  const known = new Map(before.map((region) => [region.name, region]));
  let key = 0;
  return legend.map((entry) => ({
    ...entry,
    hidden: known.get(entry.name)?.hidden ?? false,
    locked: known.get(entry.name)?.locked ?? false,
    key: entry.id === background ? "0" : ++key < 10 ? String(key) : "",
  }));
}

const ORDER = "frisket-order-"; // and the set's id: the order of its regions, by name

export function recallOrder(set: string): string[] {
  try {
    const names: unknown = JSON.parse(localStorage.getItem(ORDER + set) ?? "[]");
    return Array.isArray(names) ? names.filter((name) => typeof name === "string") : [];
  } catch {
    return [];
  }
}

export function rememberOrder(set: string, names: string[]): void {
  localStorage.setItem(ORDER + set, JSON.stringify(names));
}

/** The legend in an order of names; what the order does not name keeps its place at the end. */
export function sortLegend(
  legend: LegendEntry[],
  background: number,
  names: string[],
): LegendEntry[] {
  const place = (entry: LegendEntry) =>
    entry.id === background
      ? names.length + 1
      : names.includes(entry.name)
        ? names.indexOf(entry.name)
        : names.length;
  return legend
    .map((entry, index) => ({ entry, index }))
    .sort((first, second) => place(first.entry) - place(second.entry) || first.index - second.index)
    .map(({ entry }) => entry);
}

/** Share of all pixels of each of 256 ids, in [0, 1]. */
export function measureShares(ids: Uint8Array): Float64Array<ArrayBuffer> {
  const counts = new Float64Array(256);
  // Four counters a turn: neighbouring pixels mostly share an id, and one counter would wait for itself.
  const lanes = [
    new Uint32Array(256),
    new Uint32Array(256),
    new Uint32Array(256),
    new Uint32Array(256),
  ] as const;
  const whole = ids.length - (ids.length % 4);
  for (let at = 0; at < whole; at += 4) {
    lanes[0][ids[at]!]!++;
    lanes[1][ids[at + 1]!]!++;
    lanes[2][ids[at + 2]!]!++;
    lanes[3][ids[at + 3]!]!++;
  }
  for (let at = whole; at < ids.length; at++) lanes[0][ids[at]!]!++;
  for (let id = 0; id < 256; id++)
    counts[id] =
      (lanes[0][id]! + lanes[1][id]! + lanes[2][id]! + lanes[3][id]!) / Math.max(ids.length, 1);
  return counts;
}

export function formatCoverage(share: number): string {
  if (share === 0) return "0 %";
  const percent = share * 100;
  return percent < 0.01
    ? "< 0.01 %"
    : `${percent < 10 ? percent.toFixed(2) : percent.toFixed(1)} %`;
}
