// Outlines of a label map: what an onion skin shows of the frames before and after.

/** Pixels of regions that touch another id (above, below, beside), as `id` where they do, else 0. */
export function traceOutline(
  ids: Uint8Array,
  width: number,
  height: number,
  thick = 1,
): Uint8Array {
  const out = new Uint8Array(ids.length);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const at = y * width + x;
      const id = ids[at]!;
      if (!id) continue;
      for (let far = 1; far <= thick; far++) {
        const differs =
          (x >= far && ids[at - far] !== id) ||
          (x + far < width && ids[at + far] !== id) ||
          (y >= far && ids[at - far * width] !== id) ||
          (y + far < height && ids[at + far * width] !== id);
        if (differs) {
          out[at] = id;
          break;
        }
      }
    }
  return out;
}

/** "#rrggbb" and an opacity as a pixel of ImageData, read as a little-endian word. */
export function packColour(colour: string, opacity: number): number {
  const value = Number.parseInt(colour.slice(1), 16);
  const [red, green, blue] = [(value >> 16) & 255, (value >> 8) & 255, value & 255];
  return ((Math.round(opacity * 255) << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

/** Ids as a picture by a table of 256 pixels. */
export function tintIds(
  ids: Uint8Array,
  width: number,
  height: number,
  table: Uint32Array,
): ImageData {
  const pixels = new Uint32Array(ids.length);
  for (let at = 0; at < ids.length; at++) pixels[at] = table[ids[at]!]!;
  return new ImageData(new Uint8ClampedArray(pixels.buffer), width, height);
}
