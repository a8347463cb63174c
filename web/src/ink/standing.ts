/** How a document stands to a mask of the server. */

import type { MaskDoc } from "./doc";
import { IDS, type TileDelta, checksum, writeRuns } from "./tiles";

interface Planes {
  ids: Uint8Array;
  soft: Map<number, Uint8Array>;
}

/** A sum of what is saved of a mask: its ids, or its soft planes; empty planes count as none. */
export function sumOf(truth: "ids" | "soft", { ids, soft }: Planes): string {
  const planes = [...soft].filter(([, plane]) => plane.some(Boolean));
  planes.sort(([one], [other]) => one - other);
  return checksum([...(truth === "ids" ? [ids] : []), ...planes.map(([, plane]) => plane)]);
}

/** What leads from their mask to the document; the tiles that differ are marked to be saved. */
export function compareMasks(doc: MaskDoc, theirs: Planes): TileDelta[] {
  const planes: [number, Uint8Array][] = [...theirs.soft];
  for (const region of doc.soft.keys()) {
    if (!theirs.soft.has(region)) planes.push([region, new Uint8Array(doc.ids.length)]);
  }
  if (doc.truth === "ids") planes.push([IDS, theirs.ids]);
  const { tiling } = doc;
  const deltas: TileDelta[] = [];
  for (const [plane, content] of planes) {
    for (let tile = 0; tile < tiling.across * tiling.down; tile++) {
      const mine = tiling.copy(doc.plane(plane), tile);
      const runs = writeRuns(tiling.copy(content, tile), mine);
      if (!runs) continue;
      deltas.push({ plane, tile, runs });
      doc.touch(plane, tile, ["sync"]);
    }
  }
  return deltas;
}
