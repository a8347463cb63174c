/** Sheets of previews as a table: a row a prompt and seed, a column a run, all at one step. */

import type { Cell, Previews, SampleTable } from "./types.ts";

/** The steps at which any run drew previews. */
export function listSteps(previews: Previews[]): number[] {
  const steps = new Set(previews.flatMap((each) => each.steps.map((entry) => entry.step)));
  return [...steps].sort((one, other) => one - other);
}

/** Each run as it was at `step`, or as it last was before; its cells are cut out of its sheet. */
export function layPreviews(
  previews: Previews[],
  runs: { id: string; name: string }[],
  step: number,
): SampleTable {
  const rows = new Map<string, SampleTable["rows"][number]>();
  previews.forEach((each, column) => {
    const sheet = each.steps.findLast((entry) => entry.step <= step);
    each.prompts.forEach((prompt, row) =>
      each.seeds.forEach((seed, place) => {
        const key = JSON.stringify([prompt, seed]);
        const line = rows.get(key) ?? {
          prompt,
          seed,
          size: "",
          cells: previews.map(() => null as Cell | null),
        };
        rows.set(key, line);
        if (!sheet) return;
        line.cells[column] = {
          url: sheet.url,
          video: sheet.video,
          note: `step ${sheet.step}`,
          grid: { rows: each.prompts.length, columns: each.seeds.length, row, column: place },
        };
      }),
    );
  });
  const named = previews.map((each) => ({
    id: each.run,
    title: runs.find((run) => run.id === each.run)?.name ?? each.run,
  }));
  const shown = [...rows.values()].filter((row) => row.cells.some((cell) => cell !== null));
  return { columns: named, rows: shown, left_out: 0 };
}
