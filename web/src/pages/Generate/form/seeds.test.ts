import { expect, test } from "vitest";
import { readSeeds } from "./seeds.ts";

test("seeds and ranges are read in order, each once", () => {
  expect(readSeeds("3, 1 5-7;6")).toEqual([3, 1, 5, 6, 7]);
});

test.each(["", "x", "-1", "5-3", "0-999", "1.5", "99999999999999999999"])(
  "%s is refused with what to write",
  (text) => {
    expect(() => readSeeds(text)).toThrow(/seed/);
  },
);
