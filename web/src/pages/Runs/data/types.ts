/** What the server says of runs and their pictures. */

export type RunState = "running" | "stopped" | "finished" | "failed";

export interface Run {
  id: string;
  name: string;
  folder: string;
  config: string | null;
  state: RunState;
  started: number | null;
  steps: number;
  of_steps: number | null;
  seconds: number;
  best: { step: number; error: number; base: number | null } | null;
  lora: string | null;
  family: string;
  variant: string;
  pages: Record<string, string>;
}

/** A picture or clip; `grid` where it is one cell of a sheet of previews. */
export interface Cell {
  url: string;
  video: boolean;
  note?: string;
  grid?: { rows: number; columns: number; row: number; column: number };
}

export interface SampleTable {
  columns: { id: string; title: string }[];
  rows: {
    prompt: string;
    seed: number;
    size: string;
    unrelated?: boolean;
    cells: (Cell | null)[];
  }[];
  left_out: number;
}

export interface Previews {
  run: string;
  prompts: string[];
  seeds: number[];
  steps: { step: number; url: string; video: boolean }[];
}

export interface SamplesAnswer {
  previews: Previews[];
  generated: SampleTable;
  evaluation: SampleTable | null;
}

export interface SettingsAnswer {
  runs: string[];
  lacking: string[];
  rows: { key: string; values: string[] }[];
  clips: {
    runs: string[];
    clips: number[];
    masked: number[];
    lacking: string[];
    counts: Record<string, number>;
    rows: { name: string; differs: string[]; in: boolean[]; masked: boolean[] }[];
    left_out: number;
  };
}

export interface Metric {
  key: string;
  title: string;
  better: "low" | "high" | "";
  percent: boolean;
  digits: number;
  meaning: string;
  unit: string;
}

export interface Measured {
  mean: number | null;
  low: number | null;
  high: number | null;
  count: number | null;
}

export interface Pair {
  metric: string;
  standing: "better" | "alike" | "open";
  winner: string;
  loser: string;
  sentence: string;
}

export interface Report {
  id: string;
  written: number;
  page: string | null;
  verdict: string;
  of_others: boolean;
  claims: { sentence: string; measured: string; met: boolean }[];
  notes: string[];
  comparison: { sentence: string; pairs: Pair[]; note: string } | null;
  stale: string[];
  metrics: Metric[];
  runs: {
    id: string;
    name: string;
    masked: boolean;
    steps: number | null;
    metrics: Record<string, Measured>;
  }[];
}

export interface ReportAnswer {
  report: Report | null;
  without_lora: string[];
}

export interface Attention {
  run: string;
  written: number;
  stale: boolean;
  page: string | null;
  summary: string;
  notes: string[];
  numbers: {
    phrase: string;
    model: string;
    region: string;
    estimates: Record<string, { mean: number | null; low: number | null; high: number | null }>;
  }[];
  sheets: { name: string; url: string }[];
}

export interface Curves {
  x: number[];
  series: Record<
    string,
    { mean: (number | null)[]; min: (number | null)[]; max: (number | null)[] }
  >;
  state: RunState;
}
