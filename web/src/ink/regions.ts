/**
 * Grow, shrink, fill and feather regions, to the pixel as frisket.masks.morphology does it for hard
 * masks: discs of Euclidean radius, what is beyond the picture is not looked at.
 */

import type { FillOptions, MaskDoc, Step } from "./doc";

/** 1 where the ids are a region's. */
export function maskOf(ids: Uint8Array, region: number): Uint8Array {
  const mask = new Uint8Array(ids.length);
  for (let at = 0; at < ids.length; at++) if (ids[at] === region) mask[at] = 1;
  return mask;
}

/** Widen a mask of 0 and 1 by `pixels`, or narrow it (below 0); fractions are rounded, halves up. */
export function growMask(
  mask: Uint8Array,
  width: number,
  height: number,
  pixels: number,
): Uint8Array {
  const radius = Math.floor(Math.abs(pixels) + 0.5);
  if (!Number.isFinite(pixels)) throw new RangeError(`a region cannot grow by ${pixels} pixels`);
  if (radius === 0) return mask.slice();
  if (pixels > 0) return spread(mask, width, height, radius);
  const outside = mask.map((value) => 1 - value);
  return spread(outside, width, height, radius).map((value) => 1 - value);
}

/** All pixels within `radius` of one that is set: down each column, then sideways along each row. */
function spread(mask: Uint8Array, width: number, height: number, radius: number): Uint8Array {
  const grown = new Uint8Array(mask.length);
  const box = findBox(mask, width, height);
  if (!box) return grown;
  const top = Math.max(0, box.top - radius),
    bottom = Math.min(height, box.bottom + radius);
  const halves = Int32Array.from({ length: radius + 1 }, (_, dy) =>
    Math.floor(Math.sqrt(radius * radius - dy * dy)),
  );
  const above = measureColumns(mask, width, top, bottom, radius);
  const marks = new Int32Array(width + 1);
  for (let y = top; y < bottom; y++) {
    marks.fill(0);
    for (let x = box.left; x < box.right; x++) {
      const distance = above[(y - top) * width + x]!;
      if (distance > radius) continue;
      const half = halves[distance]!;
      marks[Math.max(x - half, 0)]!++;
      marks[Math.min(x + half + 1, width)]!--;
    }
    for (let x = 0, depth = 0; x < width; x++) {
      depth += marks[x]!;
      if (depth > 0) grown[y * width + x] = 1;
    }
  }
  return grown;
}

/** Rows to the nearest set pixel of the same column, above or below, at most radius + 1. */
function measureColumns(
  mask: Uint8Array,
  width: number,
  top: number,
  bottom: number,
  radius: number,
): Uint16Array {
  const far = Math.min(radius + 1, 65535),
    distances = new Uint16Array((bottom - top) * width);
  for (let y = top; y < bottom; y++) {
    for (let x = 0, at = (y - top) * width; x < width; x++, at++) {
      const last = y > top ? distances[at - width]! : far;
      distances[at] = mask[y * width + x] ? 0 : Math.min(last + 1, far);
    }
  }
  for (let y = bottom - 2; y >= top; y--) {
    for (let x = 0, at = (y - top) * width; x < width; x++, at++) {
      distances[at] = Math.min(distances[at]!, distances[at + width]! + 1);
    }
  }
  return distances;
}

interface Box {
  left: number;
  right: number;
  top: number;
  bottom: number;
}

/** The smallest rectangle with all that is set; null where nothing is. */
function findBox(mask: Uint8Array, width: number, height: number): Box | null {
  let left = width,
    right = 0,
    top = height,
    bottom = 0;
  for (let y = 0; y < height; y++) {
    const row = mask.subarray(y * width, (y + 1) * width);
    const first = row.indexOf(1);
    if (first < 0) continue;
    left = Math.min(left, first);
    right = Math.max(right, row.lastIndexOf(1) + 1);
    top = Math.min(top, y);
    bottom = y + 1;
  }
  return bottom ? { left, right, top, bottom } : null;
}

