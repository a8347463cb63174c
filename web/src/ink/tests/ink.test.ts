/** The document and its rasteriser against the Python twin, and the laws of strokes and undo. */

import fc from "fast-check";
import { describe, expect, test, vi } from "vitest";
import text from "../../../../tests/masks/painting/strokes.json?raw";
import { MaskDoc, type StrokeOptions } from "../doc";
import { History } from "../history";
import { capsule, discSpans, polygonSpans, snap } from "../raster";
import { featherPlane, fillMask, growMask } from "../regions";
import { checksum, writeRuns, Tiling } from "../tiles";

vi.setConfig({ testTimeout: 60_000 }); // machines of CI are slow

const cases = JSON.parse(text);

async function unpack(packed: string): Promise<Uint8Array> {
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

describe("same numbers, same pixels as Python", () => {
  test("discs", () => {
    for (const {
      disc: [x, y, r],
      size: [w, h],
      spans,
    } of cases.discs) {
      expect([...discSpans(x, y, r, w, h)]).toEqual(spans);
    }
  });
  test("pieces of strokes", () => {
    for (const {
      begin,
      end,
      size: [w, h],
      spans,
    } of cases.capsules) {
      const found = capsule(begin[0], begin[1], begin[2], end[0], end[1], end[2], w, h);
      expect([...found]).toEqual(spans);
    }
  });
  test("polygons", () => {
    for (const {
      points,
      rule,
      size: [w, h],
      spans,
    } of cases.polygons) {
      expect([...polygonSpans(points, rule, w, h)]).toEqual(spans);
    }
  });
  test("whole documents", async () => {
    for (const {
      edits,
      size: [w, h],
      ids,
    } of cases.documents) {
      const doc = new MaskDoc(w, h);
      for (const edit of edits) draw(doc, edit);
      expect(checksum([doc.ids])).toBe(checksum([await unpack(ids)]));
    }
  });
  test("grow, fill and feather as the trainer's own", async () => {
    for (const {
      size: [w, h],
      ids,
      pixels,
      grown,
      filled,
      feather,
      feathered,
    } of cases.regions) {
      const mask = await unpack(ids);
      expect(growMask(mask, w, h, pixels)).toEqual(await unpack(grown));
      expect(fillMask(mask, w, h)).toEqual(await unpack(filled));
      const soft = featherPlane(
        mask.map((value) => value * 255),
        w,
        h,
        feather,
      );
      const theirs = await unpack(feathered);
      expect(
        Math.max(...soft.map((value, at) => Math.abs(value - theirs[at]!))),
      ).toBeLessThanOrEqual(1);
    }
  });
});

/** An edit of the log drawn with the tools of the page. */
function draw(doc: MaskDoc, edit: Record<string, never> & any): void {
  const shared = {
    region: edit.id,
    locked: new Set<number>(edit.locked),
    only: edit.only ?? undefined,
    size: 1,
  };
  if (edit.op === "fill") {
    doc.fill(edit.x, edit.y, { ...shared, contiguous: edit.contiguous });
    return;
  }
  if (edit.op === "polygon") {
    doc.begin({ ...shared, tool: "polygon", rule: edit.rule });
    for (let at = 0; at < edit.points.length; at += 2)
      doc.extend([{ x: edit.points[at], y: edit.points[at + 1] }]);
    doc.end();
    return;
  }
  // Radii differ from point to point as under pressure: of a brush of twice the widest.
  const widest = 2 * Math.max(...edit.points.filter((_: number, at: number) => at % 3 === 2));
  doc.begin({ ...shared, tool: "brush", size: widest, pressure: true });
  for (let at = 0; at < edit.points.length; at += 3) {
    const [x, y, radius] = edit.points.slice(at, at + 3);
    doc.extend([{ x, y, pressure: radius / (widest / 2) }]);
  }
  doc.end();
}

const TOOLS: StrokeOptions["tool"][] = ["brush", "eraser", "lasso", "polygon", "fill"];
const anyStroke = fc.record({
  tool: fc.constantFrom(...TOOLS),
  region: fc.integer({ min: 1, max: 3 }),
  size: fc.float({ min: 1, max: 90, noNaN: true }),
  mode: fc.constantFrom("ids" as const, "soft" as const),
  hardness: fc.float({ min: 0, max: 1, noNaN: true }),
  opacity: fc.float({ min: 0, max: 1, noNaN: true }),
  pressure: fc.boolean(),
  points: fc.array(
    fc.record({
      x: fc.float({ min: -40, max: 240, noNaN: true }),
      y: fc.float({ min: -40, max: 240, noNaN: true }),
      pressure: fc.float({ min: 0, max: 1, noNaN: true }),
    }),
    { minLength: 1, maxLength: 6 },
  ),
});

describe("strokes", () => {
  test("undo and redo come back to the same bytes, whatever was painted", () => {
    fc.assert(
      fc.property(
        fc.array(anyStroke, { maxLength: 8 }),
        fc.constantFrom("ids", "soft"),
        (strokes, truth) => {
          const doc = new MaskDoc(200, 170, undefined, { truth: truth as "ids" | "soft" });
          const history = new History(doc),
            sums = [sum(doc)];
          for (const { points, ...stroke } of strokes) {
            doc.begin(stroke);
            doc.extend(points);
            const step = doc.end();
            if (step) {
              history.push(step);
              sums.push(sum(doc));
            }
          }
          for (let at = sums.length - 1; at > 0; at--) {
            expect(sum(doc)).toBe(sums[at]);
            expect(history.undo()).not.toBeNull();
          }
          expect(sum(doc)).toBe(sums[0]);
          for (let at = 1; at < sums.length; at++) {
            history.redo();
            expect(sum(doc)).toBe(sums[at]);
          }
        },
      ),
      { numRuns: 60, seed: 14 },
    );
  });

  test("one stroke never exceeds its opacity, however often it passes", () => {
    const doc = new MaskDoc(64, 64);
    doc.begin({ tool: "brush", region: 1, size: 20, mode: "soft", hardness: 0.5, opacity: 0.5 });
    for (let pass = 0; pass < 10; pass++)
      doc.extend([
        { x: 10, y: 32 },
        { x: 50, y: 32 },
      ]);
    doc.end();
    expect(Math.max(...doc.softPlane(1))).toBe(128);
    expect(Math.max(...doc.ids)).toBe(0);
  });

  test("locked regions stay", () => {
    const doc = new MaskDoc(40, 40);
    doc.begin({ tool: "brush", region: 1, size: 20 });
    doc.extend([{ x: 20, y: 20 }]);
    doc.end();
    const before = doc.ids.slice();
    doc.begin({ tool: "brush", region: 2, size: 60, locked: new Set([1]) });
    doc.extend([{ x: 20, y: 20 }]);
    doc.end();
    expect(before.every((id, at) => id === 0 || doc.ids[at] === 1)).toBe(true);
    expect(doc.ids.includes(2)).toBe(true);
  });

  test("cancel leaves all as it was", () => {
    const doc = new MaskDoc(300, 300);
    const before = sum(doc);
    doc.begin({ tool: "brush", region: 1, size: 20 });
    doc.extend([
      { x: 0, y: 0 },
      { x: 299, y: 299 },
    ]);
    expect(sum(doc)).not.toBe(before);
    doc.cancel();
    expect(sum(doc)).toBe(before);
  });

  test("painting with the hard brush where planes are the truth gives one region a pixel", () => {
    const doc = new MaskDoc(40, 40, undefined, { truth: "soft" });
    for (const region of [1, 2]) {
      doc.begin({ tool: "brush", region, size: 20 });
      doc.extend([{ x: 12 + 8 * region, y: 20 }]);
      doc.end();
    }
    const [one, two] = [doc.softPlane(1), doc.softPlane(2)];
    expect(one.some((value, at) => value && two[at])).toBe(false);
    expect(doc.ids[20 * 40 + 28]).toBe(2);
    expect([...doc.takePlanes("sync").keys()].sort()).toEqual([1, 2]);
  });

  test("the edge brush stops at an edge", () => {
    const width = 40,
      data = new Uint8ClampedArray(width * width * 4);
    for (let at = 0; at < width * width; at++)
      data.fill(at % width < 20 ? 30 : 200, at * 4, at * 4 + 4);
    const doc = new MaskDoc(width, width);
    const picture = { width, height: width, data };
    doc.begin({ tool: "edge", region: 1, size: 16, tolerance: 20, picture });
    doc.extend([
      { x: 15, y: 8 },
      { x: 17, y: 30 },
    ]);
    const step = doc.end()!;
    expect(step.op.op).toBe("pixels");
    for (let at = 0; at < doc.ids.length; at++)
      if (doc.ids[at]) expect(at % width).toBeLessThan(20);
    expect(doc.ids[20 * width + 19]).toBe(1);
  });

  test("fill by colour takes what hangs together", () => {
    const data = new Uint8ClampedArray(9 * 4);
    for (const at of [0, 1, 8]) data.fill(100, at * 4, at * 4 + 4);
    const doc = new MaskDoc(3, 3),
      picture = { width: 3, height: 3, data };
    doc.fill(0, 0, { region: 1, picture, tolerance: 5 });
    expect([...doc.ids]).toEqual([1, 1, 0, 0, 0, 0, 0, 0, 0]);
    doc.fill(0, 0, { region: 2, picture, tolerance: 5, contiguous: false });
    expect([...doc.ids]).toEqual([2, 2, 0, 0, 0, 0, 0, 0, 2]);
  });

  test("a proposal is added, subtracted, or replaces its region", () => {
    const doc = new MaskDoc(4, 1, Uint8Array.from([1, 1, 0, 2]));
    const proposal = Uint8Array.from([0, 1, 1, 1]);
    doc.replaceFrom(proposal, "replace", { region: 1, locked: new Set([2]) });
    expect([...doc.ids]).toEqual([0, 1, 1, 2]);
    doc.replaceFrom(proposal, "subtract", { region: 1 });
    expect([...doc.ids]).toEqual([0, 0, 0, 2]);
    doc.replaceFrom(proposal, "add", { region: 3 });
    expect([...doc.ids]).toEqual([0, 3, 3, 3]);
  });

  test("points that are no numbers are refused", () => {
    expect(() => snap(NaN)).toThrow(RangeError);
    expect(snap(Infinity)).toBe(1 << 20);
  });
});

describe("history", () => {
  test("is limited by bytes and drops the oldest", () => {
    const doc = new MaskDoc(256, 256),
      history = new History(doc, 4000);
    for (let count = 0; count < 60; count++) {
      doc.begin({ tool: "brush", region: 1 + (count % 3), size: 40 });
      doc.extend([{ x: count * 4, y: 100 }]);
      const step = doc.end();
      if (step) history.push(step);
    }
    expect(history.bytes).toBeLessThanOrEqual(4000);
    expect(history.steps.length).toBeGreaterThan(3);
    expect(history.position).toBe(history.steps.length);
  });

  test("undo marks tiles dirty for the view and for saving", () => {
    const doc = new MaskDoc(256, 256),
      history = new History(doc);
    doc.begin({ tool: "brush", region: 1, size: 10 });
    doc.extend([{ x: 200, y: 10 }]);
    history.push(doc.end()!);
    doc.takeDirty();
    doc.takePlanes("sync");
    history.undo();
    expect(doc.takeDirty()).toEqual([{ x: 128, y: 0, w: 128, h: 128 }]);
    expect([...doc.takePlanes("sync").values()]).toEqual([[1]]);
  });

  test("runs of differences come back, whatever the tiles", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 60, maxLength: 60 }),
        fc.uint8Array({ minLength: 60, maxLength: 60 }),
        (one, other) => {
          const tiling = new Tiling(10, 6),
            before = one.map((value) => value & 1),
            after = other.map((value) => value & 3);
          const runs = writeRuns(before, after),
            plane = before.slice();
          if (runs) tiling.toggle(plane, 0, runs);
          expect(plane).toEqual(after);
        },
      ),
      { seed: 14 },
    );
  });
});

function sum(doc: MaskDoc): string {
  const soft = [...doc.soft]
    .filter(([, plane]) => plane.some(Boolean))
    .sort(([one], [other]) => one - other);
  return checksum([doc.ids, ...soft.map(([, plane]) => plane)]);
}
