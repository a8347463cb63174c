/** One run as it is watched: its curves, spikes, previews; read anew while it runs. */

import { get } from "../../../lib/api.ts";
import { toastError } from "../../../lib/toasts.svelte.ts";
import type { Metrics } from "./curves.ts";

export interface StepClip {
  name: string;
  id: string | null;
  set: string | null;
  video: boolean;
  t: number;
  error: number | null;
  usual: number | null;
  times: number | null;
  frames: [number, number, number] | null;
  crop: number[] | null;
  flip: boolean;
  masked: boolean | null;
  weight: number | null;
}

export interface Spike {
  step: number;
  value: number;
  median: number;
  why: "clip" | "noise" | "unknown";
  clips: StepClip[];
}

export interface HardClip {
  name: string;
  id: string | null;
  set: string | null;
  draws: number;
  times: number;
  worst: number;
  worst_step: number;
}

export interface StepInfo {
  step: number;
  values: Record<string, number>;
  clips: StepClip[];
}

interface Watched {
  banner: { rows?: [string, string][]; warnings?: string[] };
  previews: {
    prompts: string[];
    seeds: number[];
    steps: { step: number; url: string; video: boolean }[];
  };
  saved_step: number;
}

export type Axis = "step" | "epoch" | "minutes";
const EVERY = 2000; // ms between two looks while a run runs
const RARELY = 5; // looks of which one is for what costs more

export class WatchState {
  metrics = $state.raw<Metrics | null>(null);
  spikes = $state.raw<Spike[]>([]);
  named = $state(true);
  hard = $state.raw<HardClip[]>([]);
  watched = $state.raw<Watched | null>(null);
  step = $state.raw<StepInfo | null>(null);
  error = $state("");
  private timer = 0;
  private looks = 0;
  private turn = 0;

  constructor(readonly id: string) {}

  /** Read the run now and, while it runs and the page is seen, again and again. */
  async follow(axis: Axis, buckets: number): Promise<void> {
    clearTimeout(this.timer);
    const mine = ++this.turn;
    const address = `/runs/${this.id}/metrics?x=${axis}&buckets=${buckets}`;
    try {
      const metrics = await get<Metrics>(address);
      if (mine !== this.turn) return;
      const more = metrics.lines !== this.metrics?.lines || metrics.state !== this.metrics.state;
      const ended = metrics.state !== "running" && this.metrics?.state === "running";
      this.metrics = metrics;
      this.error = "";
      if (this.looks === 0 || ended || (more && this.looks % RARELY === 0)) await this.readRest();
      this.looks += 1;
    } catch (error) {
      if (mine !== this.turn) return;
      this.error = error instanceof Error ? error.message : String(error);
    }
    const running = this.metrics === null || this.metrics.state === "running";
    if (running && mine === this.turn) {
      const again = () => (document.hidden ? wait() : void this.follow(axis, buckets));
      const wait = () => (this.timer = window.setTimeout(again, EVERY));
      wait();
    }
  }

  private async readRest(): Promise<void> {
    const base = `/runs/${this.id}`;
    const [spikes, hard, watched] = await Promise.all([
      get<{ spikes: Spike[]; named: boolean }>(`${base}/spikes`),
      get<{ clips: HardClip[] }>(`${base}/hard-clips`),
      get<Watched>(`${base}/watch`),
    ]);
    this.spikes = spikes.spikes;
    this.named = spikes.named;
    this.hard = hard.clips;
    this.watched = watched;
  }

  async showStep(step: number): Promise<void> {
    try {
      this.step = await get<StepInfo>(`/runs/${this.id}/steps/${Math.round(step)}`);
    } catch (error) {
      toastError(error);
    }
  }

  stop(): void {
    this.turn += 1;
    clearTimeout(this.timer);
  }
}
