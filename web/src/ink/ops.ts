/** Entries of the log of edits: written for the server, and drawn again. */

import type { MaskDoc, Step } from "./doc";
import type { Op } from "./stroke";
import { IDS } from "./tiles";

/** Deflate as zlib does, which the server reads. */
export async function deflate(bytes: Uint8Array): Promise<Uint8Array> {
  const stream = new Blob([bytes as BlobPart])
    .stream()
    .pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** An entry as JSON for the server: pixels are packed. */
export async function packOp(op: Op): Promise<Record<string, unknown>> {
  if (op.op !== "pixels") return { ...op };
  const { buffer, byteOffset, byteLength } = op.spans;
  const spans = await deflate(new Uint8Array(buffer, byteOffset, byteLength));
  return { ...op, spans: encode(spans), values: encode(await deflate(op.values)) };
}

function encode(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.length; at += 0x8000) {
    text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  }
  return btoa(text);
}

/** Draw an entry again, on whatever the document now holds; null where that changes nothing. */
export function drawAgain(doc: MaskDoc, op: Op, name = "Stroke"): Step | null {
  if (op.op === "undo" || op.op === "redo") return null;
  if (op.op === "pixels") return writePixels(doc, op, name);
  if (op.op === "soft") return drawSoft(doc, op);
  const shared = { region: op.id, locked: new Set(op.locked), only: op.only ?? undefined };
  if (op.op === "fill") return doc.fill(op.x, op.y, { ...shared, contiguous: op.contiguous });
  if (op.op === "polygon") {
    doc.begin({ ...shared, tool: "polygon", rule: op.rule, size: 1 });
    for (let at = 0; at < op.points.length; at += 2)
      doc.extend([{ x: op.points[at]!, y: op.points[at + 1]! }]);
    return doc.end();
  }
  doc.begin({ ...shared, tool: "brush", size: 1 });
  for (let at = 0; at < op.points.length; at += 3) {
    doc.extendExactly(op.points[at]!, op.points[at + 1]!, op.points[at + 2]!);
  }
  return doc.end();
}

function drawSoft(doc: MaskDoc, op: Extract<Op, { op: "soft" }>): Step | null {
  const { points, pressures, stroke } = op;
  doc.begin({ ...stroke, locked: new Set(stroke.locked) });
  if (stroke.tool === "brush" || stroke.tool === "eraser") {
    pressures.forEach((pressure, at) => {
      doc.extendExactly(points[3 * at]!, points[3 * at + 1]!, points[3 * at + 2]!, pressure);
    });
  } else {
    for (let at = 0; at < points.length; at += 2)
      doc.extend([{ x: points[at]!, y: points[at + 1]! }]);
  }
  return doc.end();
}

function writePixels(doc: MaskDoc, op: Extract<Op, { op: "pixels" }>, name: string): Step | null {
  const plane = (op.plane === IDS ? doc.ids : doc.softPlane(op.plane)).slice();
  let next = 0;
  for (let index = 0; index < op.spans.length; index += 3) {
    const row = op.spans[index]! * doc.width;
    for (let at = row + op.spans[index + 1]!; at < row + op.spans[index + 2]!; at++)
      plane[at] = op.values[next++]!;
  }
  return op.plane === IDS ? doc.assign(plane, name) : doc.rewriteSoft(op.plane, plane, name);
}
