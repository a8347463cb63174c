import fc from "fast-check";
import { expect, test } from "vitest";
import { listAhead } from "./frames.ts";
import { findKey, holdSpan, toFrame, toX, zoomSpan } from "./lanes.ts";
import { packColour, traceOutline } from "./outline.ts";

const clips = fc.integer({ min: 1, max: 5000 });

test("a frame's place on the line leads back to that frame", () => {
  fc.assert(
    fc.property(
      clips,
      fc.integer({ min: 100, max: 2000 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (frames, width, share) => {
        const span = { first: 0, across: frames };
        const frame = Math.min(Math.floor(share * frames), frames - 1);
        const middle = (toX(frame, span, width) + toX(frame + 1, span, width)) / 2;
        expect(toFrame(middle, span, width, frames)).toBe(frame);
      },
    ),
  );
});

test("zooming keeps the frame under the pointer, and the clip in sight", () => {
  fc.assert(
    fc.property(
      clips,
      fc.double({ min: 0.2, max: 5, noNaN: true }),
      fc.integer({ min: 0, max: 800 }),
      (frames, factor, x) => {
        const before = { first: 0, across: frames };
        const after = zoomSpan(before, x, 800, factor, frames);
        expect(after.first).toBeGreaterThanOrEqual(0);
        expect(after.first + after.across).toBeLessThanOrEqual(frames + 1e-6);
        if (factor > 1) {
          const at = before.first + (x / 800) * before.across;
          expect(after.first + (x / 800) * after.across).toBeCloseTo(at, 3);
        }
      },
    ),
  );
  expect(holdSpan({ first: -5, across: 10 }, 100).first).toBe(0);
});

test("frames are fetched nearest first, within the clip", () => {
  expect(listAhead(0, 3, 0)).toEqual([0, 1, 2]);
  expect(listAhead(5, 100, 1).slice(0, 5)).toEqual([5, 6, 4, 7, 3]);
  expect(listAhead(5, 100, 1)).toContain(21);
  fc.assert(
    fc.property(
      clips,
      fc.nat(4999),
      fc.constantFrom(-1 as const, 0 as const, 1 as const),
      (frames, index, way) => {
        const at = Math.min(index, frames - 1);
        const wanted = listAhead(at, frames, way);
        expect(wanted[0]).toBe(at);
        expect(new Set(wanted).size).toBe(wanted.length);
        for (const each of wanted) expect(each >= 0 && each < frames).toBe(true);
      },
    ),
  );
});

test("the next painted frame is found either way", () => {
  expect(findKey([2, 8, 20], 8, -1)).toBe(2);
  expect(findKey([2, 8, 20], 8, 1)).toBe(20);
  expect(findKey([2], 2, 1)).toBeUndefined();
});

test("an outline is the rim of each region and nothing else", () => {
  const ids = new Uint8Array(49);
  for (let y = 1; y < 6; y++) for (let x = 1; x < 6; x++) ids[y * 7 + x] = 3;
  const rim = traceOutline(ids, 7, 7);
  expect(rim.reduce((sum, id) => sum + (id ? 1 : 0), 0)).toBe(16);
  expect(rim[3 * 7 + 3]).toBe(0);
  expect(rim.every((id, at) => id === 0 || id === ids[at])).toBe(true);
});

test("colours are packed as ImageData has them", () => {
  expect(packColour("#010203", 1)).toBe(0xff030201);
  expect(packColour("#ffffff", 0)).toBe(0x00ffffff);
});
