/** Changes of a mask as one binary frame; frisket.studio.documents.wire reads it. */

import { deflate, packOp } from "./ops";
import type { Op } from "./stroke";

export interface PatchTile {
  plane: number;
  x: number;
  y: number;
  w: number;
  h: number;
  content: Uint8Array;
}

export interface Patch {
  frame: number;
  width: number;
  height: number;
  tiles: PatchTile[];
  ops: Op[];
}

/** `FMP1`, the header's length, the header as JSON, and the tiles' bytes deflated as one. */
export async function packPatch(patch: Patch): Promise<Uint8Array> {
  const tiles = patch.tiles.map(({ plane, x, y, w, h }) => ({ plane, x, y, w, h }));
  const edits = await Promise.all(patch.ops.map(packOp));
  const { frame, width, height } = patch;
  const header = new TextEncoder().encode(JSON.stringify({ frame, width, height, tiles, edits }));
  const contents = new Uint8Array(patch.tiles.reduce((sum, tile) => sum + tile.content.length, 0));
  let place = 0;
  for (const { content } of patch.tiles) {
    contents.set(content, place);
    place += content.length;
  }
  const body = await deflate(contents);
  const bytes = new Uint8Array(8 + header.length + body.length);
  bytes.set(new TextEncoder().encode("FMP1"));
  new DataView(bytes.buffer).setUint32(4, header.length, true);
  bytes.set(header, 8);
  bytes.set(body, 8 + header.length);
  return bytes;
}
