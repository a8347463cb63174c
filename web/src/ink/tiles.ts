/** Tiles of a plane, and what changed in them as runs of differences: small, exact, both ways. */

export const TILE = 128;

export interface TileRect {
  x: number;
  y: number;
  w: number;
  h: number;
}

/** What a step did to one tile of one plane; `plane` is IDS, or the region of a soft plane. */
export interface TileDelta {
  plane: number;
  tile: number;
  runs: Uint8Array;
}

/** The plane of region ids, where soft planes have the number of their region. */
export const IDS = -1;

export class Tiling {
  readonly across: number;
  readonly down: number;

  constructor(
    readonly width: number,
    readonly height: number,
  ) {
    this.across = Math.ceil(width / TILE);
    this.down = Math.ceil(height / TILE);
  }

  rect(tile: number): TileRect {
    const x = (tile % this.across) * TILE,
      y = Math.floor(tile / this.across) * TILE;
    return { x, y, w: Math.min(TILE, this.width - x), h: Math.min(TILE, this.height - y) };
  }

  copy(plane: Uint8Array, tile: number): Uint8Array {
    const { x, y, w, h } = this.rect(tile);
    const content = new Uint8Array(w * h);
    for (let row = 0; row < h; row++) {
      const from = (y + row) * this.width + x;
      content.set(plane.subarray(from, from + w), row * w);
    }
    return content;
  }

  paste(plane: Uint8Array, tile: number, content: Uint8Array): void {
    const { x, y, w, h } = this.rect(tile);
    for (let row = 0; row < h; row++) {
      plane.set(content.subarray(row * w, (row + 1) * w), (y + row) * this.width + x);
    }
  }

  /** Lay a difference over a tile of a plane; doing it twice restores the tile. */
  toggle(plane: Uint8Array, tile: number, runs: Uint8Array): void {
    const { x, y, w } = this.rect(tile);
    readRuns(runs, (at, value) => {
      const row = Math.floor(at / w);
      const place = (y + row) * this.width + x + (at - row * w);
      plane[place] = plane[place]! ^ value;
    });
  }
}

/**
 * The difference (xor) of two tiles as runs; null where they are equal. A run: how many are equal,
 * then twice its length plus 1 where one value follows for all, else as many values; numbers in
 * seven bits a byte, lowest first.
 */
export function writeRuns(before: Uint8Array, after: Uint8Array): Uint8Array | null {
  const length = before.length;
  let bytes = new Uint8Array(256),
    size = 0,
    at = 0,
    equal = 0;
  const put = (value: number): void => {
    if (size === bytes.length) {
      const larger = new Uint8Array(bytes.length * 2);
      larger.set(bytes);
      bytes = larger;
    }
    bytes[size++] = value;
  };
  const putNumber = (value: number): void => {
    while (value > 127) {
      put((value & 127) | 128);
      value >>>= 7;
    }
    put(value);
  };
  while (at < length) {
    if (before[at] === after[at]) {
      at++;
      equal++;
      continue;
    }
    const start = at,
      value = before[at]! ^ after[at]!;
    while (at < length && (before[at]! ^ after[at]!) === value) at++;
    putNumber(equal);
    equal = 0;
    if (at - start > 2) {
      putNumber(((at - start) << 1) | 1);
      put(value);
      continue;
    }
    // Values that differ from one to the next: as they are, until they repeat or are equal again.
    while (at < length && before[at] !== after[at]) {
      const other = before[at]! ^ after[at]!;
      if (
        at + 2 < length &&
        (before[at + 1]! ^ after[at + 1]!) === other &&
        (before[at + 2]! ^ after[at + 2]!) === other
      )
        break;
      at++;
    }
    putNumber((at - start) << 1);
    for (let place = start; place < at; place++) put(before[place]! ^ after[place]!);
  }
  return size === 0 ? null : bytes.slice(0, size);
}

function readRuns(runs: Uint8Array, visit: (at: number, value: number) => void): void {
  let at = 0,
    place = 0;
  const readNumber = (): number => {
    let value = 0,
      shift = 0;
    for (;;) {
      const byte = runs[place++]!;
      value |= (byte & 127) << shift;
      if (byte < 128) return value;
      shift += 7;
    }
  };
  while (place < runs.length) {
    at += readNumber();
    const head = readNumber(),
      count = head >> 1;
    if (head & 1) {
      const value = runs[place++]!;
      for (let index = 0; index < count; index++) visit(at++, value);
    } else {
      for (let index = 0; index < count; index++) visit(at++, runs[place++]!);
    }
  }
}

/** 64 bits of a plane's content as text, to tell whether two are the same (not against malice). */
export function checksum(planes: Iterable<Uint8Array>): string {
  let low = 0x811c9dc5,
    high = 0x9e3779b9,
    total = 0;
  for (const given of planes) {
    const plane = given.byteOffset % 4 === 0 ? given : given.slice();
    const words = plane.length >> 2;
    const view = new Uint32Array(plane.buffer, plane.byteOffset, words);
    for (let index = 0; index < words; index++) {
      low = Math.imul(low ^ view[index]!, 0x01000193);
      high = Math.imul(high ^ low ^ (low >>> 15), 0x85ebca6b);
    }
    for (let index = words << 2; index < plane.length; index++) {
      low = Math.imul(low ^ plane[index]!, 0x01000193);
      high = Math.imul(high ^ low ^ (low >>> 15), 0x85ebca6b);
    }
    total += plane.length;
  }
  return [low, high, total].map((part) => (part >>> 0).toString(16).padStart(8, "0")).join("");
}
