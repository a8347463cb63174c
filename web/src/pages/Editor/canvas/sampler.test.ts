import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { buildColours, packPixel } from "./colours.ts";
import { mapAxis, paintIds, paintSoft } from "./sampler.ts";
import { coverRect, fitView, toCanvas, toImage, zoomAt, type View } from "./view.ts";

const LOOK = { opacity: 1, hatching: false, outlines: false, fill: true, thickness: 1 };
const RED = packPixel(255, 0, 0, 255);

describe("the view", () => {
  test("zooming about a point leaves that point of the picture under it", () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.05, max: 30, noNaN: true }),
        fc.double({ min: 0.2, max: 2, noNaN: true }),
        fc.integer({ min: 0, max: 900 }),
        fc.integer({ min: 0, max: 900 }),
        (scale, factor, x, y) => {
          const view: View = { scale, x: 31, y: -17 };
          const [column, row] = toImage(view, x, y);
          const [left, top] = toCanvas(zoomAt(view, x, y, factor), column, row);
          expect(left).toBeCloseTo(x, 3);
          expect(top).toBeCloseTo(y, 3);
        },
      ),
    );
  });
  test("a picture fits whole, in the middle", () => {
    const view = fitView({ width: 4000, height: 1000 }, { width: 1000, height: 800 });
    expect(view.scale).toBeCloseTo(0.238);
    expect(view.y).toBe(281);
  });
});

describe("the sampler", () => {
  test("at scale 1 every canvas pixel is one id, outside of the picture nothing", () => {
    const colours = buildColours([{ id: 2, colour: "#ff0000", hidden: false }], LOOK);
    const ids = new Uint8Array([0, 2, 2, 0]);
    const out = new Uint32Array(16).fill(7);
    const rect = { left: 0, top: 0, right: 4, bottom: 4 };
    paintIds(out, rect, { scale: 1, x: 1, y: 1 }, { width: 2, height: 2, ids }, colours);
    const expected = new Uint32Array(16);
    expected[6] = RED;
    expected[9] = RED;
    expect([...out]).toEqual([...expected]);
  });
  test("a dirty rectangle gives the same pixels as the whole canvas", () => {
    const colours = buildColours(
      [1, 2, 3].map((id) => ({ id, colour: `#${id}0${id}0ff`, hidden: false })),
      { ...LOOK, hatching: true, outlines: true, thickness: 2, opacity: 0.5 },
    );
    const map = { width: 40, height: 30, ids: new Uint8Array(1200).map((_, i) => (i * 7919) % 4) };
    fc.assert(
      fc.property(
        fc.double({ min: 0.3, max: 5, noNaN: true }),
        fc.integer({ min: -20, max: 20 }),
        fc.integer({ min: 0, max: 30 }),
        fc.integer({ min: 0, max: 30 }),
        (scale, offset, left, top) => {
          const view = { scale, x: offset + 0.25, y: offset };
          const whole = new Uint32Array(60 * 50);
          paintIds(whole, { left: 0, top: 0, right: 60, bottom: 50 }, view, map, colours);
          const part = new Uint32Array(20 * 15);
          const rect = { left, top, right: left + 20, bottom: top + 15 };
          paintIds(part, rect, view, map, colours);
          for (let y = 0; y < 15; y++)
            for (let x = 0; x < 20; x++)
              expect(part[y * 20 + x]).toBe(whole[(top + y) * 60 + left + x]);
        },
      ),
      { numRuns: 40 },
    );
  });
  test("the canvas pixels of an image rectangle hold every sample that falls into it", () => {
    const view = { scale: 0.37, x: 3.3, y: -2.1 };
    const rect = coverRect(
      view,
      { left: 50, top: 60, right: 90, bottom: 100 },
      { width: 200, height: 200 },
    );
    const columns = mapAxis(0, 200, view.scale, view.x, 500);
    columns.forEach((column, x) => {
      if (column >= 50 && column < 90) expect(x >= rect.left && x < rect.right).toBe(true);
    });
  });
  test("soft planes are as see-through as they are weak", () => {
    const out = new Uint32Array(2);
    paintSoft(
      out,
      { left: 0, top: 0, right: 2, bottom: 1 },
      { scale: 1, x: 0, y: 0 },
      { width: 2, height: 1 },
      [{ plane: new Uint8Array([0, 128]), colour: 0xff }],
      1,
    );
    expect([...out]).toEqual([0, packPixel(255, 0, 0, 128)]);
  });
});

test("hidden regions and the background have no colour; hatchings differ", () => {
  const colours = buildColours(
    [0, 1, 2, 3].map((id) => ({ id, colour: "#ffffff", hidden: id === 3 })),
    { ...LOOK, hatching: true },
  );
  const pattern = (id: number) => [...colours.fill.slice(id * 64, id * 64 + 64)].join();
  expect(new Set(colours.fill.slice(0, 64))).toEqual(new Set([0]));
  expect(new Set(colours.fill.slice(192, 256))).toEqual(new Set([0]));
  expect(pattern(1)).not.toBe(pattern(2));
});
