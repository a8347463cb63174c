// Another clip's mask, laid over this one's size.
import type { Clip } from "../../../lib/workspace.svelte.ts";
import { readMask } from "../save/open.ts";

interface Size {
  width: number;
  height: number;
}

/** The ids of another clip's mask; of another size by the nearest pixel, which is said. */
export async function copyMask(
  other: Clip,
  size: Size,
): Promise<{ ids: Uint8Array; stretched: string }> {
  const { info, ids } = await readMask(other.id, 0);
  if (info.width === size.width && info.height === size.height) return { ids, stretched: "" };
  const stretched = `The mask of ${other.name} was ${info.width} × ${info.height} pixels; it was stretched.`;
  return { ids: stretchIds(ids, info, size), stretched };
}

export function stretchIds(ids: Uint8Array, from: Size, to: Size): Uint8Array {
  const columns = Int32Array.from({ length: to.width }, (_, x) =>
    Math.floor(((x + 0.5) * from.width) / to.width),
  );
  const copy = new Uint8Array(to.width * to.height);
  for (let y = 0; y < to.height; y++) {
    const row = Math.floor(((y + 0.5) * from.height) / to.height) * from.width;
    for (let x = 0; x < to.width; x++) copy[y * to.width + x] = ids[row + columns[x]!]!;
  }
  return copy;
}
