/** Paintings on the server: numbers of LoRAs, deflated. */

import { raw } from "../../../lib/api.ts";

async function pipe(bytes: Uint8Array, through: GenericTransformStream): Promise<Uint8Array> {
  const stream = new Blob([bytes as BlobPart]).stream().pipeThrough(through);
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

export interface Kept {
  id: string;
  shares: Record<string, number>;
}

/** Keep a painting; its id goes into the request. */
export async function savePainting(ids: Uint8Array, width: number, height: number): Promise<Kept> {
  const body = await pipe(ids, new CompressionStream("deflate"));
  const answer = await raw(`/generate/paintings?width=${width}&height=${height}`, {
    method: "POST",
    body: body as BodyInit,
    headers: { "Content-Type": "application/octet-stream" },
  });
  return (await answer.json()) as Kept;
}

/** An earlier painting, with its size. */
export async function readPainting(
  id: string,
): Promise<{ ids: Uint8Array; width: number; height: number }> {
  const answer = await raw(`/generate/paintings/${id}`);
  const [width = 0, height = 0] = (answer.headers.get("X-Frisket-Size") ?? "")
    .split(" ")
    .map(Number);
  const deflated = new Uint8Array(await answer.arrayBuffer());
  return { ids: await pipe(deflated, new DecompressionStream("deflate")), width, height };
}

/** The share of the picture that each number covers. */
export function measureShares(ids: Uint8Array): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const id of ids) if (id) counts[id] = (counts[id] ?? 0) + 1;
  for (const id of Object.keys(counts)) counts[id] = (counts[id] ?? 0) / ids.length;
  return counts;
}
