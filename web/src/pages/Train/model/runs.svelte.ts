/** Runs of the folder, and the jobs that train. */

import { get } from "../../../lib/api.ts";
import { on } from "../../../lib/events.svelte.ts";

export interface RunInfo {
  id: string;
  name: string;
  folder: string;
  config: string | null;
  state: "running" | "stopped" | "finished" | "failed";
  started: number | null;
  steps: number;
  of_steps: number | null;
  seconds: number;
  family: string;
  variant: string;
}

export interface JobInfo {
  id: string;
  kind: string;
  title: string;
  command: string;
  device: string | null;
  about: Record<string, unknown>;
  state: "queued" | "running" | "stopping" | "finished" | "failed" | "stopped";
  progress: {
    stage: string;
    done: number;
    total: number;
    left: number | null;
    values: Record<string, number | string>;
  } | null;
  waits_for: string;
  log: string;
  message: string;
  fix: string;
  ended: number | null;
}

class TrainRuns {
  runs = $state.raw<RunInfo[]>([]);
  jobs = $state.raw<JobInfo[]>([]);
  loaded = $state(false);

  async load(): Promise<void> {
    const [runs, jobs] = await Promise.all([
      get<{ runs: RunInfo[] }>("/runs"),
      get<{ jobs: JobInfo[] }>("/jobs"),
    ]);
    this.runs = runs.runs;
    this.jobs = jobs.jobs.filter((job) => job.kind === "train");
    this.loaded = true;
  }

  /** Follow what happens; the result ends it. */
  follow(): () => void {
    const stops = [
      on("job", (data) => this.hearJob(data as unknown as JobInfo)),
      on("run", (data) => this.hearRun(data as unknown as Partial<RunInfo> & { id: string })),
      on("refetch", () => void this.load()),
    ];
    return () => stops.forEach((stop) => stop());
  }

  private hearJob(job: JobInfo): void {
    if (job.kind !== "train") return;
    const known = this.jobs.some((each) => each.id === job.id);
    this.jobs = known
      ? this.jobs.map((each) => (each.id === job.id ? job : each))
      : [job, ...this.jobs];
    if (!this.runOf(job) || job.ended !== null) void this.load();
  }

  private hearRun(run: Partial<RunInfo> & { id: string }): void {
    if (!this.runs.some((each) => each.id === run.id)) void this.load();
    else this.runs = this.runs.map((each) => (each.id === run.id ? { ...each, ...run } : each));
  }

  runOf(job: JobInfo): RunInfo | undefined {
    return this.runs.find((run) => run.folder === job.about.output);
  }

  /** The job that is at a run, or waits to be. */
  jobOf(run: RunInfo): JobInfo | undefined {
    return this.jobs.find((job) => job.about.output === run.folder && job.ended === null);
  }

  get active(): JobInfo[] {
    return this.jobs.filter((job) => job.ended === null);
  }
}

export const runs = new TrainRuns();
