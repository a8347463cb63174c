// What is known of a clip's frames: its lanes, film strip and what the trainer takes; kept fresh.
import { get, post, raw, del } from "../../../lib/api.ts";
import { on } from "../../../lib/events.svelte.ts";
import { toastError } from "../../../lib/toasts.svelte.ts";
import type { Clip } from "../../../lib/workspace.svelte.ts";
import type { FrameInfo } from "./frames.ts";
import type { Strip, Timeline, Tracking } from "./lanes.ts";

const SOON = 400; // milliseconds after a change until everything is asked again
const PAUSE = 15_000; // milliseconds without a change until painted frames go into the file
const TILES = 60;

export class Reel {
  info = $state.raw<FrameInfo | null>(null);
  timeline = $state.raw<Timeline | null>(null);
  strip = $state.raw<Strip | null>(null);
  picks = $state.raw<Set<number> | null>(null);
  writing = $state(false);
  private soon: ReturnType<typeof setTimeout> | undefined;
  private pause: ReturnType<typeof setTimeout> | undefined;
  private measuring = false;
  private closed = false;
  private deaf: () => void;

  constructor(
    readonly clip: Clip,
    private readonly stale: (frames: number[] | null) => void,
  ) {
    const ends = [
      on("mask", (change) => this.hear(change)),
      on("refetch", () => void this.refresh()),
    ];
    this.deaf = () => ends.forEach((end) => end());
  }

  async load(): Promise<void> {
    this.info = await get<FrameInfo>(`/clips/${this.clip.id}/frames`);
    await this.refresh();
    // Nice to have: a clip whose film strip or configuration cannot be read is still painted.
    await this.loadStrip().catch(toastError);
    await this.loadPicks().catch(toastError); // last: it brings the whole configuration
  }

  get running(): boolean {
    return this.timeline?.tracking?.running ?? false;
  }

  async refresh(): Promise<void> {
    const timeline = await get<Timeline>(`/clips/${this.clip.id}/timeline`);
    if (this.closed) return;
    this.timeline = timeline;
    this.plan();
    if (timeline.masked && !timeline.shares && !this.measuring) void this.measure();
  }

  /** Write all painted frames into the mask's file; what is painted meanwhile stays a draft. */
  async write(): Promise<void> {
    if (this.writing) return;
    this.writing = true;
    clearTimeout(this.pause);
    try {
      await post(`/clips/${this.clip.id}/mask/whole`);
    } finally {
      this.writing = false;
    }
    await this.refresh();
  }

  async track(body: {
    first: number;
    last: number;
    direction: string;
    keys: number[];
    tracker: string;
  }): Promise<void> {
    const tracking = await post<Tracking>(`/clips/${this.clip.id}/mask/track`, body);
    if (this.timeline) this.timeline = { ...this.timeline, tracking };
  }
  async stop(): Promise<void> {
    await del(`/clips/${this.clip.id}/mask/track`);
    await this.refresh();
  }
  async undoTracking(): Promise<void> {
    await post(`/clips/${this.clip.id}/mask/track/undo`);
  }
  async copy(source: number, first: number, last: number): Promise<void> {
    await post(`/clips/${this.clip.id}/mask/frames/${source}/copy`, { first, last });
  }
  async blend(first: number, last: number): Promise<number> {
    const answer = await post<{ frames: number[] }>(`/clips/${this.clip.id}/mask/blend`, {
      first,
      last,
    });
    return answer.frames.length;
  }

  close(): void {
    this.closed = true;
    this.deaf();
    clearTimeout(this.soon);
    clearTimeout(this.pause);
    this.strip?.picture.close();
    this.leave();
  }

  /** Drafts are safe as they are; written now, whoever trains next reads them. */
  leave(): void {
    if (this.timeline?.waiting.length && !this.running && !this.writing)
      raw(`/clips/${this.clip.id}/mask/whole`, { method: "POST", keepalive: true }).catch(
        toastError,
      );
  }

  private hear(change: Record<string, unknown>): void {
    if (change.clip !== this.clip.id) return;
    const { timeline } = this;
    if (timeline && typeof change.tracked === "number" && typeof change.frame === "number") {
      const tracking = timeline.tracking && {
        ...timeline.tracking,
        done: Number(change.done),
        total: Number(change.total),
      };
      this.timeline = {
        ...timeline,
        tracking,
        tracked: { ...timeline.tracked, [change.frame]: change.tracked },
      };
      this.stale([change.frame]);
      return;
    }
    if (change.ended && change.fault) toastError(new Error(String(change.fault)));
    const frames = Array.isArray(change.frames) ? (change.frames as number[]) : null;
    this.stale(frames ?? (typeof change.frame === "number" ? [change.frame] : null));
    clearTimeout(this.soon);
    this.soon = setTimeout(() => void this.refresh().catch(toastError), SOON);
  }

  private plan(): void {
    clearTimeout(this.pause);
    if (!this.timeline?.waiting.length || this.running || this.closed) return;
    this.pause = setTimeout(() => {
      if (!this.running) void this.write().catch(toastError);
    }, PAUSE);
  }

  private async measure(): Promise<void> {
    this.measuring = true;
    try {
      const { shares } = await post<{ shares: Record<string, number[]> }>(
        `/clips/${this.clip.id}/timeline/coverage`,
      );
      if (this.timeline && !this.closed) this.timeline = { ...this.timeline, shares };
    } catch (error) {
      toastError(error);
    }
  }

  private async loadStrip(): Promise<void> {
    const answer = await raw(`/clips/${this.clip.id}/strip?count=${TILES}&height=44`);
    const told = JSON.parse(answer.headers.get("X-Frisket-Strip") ?? "{}") as Omit<
      Strip,
      "picture"
    >;
    const picture = await createImageBitmap(await answer.blob());
    if (this.closed) picture.close();
    else this.strip = { ...told, picture };
  }

  private async loadPicks(): Promise<void> {
    const { windows } = await get<{ windows: number[][] }>(`/clips/${this.clip.id}/timeline/picks`);
    this.picks = windows.length ? new Set(windows.flat()) : null;
  }
}
