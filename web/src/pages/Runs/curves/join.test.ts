import { expect, test } from "vitest";
import { joinCurves, smooth } from "./join.ts";

test("runs of other steps share one axis, and keep their gaps", () => {
  const joined = joinCurves([
    { x: [1, 3], y: [10, null] },
    { x: [2, 3], y: [5, 6] },
  ]);
  expect(joined.x).toEqual([1, 2, 3]);
  expect(joined.lines).toEqual([
    [10, undefined, null],
    [undefined, 5, 6],
  ]);
});

test("smoothing begins at the first value and leaves gaps alone", () => {
  expect(smooth([4, null, 4, undefined, 4], 0.9)).toEqual([4, null, 4, undefined, 4]);
  const line = smooth([0, 1], 0.5) as number[];
  expect(line[1]).toBeCloseTo(2 / 3);
});