/** The mask with its holes: what is not set and reaches the picture's border over no edge. */
export function fillMask(mask: Uint8Array, width: number, height: number): Uint8Array {
  const box = findBox(mask, width, height);
  if (!box) return mask.slice();
  const across = box.right - box.left,
    down = box.bottom - box.top;
  const open = new Uint8Array(across * down),
    seeds: number[] = [];
  const isWall = (at: number): boolean => {
    const y = Math.floor(at / across);
    return mask[(box.top + y) * width + box.left + at - y * across] === 1;
  };
  const visit = (at: number): void => {
    if (!open[at] && !isWall(at)) {
      open[at] = 1;
      seeds.push(at);
    }
  };
  for (let x = 0; x < across; x++) {
    visit(x);
    visit((down - 1) * across + x);
  }
  for (let y = 0; y < down; y++) {
    visit(y * across);
    visit(y * across + across - 1);
  }
  while (seeds.length) {
    const at = seeds.pop()!,
      x = at % across;
    if (x > 0) visit(at - 1);
    if (x < across - 1) visit(at + 1);
    if (at >= across) visit(at - across);
    if (at < across * (down - 1)) visit(at + across);
  }
  const filled = mask.slice();
  for (let y = 0; y < down; y++) {
    for (let x = 0; x < across; x++) {
      if (!open[y * across + x]) filled[(box.top + y) * width + box.left + x] = 1;
    }
  }
  return filled;
}

/**
 * A plane of 0 to 255 whose borders slope over `pixels` to either side: a Gaussian of standard
 * deviation pixels / 2, cut at `pixels`, borders of the picture repeated.
 */
export function featherPlane(
  plane: Uint8Array,
  width: number,
  height: number,
  pixels: number,
): Uint8Array {
  if (!(pixels >= 0) || !Number.isFinite(pixels))
    throw new RangeError(`feather is ${pixels} pixels; use 0 or more`);
  if (pixels === 0) return plane.slice();
  const reach = Math.ceil(pixels),
    taps: number[] = [];
  for (let offset = -reach; offset <= reach; offset++) {
    taps.push(Math.exp((-0.5 * offset * offset) / ((pixels / 2) * (pixels / 2))));
  }
  const total = taps.reduce((sum, tap) => sum + tap, 0);
  const rows = new Float64Array(plane.length),
    result = new Uint8Array(plane.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      let sum = 0;
      for (let offset = -reach; offset <= reach; offset++) {
        const column = Math.min(Math.max(x + offset, 0), width - 1);
        sum += (taps[offset + reach]! / total) * plane[y * width + column]!;
      }
      rows[y * width + x] = sum;
    }
  }
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      let sum = 0;
      for (let offset = -reach; offset <= reach; offset++) {
        const row = Math.min(Math.max(y + offset, 0), height - 1);
        sum += (taps[offset + reach]! / total) * rows[row * width + x]!;
      }
      result[y * width + x] = Math.min(Math.max(Math.round(sum), 0), 255);
    }
  }
  return result;
}

/** Widen a region over others (but locked ones), or narrow it, which leaves background behind. */
export function growRegion(
  doc: MaskDoc,
  region: number,
  pixels: number,
  options: Omit<FillOptions, "region"> = {},
): Step | null {
  const grown = growMask(maskOf(doc.ids, region), doc.width, doc.height, pixels);
  const name = pixels < 0 ? `Shrink by ${-pixels} px` : `Grow by ${pixels} px`;
  return doc.replaceFrom(grown, "replace", { ...options, region }, name);
}

/**
 * Close the holes of a region. "background" fills only what no region covers, so that eyes inside a
 * face stay eyes; "all" takes whatever is inside.
 */
export function fillHoles(
  doc: MaskDoc,
  region: number,
  over: "background" | "all" = "background",
  options: Omit<FillOptions, "region" | "only"> = {},
): Step | null {
  const filled = fillMask(maskOf(doc.ids, region), doc.width, doc.height);
  const only = over === "background" ? doc.background : undefined;
  return doc.replaceFrom(filled, "add", { ...options, region, only }, "Fill holes");
}

/** Make a region's soft plane its own soft plane, or where it has none its label, with slopes. */
export function featherRegion(doc: MaskDoc, region: number, pixels: number): Step | null {
  const plane = doc.soft.get(region) ?? maskOf(doc.ids, region).map((value) => value * 255);
  const name = `Feather by ${pixels} px`;
  return doc.rewriteSoft(region, featherPlane(plane, doc.width, doc.height, pixels), name);
}
