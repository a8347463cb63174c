import { expect, test } from "vitest";
import { layPreviews, listSteps } from "./previews.ts";
import type { Previews } from "./types.ts";

const sheet = (step: number) => ({ step, url: `/${step}`, video: false });
const one: Previews = { run: "a", prompts: ["x"], seeds: [0, 1], steps: [sheet(10), sheet(20)] };
const other: Previews = { run: "b", prompts: ["x", "y"], seeds: [1], steps: [sheet(15)] };
const names = [
  { id: "a", name: "first" },
  { id: "b", name: "second" },
];

test("steps of all runs make one row of stops", () => {
  expect(listSteps([one, other])).toEqual([10, 15, 20]);
});

test("equal prompts and seeds share a row, each run as it last was", () => {
  const table = layPreviews([one, other], names, 15);
  expect(table.columns.map((column) => column.title)).toEqual(["first", "second"]);
  expect(table.rows.map((row) => [row.prompt, row.seed])).toEqual([
    ["x", 0],
    ["x", 1],
    ["y", 1],
  ]);
  expect(table.rows[1]?.cells.map((cell) => cell?.url)).toEqual(["/10", "/15"]);
  expect(table.rows[1]?.cells[1]?.grid).toEqual({ rows: 2, columns: 1, row: 0, column: 0 });
  expect(table.rows[0]?.cells[1]).toBeNull();
});

test("before the first preview of a run its column is empty", () => {
  const table = layPreviews([one, other], names, 12);
  expect(table.rows).toHaveLength(2);
  expect(table.rows.every((row) => row.cells[1] === null)).toBe(true);
});
