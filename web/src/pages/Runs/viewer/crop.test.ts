import { expect, test } from "vitest";
import { findCrop, hold, zoomAt } from "./crop.ts";

test("a cell of a sheet is found by rows and columns, without its margins", () => {
  // Two prompts and three seeds of 160 x 160 with a strip of 32: as inference/grids.py lays them.
  const width = 3 * 164 + 4;
  const height = 2 * (160 + 32 + 4) + 4;
  const crop = findCrop(width, height, { rows: 2, columns: 3, row: 1, column: 2 });
  expect([crop.width, crop.height]).toEqual([160, 192]);
  expect(crop.left * crop.width).toBeCloseTo(4 + 2 * 164);
  expect(crop.top * crop.height).toBeCloseTo(4 + 196);
  expect(crop.across * crop.width).toBeCloseTo(width);
});

test("a sheet whose sides were made even is cut all the same", () => {
  const crop = findCrop(169 + 1, 199 + 1, { rows: 1, columns: 1, row: 0, column: 0 });
  expect(crop.width).toBe(162);
  expect(findCrop(0, 0).width).toBe(1);
});

test("what lies under the pointer stays there, and no edge comes inside", () => {
  const size = { width: 200, height: 100 };
  const view = zoomAt({ scale: 1, x: 0, y: 0 }, 2, { x: 50, y: 40 }, size);
  expect(view).toEqual({ scale: 2, x: -50, y: -40 });
  expect(zoomAt(view, 0.01, { x: 0, y: 0 }, size)).toEqual({ scale: 1, x: 0, y: 0 });
  expect(hold({ scale: 2, x: -500, y: 90 }, size)).toEqual({ scale: 2, x: -200, y: 0 });
});
