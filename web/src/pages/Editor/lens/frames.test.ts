import { expect, test } from "vitest";
import { deflate, inflate, packFrame, readHalf, unpackFrame } from "./frames.ts";
import { heat, scaleWeight } from "./heat.ts";

test("a frame comes back as it was", async () => {
  const frame = packFrame({ name: "Gesicht \u{1f600}" }, [
    new Uint8Array([1, 2]),
    new Uint8Array([3]),
  ]);
  const { value, body } = unpackFrame<{ name: string }>(await frame.arrayBuffer());
  expect(value.name).toBe("Gesicht \u{1f600}");
  expect([...body]).toEqual([1, 2, 3]);
  const ids = new Uint8Array(5000).fill(7);
  expect(await inflate(await deflate(ids))).toEqual(ids);
});

test("halves are read as IEEE has them", () => {
  expect(readHalf(0x3c00)).toBe(1);
  expect(readHalf(0xc000)).toBe(-2);
  expect(readHalf(0x3555)).toBeCloseTo(1 / 3, 3);
  expect(readHalf(1)).toBe(2 ** -24);
  expect(readHalf(0x7c00)).toBe(Infinity);
});

test("heat rises in brightness, and the logarithm keeps both ends", () => {
  const brightness = [0, 0.25, 0.5, 0.75, 1].map((share) => heat(share).reduce((a, b) => a + b));
  expect(brightness).toEqual([...brightness].sort((a, b) => a - b));
  for (const log of [false, true]) {
    expect(scaleWeight(0, 2, log)).toBe(0);
    expect(scaleWeight(2, 2, log)).toBeCloseTo(1);
  }
  expect(scaleWeight(0.1, 1, true)).toBeGreaterThan(scaleWeight(0.1, 1, false));
});
