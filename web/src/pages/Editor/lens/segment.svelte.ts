/** Clicks, a box or words sent to the server; the candidates that come back, one shown at a time. */

import { ApiError, get, raw } from "../../../lib/api.ts";
import type { Clip } from "../../../lib/workspace.svelte.ts";
import { inflate, unpackFrame } from "./frames.ts";

export interface Click {
  x: number;
  y: number;
  inside: boolean;
}

export type Box = [number, number, number, number];

interface Answer {
  backend: string;
  source: string;
  device: string;
  scores: (number | null)[];
  shares: number[];
  lengths: number[];
}

export interface Segmenters {
  points: string;
  text: string | null;
  text_missing?: string;
  device: string;
  busy: string[];
}

export interface Candidate {
  ids: Uint8Array;
  score: number | null;
  share: number;
}

export const BACKENDS: Record<string, string> = { draft: "GrabCut", sam2: "SAM 2", sam3: "SAM 3" };

export class SegmentSession {
  clicks = $state.raw<Click[]>([]);
  box = $state.raw<Box | null>(null);
  candidates = $state.raw<Candidate[]>([]);
  shown = $state(0);
  backend = $state("");
  waiting = $state(false);
  /** What was asked and found nothing, or why it could not be asked. */
  note = $state("");
  /** Jobs on the device that a model would use: the user is asked. */
  busy = $state.raw<string[]>([]);
  device = $state("auto");
  segmenters = $state.raw<Segmenters | null>(null);
  private asked: AbortController | null = null;

  constructor(readonly show: (ids: Uint8Array | null) => void) {}

  async learn(clip: Clip): Promise<void> {
    try {
      this.segmenters = await get<Segmenters>(`/clips/${clip.id}/segment`);
    } catch (error) {
      this.note = (error as Error).message;
    }
  }

  click(click: Click): void {
    this.clicks = [...this.clicks, click];
  }

  takeBack(): void {
    this.clicks = this.clicks.slice(0, -1);
  }

  /** Forget everything asked and proposed. */
  reset(): void {
    this.asked?.abort();
    this.clicks = [];
    this.box = null;
    this.candidates = [];
    this.shown = 0;
    this.note = "";
    this.busy = [];
    this.show(null);
  }

  cycle(by: number): void {
    const count = this.candidates.length;
    if (!count) return;
    this.shown = (this.shown + by + count) % count;
    this.show(this.candidates[this.shown]!.ids);
  }

  async ask(clip: Clip, frame: number, text = ""): Promise<void> {
    this.asked?.abort();
    const stop = (this.asked = new AbortController());
    const body = text
      ? { text, frame, device: this.device }
      : { points: this.clicks, box: this.box, frame, device: this.device };
    this.waiting = true;
    this.note = "";
    this.busy = [];
    try {
      const init = { method: "POST", body: JSON.stringify(body), signal: stop.signal };
      const headers = { "Content-Type": "application/json" };
      const response = await raw(`/clips/${clip.id}/segment`, { ...init, headers });
      const { value, body: packed } = unpackFrame<Answer>(await response.arrayBuffer());
      await this.take(value, packed, stop.signal);
    } catch (error) {
      if (!stop.signal.aborted) this.fail(error);
    } finally {
      if (this.asked === stop) this.waiting = false;
    }
  }

  private async take(value: Answer, packed: Uint8Array, signal: AbortSignal): Promise<void> {
    let start = 0;
    const candidates: Candidate[] = [];
    for (const [index, length] of value.lengths.entries()) {
      const ids = await inflate(packed.slice(start, start + length));
      candidates.push({ ids, score: value.scores[index]!, share: value.shares[index]! });
      start += length;
    }
    if (signal.aborted) return;
    this.backend = BACKENDS[value.backend] ?? value.backend;
    this.candidates = candidates;
    this.shown = 0;
    this.show(candidates[0]?.ids ?? null);
    if (!candidates.length) this.note = "Nothing was found there. Click elsewhere, or draw a box.";
  }

  private fail(error: unknown): void {
    this.candidates = [];
    this.show(null);
    if (error instanceof ApiError) {
      const body = error.body as { busy?: string[] } | undefined;
      this.busy = body?.busy ?? [];
      this.note = [error.message, error.fix].filter(Boolean).join(". ");
    } else {
      this.note = String(error);
    }
  }
}
