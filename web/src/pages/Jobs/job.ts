/** One job as the server sends it, and how it is put into words. */

import { formatNumber, formatSeconds } from "../../lib/format.ts";
import type { PageName } from "../../lib/router.svelte.ts";
import type { ToastKind } from "../../lib/toasts.svelte.ts";

export type JobState = "queued" | "running" | "stopping" | "finished" | "failed" | "stopped";

export interface JobProgress {
  stage: string;
  done: number;
  total: number;
  at: number;
  values: Record<string, number | string>;
  left: number | null;
}

export interface Job {
  id: string;
  kind: string;
  title: string;
  command: string;
  device: string | null;
  about: Record<string, unknown>;
  state: JobState;
  /** The server's clock when it said this, unix seconds; `received` is ours then. */
  now: number;
  received?: number;
  created: number;
  started: number | null;
  ended: number | null;
  pid: number | null;
  position: number | null;
  waits_for: string;
  progress: JobProgress | null;
  log: string;
  outputs: Record<string, string>;
  code: number | null;
  message: string;
  fix: string;
  /** It went through and found fault. */
  attention: boolean;
  lines: string[];
}

const ORDER: Record<JobState, number> = {
  stopping: 0,
  running: 0,
  queued: 1,
  finished: 2,
  failed: 2,
  stopped: 2,
};
const SHOWN = ["loss", "inside", "outside", "clips/s"];

/** The page on which one sees what a job makes, by its kind. */
const PAGES: Record<string, PageName> = {
  init: "data",
  inspect: "data",
  masks: "masks",
  train: "train",
  generate: "generate",
  evaluate: "runs",
  attend: "runs",
};

export function findPage(job: Job): PageName | null {
  return PAGES[job.kind] ?? null;
}

export function isEnded(state: JobState): boolean {
  return ORDER[state] === 2;
}

/** What runs, what waits in its order, what has ended with the newest first. */
export function sortJobs(jobs: Job[]): Job[] {
  return [...jobs].sort(
    (a, b) =>
      ORDER[a.state] - ORDER[b.state] ||
      (a.position ?? 0) - (b.position ?? 0) ||
      (a.ended !== null && b.ended !== null ? b.ended - a.ended : 0) ||
      a.created - b.created,
  );
}

/** The server's time at a moment of this browser's clock, both in seconds. */
function toServerTime(job: Job, now: number): number {
  return job.now + Math.max(0, now - (job.received ?? now));
}

/** Seconds a job has run, or ran. */
export function countSeconds(job: Job, now: number): number | null {
  if (job.started === null) return null;
  return Math.max(0, (job.ended ?? toServerTime(job, now)) - job.started);
}

/** Seconds that are left of the stage; null where nobody knows. */
export function countLeft(job: Job, now: number): number | null {
  const progress = job.progress;
  if (!progress || progress.left === null || progress.done >= progress.total) return null;
  const left = progress.left - (toServerTime(job, now) - progress.at);
  return left > 0 ? left : null; // it takes longer than it seemed: better nothing than "0 s"
}

/** "training: 120 of 1000". */
export function describeStep(job: Job): string {
  const progress = job.progress;
  if (!progress) return job.log || "starting";
  return `${progress.stage}: ${progress.done} of ${progress.total}`;
}

/** The numbers of a step that one follows: "loss 0.703  inside 0.71". */
export function describeValues(job: Job): string {
  const values = job.progress?.values ?? {};
  return SHOWN.filter((name) => name in values)
    .map((name) => {
      const value = values[name];
      return `${name} ${typeof value === "number" ? formatNumber(value) : value}`;
    })
    .join("  ");
}

/** How it stands, in a few words; `before` is the title of the job that it waits for. */
export function describeState(job: Job, now: number, before = ""): string {
  const seconds = countSeconds(job, now);
  const time = seconds === null ? "" : ` ${formatSeconds(seconds)}`;
  switch (job.state) {
    case "queued":
      return before ? `waits for ${before}` : "next";
    case "running":
      return `runs${time}`;
    case "stopping":
      return "stops after this step";
    case "finished":
      return job.attention ? `finished, look at it,${time}` : `finished in${time}`;
    case "failed":
      return seconds === null ? "failed" : `failed after${time}`;
    case "stopped":
      return seconds === null ? "taken out" : `stopped after${time}`;
  }
}

/** When it ended: 14:32, and the day where it was another. */
export function describeTime(job: Job, now: number): string {
  if (job.ended === null) return "";
  const [end, today] = [new Date(job.ended * 1000), new Date(now * 1000)];
  const time = end.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const sameDay = end.toDateString() === today.toDateString();
  return sameDay
    ? time
    : `${end.toLocaleDateString([], { day: "numeric", month: "short" })} ${time}`;
}

/** What is said of an end to whoever is elsewhere. */
export function describeEnd(job: Job): { text: string; kind: ToastKind } {
  if (job.state === "failed") return { text: `${job.title}: ${job.message}`, kind: "error" };
  if (job.state === "stopped") return { text: `${job.title}: stopped`, kind: "info" };
  if (job.attention) return { text: `${job.title}: ${job.message}`, kind: "warn" };
  return { text: `${job.title}: finished`, kind: "ok" };
}
