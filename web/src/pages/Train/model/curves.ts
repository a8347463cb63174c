/** Curves as they are drawn: smoothed over the raw ones, in colours that stay theirs. */

export interface Band {
  mean: (number | null)[];
  min: (number | null)[];
  max: (number | null)[];
}

export interface Metrics {
  x: number[];
  series: Record<string, Band>;
  lines: number;
  steps: number;
  seconds: number;
  bad_lines: number;
  last: Record<string, number>;
  state: "running" | "stopped" | "finished" | "failed";
  of_steps: number | null;
}

/**
 * An exponential mean, begun without a bias towards 0. `weight` in [0, 1) is how much of the past
 * stays at each point; 0 gives the values back.
 */
export function smooth(values: (number | null)[], weight: number): (number | null)[] {
  let mean = 0;
  let trust = 0;
  return values.map((value) => {
    if (value === null) return null;
    mean = weight * mean + (1 - weight) * value;
    trust = weight * trust + (1 - weight);
    return mean / trust;
  });
}

export interface Curve {
  name: string;
  label: string;
  colour: string;
  dash?: number[];
}

// As masks are drawn everywhere (evaluation/contact_sheet.py), so that a region keeps its colour.
const COLOURS = ["#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#d55e00", "#c9b800", "#0072b2"];
const DASHES = [undefined, [6, 3], [2, 3], [8, 3, 2, 3]];

/** The curves of the loss: inside, outside, each region, and the terms. */
export function listLossCurves(names: string[]): Curve[] {
  const curves: Curve[] = [];
  if (names.includes("inside")) curves.push({ name: "inside", label: "inside", colour: "text" });
  if (names.includes("outside")) {
    curves.push({ name: "outside", label: "outside", colour: "dim", dash: [4, 4] });
  }
  const regions = names.filter((name) => name.startsWith("loss/"));
  regions.forEach((name, index) => {
    curves.push({
      name,
      label: name.slice(5),
      colour: COLOURS[index % COLOURS.length] ?? "accent",
      dash: DASHES[Math.floor(index / COLOURS.length) % DASHES.length],
    });
  });
  return curves;
}

const KNOWN = new Set([
  "inside",
  "outside",
  "loss",
  "lr",
  "step_seconds",
  "grad_norm",
  "device_mib",
  "resident_mib",
  "t",
  "weight",
  "skipped",
  "scaled",
  "largest_norm",
]);

/** Loss terms that a run records by their own names. */
export function listTerms(names: string[]): string[] {
  return names.filter((name) => !KNOWN.has(name) && !name.includes("/"));
}

/** The index of the point nearest to a place on the axis. */
export function nearest(x: number[], place: number): number {
  let best = 0;
  for (let index = 1; index < x.length; index += 1) {
    if (Math.abs((x[index] ?? 0) - place) < Math.abs((x[best] ?? 0) - place)) best = index;
  }
  return best;
}
