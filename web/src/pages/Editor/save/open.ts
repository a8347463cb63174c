// A clip's picture and mask as they are on the server.
import { get, raw } from "../../../lib/api.ts";
import type { Clip } from "../../../lib/workspace.svelte.ts";
import {
  describeFrame,
  describeStill,
  type PictureSize,
  type PictureSource,
} from "../canvas/picture.ts";
import type { LegendEntry } from "../palette/regions.ts";

export interface MaskInfo {
  width: number;
  height: number;
  revision: string;
  legend: LegendEntry[];
  background: number;
  truth: "ids" | "soft";
  soft: string[]; // names of regions that have a soft plane
  form: string;
  editable: boolean;
  why: string; // not editable
  offer: string;
  frame: number;
  frame_count: number;
  notes: string[];
}

export interface ReadMask {
  info: MaskInfo;
  ids: Uint8Array;
  soft: Map<number, Uint8Array>;
}

interface FramesAnswer {
  width: number;
  height: number;
}

export async function openPicture(clip: Clip, frame: number): Promise<PictureSource> {
  if (!clip.video)
    return describeStill(clip.id, await get<PictureSize>(`/clips/${clip.id}/picture`));
  const { width, height } = await get<FramesAnswer>(`/clips/${clip.id}/frames`);
  return describeFrame(clip.id, frame, { width, height });
}

/** A mask with its soft planes, all of one revision. */
export async function readMask(clip: string, frame: number): Promise<ReadMask> {
  for (;;) {
    const { info, plane } = await readPlane(`/clips/${clip}/mask?frame=${frame}`);
    const named = info.legend.filter((entry) => info.soft.includes(entry.name));
    const planes = await Promise.all(
      named.map((entry) =>
        readPlane(`/clips/${clip}/mask/soft/${encodeURIComponent(entry.name)}?frame=${frame}`),
      ),
    );
    // Saved by somebody between two of the requests: once more, or planes of two masks are mixed.
    if (planes.some((read) => read.info.revision !== info.revision)) continue;
    const soft = new Map(named.map((entry, index) => [entry.id, planes[index]!.plane]));
    return { info, ids: plane, soft };
  }
}

async function readPlane(path: string): Promise<{ info: MaskInfo; plane: Uint8Array }> {
  const response = await raw(path);
  const info = JSON.parse(response.headers.get("X-Frisket-Mask") ?? "{}") as MaskInfo;
  const body = response.body!.pipeThrough(new DecompressionStream("deflate"));
  const plane = new Uint8Array(await new Response(body).arrayBuffer());
  if (plane.length !== info.width * info.height)
    throw new Error(`the mask has ${plane.length} pixels, not ${info.width} × ${info.height}`);
  return { info, plane };
}

export function checkSizes(picture: PictureSource, mask: { width: number; height: number }): void {
  if (picture.width === mask.width && picture.height === mask.height) return;
  const sizes = [mask, picture].map(({ width, height }) => `${width} × ${height}`);
  throw new Error(`the mask is ${sizes[0]} pixels, the picture ${sizes[1]}`);
}
