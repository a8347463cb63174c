// Grow, fill and feather of whole planes, away from the thread that draws.
import { featherPlane, fillMask, growMask } from "../../../ink/regions.ts";

export interface ShapeRequest {
  number: number;
  mask: Uint8Array; // 0 and 1
  width: number;
  height: number;
  grow: number;
  fill: boolean;
  feather: number; // above 0: the answer is a soft plane of 0 to 255
}

export interface ShapeAnswer {
  number: number;
  plane: Uint8Array;
}

self.onmessage = (event: MessageEvent<ShapeRequest>) => {
  const { number, width, height, grow, fill, feather } = event.data;
  let plane = event.data.mask;
  if (fill) plane = fillMask(plane, width, height);
  if (grow) plane = growMask(plane, width, height, grow);
  if (feather)
    plane = featherPlane(
      plane.map((value) => value * 255),
      width,
      height,
      feather,
    );
  const answer: ShapeAnswer = { number, plane };
  self.postMessage(answer, { transfer: [plane.buffer] });
};
