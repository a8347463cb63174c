/** Bodies of a JSON value and bytes, as frisket.studio.framing has them. */

const KIND = "application/x-frisket-frame";

export interface Frame<T> {
  value: T;
  body: Uint8Array<ArrayBuffer>;
}

export function packFrame(value: unknown, parts: Uint8Array[] = []): Blob {
  const head = new TextEncoder().encode(JSON.stringify(value));
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, head.length, true);
  return new Blob([length, head, ...(parts as Uint8Array<ArrayBuffer>[])], { type: KIND });
}

export function unpackFrame<T>(data: ArrayBuffer): Frame<T> {
  const length = new DataView(data).getUint32(0, true);
  const head = new TextDecoder().decode(new Uint8Array(data, 4, length));
  return { value: JSON.parse(head) as T, body: new Uint8Array(data, 4 + length) };
}

async function pipe(data: Uint8Array, through: ReadableWritablePair): Promise<Uint8Array> {
  const stream = new Blob([data as Uint8Array<ArrayBuffer>]).stream().pipeThrough(through);
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

export const deflate = (data: Uint8Array) =>
  pipe(data, new CompressionStream("deflate") as ReadableWritablePair);
export const inflate = (data: Uint8Array) =>
  pipe(data, new DecompressionStream("deflate") as ReadableWritablePair);

/** Half-precision floats as single ones. */
export function readHalves(bytes: Uint8Array): Float32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const values = new Float32Array(bytes.byteLength >> 1);
  for (let at = 0; at < values.length; at++) values[at] = readHalf(view.getUint16(2 * at, true));
  return values;
}

export function readHalf(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
