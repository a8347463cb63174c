// A clip's picture and mask as they are on the server.
import { get } from "../../../lib/api.ts";
import { describeFrame, describeStill, type PictureSize, type PictureSource } from "../canvas/picture.ts";
import type { Clip } from "../../../lib/workspace.svelte.ts";

interface FramesAnswer {
  width: number;
  height: number;
  count: number;
}

export async function openPicture(clip: Clip, frame: number): Promise<PictureSource> {
  if (!clip.video) return describeStill(clip.id, await get<PictureSize>(`/clips/${clip.id}/picture`));
  const { width, height } = await get<FramesAnswer>(`/clips/${clip.id}/frames`);
  return describeFrame(clip.id, frame, { width, height });
}
