/** Asks the server what the loss sees of the mask in hand; the newest question wins. */

import type { MaskDoc } from "../../../ink/doc.ts";
import { raw } from "../../../lib/api.ts";
import type { Clip, Region } from "../../../lib/workspace.svelte.ts";
import { deflate, packFrame, readHalves, unpackFrame } from "./frames.ts";

const PAUSE = 125; // milliseconds between two questions: eight a second at most

export interface LossRegion {
  name: string;
  weight: number;
  picture: number; // share of the picture's pixels
  cells: number; // mean coverage of the latent cells
  best: number; // coverage of its best cell
  loss: number; // share of the weighted loss
}

export interface LossFault {
  kind: string;
  severity: "error" | "warning" | "note";
  region: string;
  sentence: string;
  fix: string;
}

export interface LossAnswer {
  masked: boolean;
  cells: [number, number, number];
  spatial: number;
  temporal: number;
  box: [number, number, number, number];
  target: [number, number];
  size: [number, number];
  frames: number;
  latent: number;
  picked: boolean;
  regions: LossRegion[];
  faults: LossFault[];
  normalise: string;
  family: string;
  variant: string;
  resolution: [number, number];
  largest: number;
  trained?: string;
}

export interface LossPlanes {
  answer: LossAnswer;
  /** Of the latent frame at hand: h w weights, and h w coverage by region. */
  weights: Float32Array;
  coverage: Map<string, Float32Array>;
}

export interface Question {
  clip: Clip;
  doc: MaskDoc;
  regions: Region[];
  resolution: number | null;
}

export class LossWatch {
  planes = $state.raw<LossPlanes | null>(null);
  error = $state.raw<{ message: string; fix?: string } | null>(null);
  waiting = $state(false);
  /** Milliseconds from question to answer, the last. */
  took = $state(0);
  private next: Question | null = null;
  private running = false;
  private ended = false;

  ask(question: Question): void {
    this.next = question;
    if (!this.running) void this.run();
  }

  end(): void {
    this.ended = true;
    this.next = null;
  }

  private async run(): Promise<void> {
    this.running = true;
    this.waiting = true;
    while (this.next && !this.ended) {
      const question = this.next;
      this.next = null;
      const began = performance.now();
      try {
        const planes = await fetchLoss(question);
        if (this.ended) break;
        this.planes = planes;
        this.error = null;
      } catch (error) {
        const { message, fix } = error as { message: string; fix?: string };
        this.error = { message, fix };
      }
      this.took = performance.now() - began;
      await new Promise((resolve) => setTimeout(resolve, Math.max(PAUSE - this.took, 0)));
    }
    this.running = false;
    this.waiting = false;
  }
}

/** The answer for one mask; what is painted is copied before anything is awaited. */
export async function fetchLoss({ clip, doc, regions, resolution }: Question): Promise<LossPlanes> {
  const named = regions.filter((region) => region.id !== doc.background);
  const soft = doc.truth === "soft" ? named.filter((region) => doc.soft.has(region.id)) : [];
  const planes = soft.length ? soft.map((region) => doc.soft.get(region.id)!) : [doc.ids];
  const parts = await Promise.all(planes.map((plane) => deflate(plane.slice())));
  const head = {
    width: doc.width,
    height: doc.height,
    legend: Object.fromEntries(named.map((region) => [region.name, region.id])),
    soft: soft.map((region) => region.name),
    lengths: parts.map((part) => part.length),
    frame: doc.frame,
    weights: Object.fromEntries(regions.map((region) => [region.name, region.weight])),
    resolution,
  };
  const response = await raw(`/clips/${clip.id}/weights`, {
    method: "POST",
    body: packFrame(head, parts),
  });
  const { value, body } = unpackFrame<LossAnswer>(await response.arrayBuffer());
  return cutPlanes(value, readHalves(body.slice()));
}

function cutPlanes(answer: LossAnswer, values: Float32Array): LossPlanes {
  const [f, h, w] = answer.cells;
  const size = h * w;
  const cut = (plane: number) => {
    const start = (plane * f + answer.latent) * size;
    return values.subarray(start, start + size);
  };
  const names = answer.regions.map((region) => region.name).filter((name) => name !== "background");
  return { answer, weights: cut(0), coverage: new Map(names.map((name, k) => [name, cut(k + 1)])) };
}
