import { describe, expect, test } from "vitest";
import { EVERYTHING, countFacts, filterRows, sortRows, type Filter } from "./filter.ts";
import { placeTile, revealTile, shapeGrid, spanView } from "./layout.ts";
import type { Facts, Row } from "./types.ts";

function row(id: string, more: Partial<Row> = {}): Row {
  const base = { id, set: "s", name: id, video: false, bytes: 1, mtime: 1, v: "1" };
  return { ...base, masked: false, rejected: false, ...more };
}

function facts(id: string, more: Partial<Facts> = {}): Facts {
  return {
    id,
    v: "1",
    caption: "",
    status: "none",
    confidence: null,
    notes: [],
    size: null,
    frames: 1,
    coverage: null,
    measured: true,
    findings: [],
    ...more,
  };
}

const ROWS = [row("a"), row("b", { rejected: true }), row("c", { video: true }), row("d")];
const KNOWN = new Map(
  [
    facts("a", { caption: "sks on a Beach", status: "hand", coverage: { face: 0.1, hair: 0.2 } }),
    facts("b", {
      caption: "sks, lake",
      status: "unsure",
      confidence: 0.4,
      findings: [{ kind: "tiny", severity: "warning", sentence: "", fix: "" }],
    }),
    facts("c", { status: "made", confidence: 0.9, coverage: { face: 0.3 } }),
  ].map((each) => [each.id, each]),
);

function shown(change: Partial<Filter>): string {
  return filterRows(ROWS, KNOWN, { ...EVERYTHING, ...change })
    .map((each) => each.id)
    .join("");
}

describe("filters", () => {
  test("let everything through when open", () => expect(shown({})).toBe("abcd"));
  test.each<[Partial<Filter>, string]>([
    [{ text: "beach SKS" }, "a"],
    [{ text: "sks -beach" }, "b"],
    [{ kept: "rejected" }, "b"],
    [{ kept: "kept" }, "acd"],
    [{ media: "videos" }, "c"],
    [{ status: "hand" }, "a"],
    [{ status: "masked" }, "abc"],
    [{ finding: "warning" }, "b"],
    [{ finding: "kind:tiny" }, "b"],
    [{ finding: "none" }, "ac"],
    [{ confidenceFrom: 50 }, "c"],
    [{ confidenceTo: 50 }, "b"],
    [{ region: "face", coverageFrom: 10 }, "ac"],
    [{ region: "hair", coverageTo: 10 }, "c"],
    [{ coverageFrom: 29.96, coverageTo: 30 }, "ac"],
  ])("%j", (change, ids) => expect(shown(change)).toBe(ids));
});

test("what is not known comes last either way", () => {
  const order = (down: boolean) =>
    sortRows([...ROWS], KNOWN, "confidence", down, "")
      .map((each) => each.id)
      .join("");
  expect(order(false)).toBe("bcad");
  expect(order(true)).toBe("cbad");
});

test("counts are of clips", () => {
  const counts = countFacts(ROWS, KNOWN);
  expect(counts.kinds.get("tiny")).toBe(1);
  expect(counts.statuses.get("hand")).toBe(1);
});

test("every tile is drawn when it is in view, and lies in the grid", () => {
  const count = 10_007;
  const grid = shapeGrid(1000, count, 160);
  expect(grid.columns).toBe(5);
  for (const at of [0, 4, 5, 5000, count - 1]) {
    const place = placeTile(grid, at);
    expect(place.left + grid.tile).toBeLessThanOrEqual(1000);
    expect(place.top + grid.tile).toBeLessThanOrEqual(grid.height);
    const top = revealTile(grid, at, 0, 700);
    const [first, last] = spanView(grid, count, top, 700, 0);
    expect(at >= first && at < last).toBe(true);
    expect(last - first).toBeLessThan(60);
  }
});
