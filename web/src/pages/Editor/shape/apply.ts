// What the ids would be if a region had another shape: for a look before it is done.
import type { MaskDoc } from "../../../ink/doc.ts";

const HALF = 128;

/** As `MaskDoc.replaceFrom(plane, "replace")` leaves the ids; a soft plane counts from its half on. */
export function rewriteRegion(
  doc: MaskDoc,
  region: number,
  plane: Uint8Array,
  locked: ReadonlySet<number>,
  soft: boolean,
): Uint8Array {
  const ids = doc.ids.slice();
  const least = soft ? HALF : 1;
  const fixed = new Uint8Array(256);
  for (const id of locked) fixed[id] = 1;
  for (let at = 0; at < ids.length; at++) {
    const id = ids[at]!;
    if (fixed[id]) continue;
    if (plane[at]! >= least) ids[at] = region;
    else if (id === region) ids[at] = doc.background;
  }
  return ids;
}
