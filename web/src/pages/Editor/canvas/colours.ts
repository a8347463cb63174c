// The colour of every id at every place of the hatching, for the sampler.
import type { MaskDoc } from "../../../ink/doc.ts";
import { PATTERN, type MaskColours, type SoftLayer } from "./sampler.ts";

export interface RegionLook {
  id: number;
  colour: string; // "#rrggbb"
  hidden: boolean;
}

export interface MaskLook {
  opacity: number; // 0 to 1
  hatching: boolean;
  outlines: boolean;
  fill: boolean; // off: only outlines
  thickness: number; // canvas pixels of the outline
}

const IDS = 256;

export function parseColour(colour: string): [number, number, number] {
  const number = parseInt(colour.slice(1), 16);
  return [(number >> 16) & 255, (number >> 8) & 255, number & 255];
}

/** A pixel as a little-endian ImageData stores it. */
export function packPixel(red: number, green: number, blue: number, alpha: number): number {
  return ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

// Seven patterns of 8 x 8, told apart without colour: true where the stripe is.
const HATCHES: ((x: number, y: number) => boolean)[] = [
  (x, y) => (x + y) % 8 < 2, // rising lines
  (x, y) => (x - y + 8) % 8 < 2, // falling lines
  (_x, y) => y % 4 === 0, // level lines
  (x, _y) => x % 4 === 0, // upright lines
  (x, y) => x % 4 < 2 && y % 4 < 2, // dots
  (x, y) => (x + y) % 8 < 1 || (x - y + 8) % 8 < 1, // crossed lines
  (x, y) => x < 4 !== y < 4, // chequers
];

export function buildColours(regions: RegionLook[], look: MaskLook): MaskColours {
  const fill = new Uint32Array(IDS * PATTERN * PATTERN);
  const edge = new Uint32Array(IDS);
  const alpha = look.fill ? Math.round(look.opacity * 255) : 0;
  for (const region of regions) {
    if (region.hidden || region.id === 0) continue;
    const [red, green, blue] = parseColour(region.colour);
    const plain = packPixel(red, green, blue, alpha);
    const striped = stripe(red, green, blue, alpha);
    const hatch = HATCHES[(region.id - 1) % HATCHES.length]!;
    const start = region.id * PATTERN * PATTERN;
    for (let place = 0; place < PATTERN * PATTERN; place++) {
      const inStripe =
        look.hatching && alpha > 0 && hatch(place % PATTERN, Math.floor(place / PATTERN));
      fill[start + place] = inStripe ? striped : plain;
    }
    if (look.outlines) edge[region.id] = packPixel(red, green, blue, 255);
  }
  return { fill, edge, thickness: look.thickness };
}

/** The stripe of a region's hatching: darker on light colours, lighter on dark ones. */
function stripe(red: number, green: number, blue: number, alpha: number): number {
  const light = 0.299 * red + 0.587 * green + 0.114 * blue > 128;
  const change = (value: number) => Math.round(light ? value * 0.35 : value + (255 - value) * 0.65);
  return packPixel(change(red), change(green), change(blue), Math.min(255, alpha + 70));
}

/** The soft planes to be seen: of one region alone, or all where they are what is saved. */
export function listSoftLayers(
  doc: MaskDoc,
  regions: RegionLook[],
  alone: number | null,
): SoftLayer[] {
  const ids = alone !== null ? [alone] : doc.truth === "soft" ? [...doc.soft.keys()] : [];
  return ids.flatMap((id) => {
    const plane = doc.soft.get(id);
    const region = regions.find((each) => each.id === id);
    if (!plane || !region || region.hidden) return [];
    const [red, green, blue] = parseColour(region.colour);
    return [{ plane, colour: (blue << 16) | (green << 8) | red }];
  });
}
