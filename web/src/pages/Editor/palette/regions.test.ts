import { expect, test } from "vitest";
import { formatCoverage, layPalette, measureShares, sortLegend } from "./regions.ts";

test("keys go by the legend's order, the background has 0, a tenth region none", () => {
  const legend = Array.from({ length: 12 }, (_, id) => ({
    id,
    name: `r${id}`,
    colour: "#000000",
    weight: 1,
  }));
  const palette = layPalette(legend, 0, []);
  expect(palette.map((region) => region.key).join()).toBe("0,1,2,3,4,5,6,7,8,9,,");
});

test("locks stay with the name when the legend is read again", () => {
  const legend = [{ id: 3, name: "face", colour: "#000000", weight: 1 }];
  const before = layPalette(legend, 0, []).map((region) => ({ ...region, locked: true }));
  expect(layPalette([{ ...legend[0]!, id: 7 }], 0, before)[0]).toMatchObject({
    id: 7,
    locked: true,
  });
});

test("shares are counted over all pixels", () => {
  const shares = measureShares(new Uint8Array([1, 1, 2, 0, 255, 1, 1]));
  expect([shares[0], shares[1], shares[255]].map((share) => Math.round(share! * 7))).toEqual([
    1, 4, 1,
  ]);
  expect(formatCoverage(0.00001)).toBe("< 0.01 %");
});

test("regions stand in the order that was chosen, new ones after, the background last", () => {
  const legend = [0, 1, 2, 3].map((id) => ({
    id,
    name: "abcd"[id]!,
    colour: "#000000",
    weight: 1,
  }));
  expect(
    sortLegend(legend, 0, ["d", "b"])
      .map((entry) => entry.name)
      .join(""),
  ).toBe("dbca");
  expect(
    sortLegend(legend, 0, [])
      .map((entry) => entry.name)
      .join(""),
  ).toBe("bcda");
});
