import fc from "fast-check";
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { listLossCurves, nearest, smooth } from "./curves.ts";
import {
  atSet,
  COMMON,
  joinKey,
  matches,
  readMaskFields,
  readSections,
  type Schema,
} from "./schema.ts";
import { readNumber, readToml, same, writeToml } from "./toml.ts";

const place = new URL("../../../../../src/frisket/config/config.schema.json", import.meta.url);
const schema = JSON.parse(readFileSync(place, "utf8")) as Schema;
const sections = readSections(schema);
const fields = sections.flatMap((one) => one.groups.flatMap((group) => group.fields));

describe("schema", () => {
  it("has a control for every field, and says what it means", () => {
    expect(fields.length).toBeGreaterThan(180);
    for (const field of fields) {
      if (field.kind === "choice") expect(field.choices.length).toBeGreaterThan(1);
    }
    // A field that is a section of its own (`regions`, `preset`) is explained under the section's title.
    for (const { groups } of sections)
      for (const group of groups)
        for (const field of group.fields)
          expect(
            field.doc || (group.fields.length === 1 && group.doc),
            joinKey(field.key),
          ).toBeTruthy();
    expect(new Set(fields.map((field) => joinKey(field.key))).size).toBe(fields.length);
  });

  it("knows the kinds of the odd ones", () => {
    const kinds = Object.fromEntries(fields.map((field) => [joinKey(field.key), field.kind]));
    expect(kinds).toMatchObject({
      "data.0.masks": "masks",
      "data.0.resolution": "toml",
      "data.0.clips": "path",
      "preview.prompts": "lines",
      "losses.denoise": "term",
      "losses.beta": "number",
      "timesteps.shift": "toml",
      "run.trackers": "toml",
      "memory.checkpointing": "switch",
      "model.max_tokens": "choice",
      regions: "regions",
    });
  });

  it("finds every common field, and moves fields to another data set", () => {
    for (const name of COMMON) expect(fields.map((field) => joinKey(field.key))).toContain(name);
    const clips = fields.find((field) => joinKey(field.key) === "data.0.clips");
    expect(clips && joinKey(atSet(clips, 3).key)).toBe("data.3.clips");
    expect(
      readMaskFields(schema, ["data", 1, "masks"]).map((field) => joinKey(field.key)),
    ).toContain("data.1.masks.invert");
    expect(fields.filter((field) => matches(field, "learning rate warm")).length).toBeGreaterThan(
      0,
    );
  });
});

describe("toml", () => {
  it("writes what the server's TOML says", () => {
    expect(writeToml({ face: 255, "a b": [1, "x\n", true] })).toBe(
      '{ face = 255, "a b" = [1, "x\\n", true] }',
    );
    expect(writeToml({ $toml: "inf" })).toBe("inf");
    expect(writeToml(undefined)).toBe("");
  });

  it("reads numbers as numbers, words as texts, the rest as it is", () => {
    expect(readToml(" 64 ")).toBe(64);
    expect(readToml("true")).toBe(true);
    expect(readToml("auto")).toBe("auto");
    expect(readToml("[512, 768]")).toEqual({ $toml: "[512, 768]" });
    expect(readToml("inf")).toEqual({ $toml: "inf" });
    expect(readNumber("1e-4", false)).toBe(0.0001);
    expect(readNumber("1.5", true)).toBeUndefined();
    expect(readNumber("two", false)).toBeUndefined();
    expect(readNumber("9223372036854775807", true)).toEqual({ $toml: "9223372036854775807" });
    expect(same([1, 2], [1, 2]) && !same(1, "1")).toBe(true);
  });
});

describe("curves", () => {
  it("smooths within the range of what it saw, and not at all at 0", () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: -9, max: 9, noNaN: true }), { minLength: 1 }),
        (values) => {
          expect(smooth(values, 0).map((value) => 0 + (value ?? 0))).toEqual(
            values.map((value) => 0 + value),
          );
          for (const value of smooth(values, 0.9)) {
            expect(value).toBeGreaterThanOrEqual(Math.min(...values) - 1e-9);
            expect(value).toBeLessThanOrEqual(Math.max(...values) + 1e-9);
          }
        },
      ),
    );
    expect(smooth([1, null, 3], 0.5)).toEqual([1, null, expect.closeTo(2.3333, 3)]);
  });

  it("gives every region a colour of its own, and finds the nearest point", () => {
    const names = ["loss", "inside", "outside", "loss/face", "loss/hair"];
    const curves = listLossCurves(names);
    expect(curves.map((curve) => curve.label)).toEqual(["inside", "outside", "face", "hair"]);
    expect(new Set(curves.map((curve) => curve.colour)).size).toBe(4);
    expect(nearest([1, 5, 9], 6)).toBe(1);
  });
});
