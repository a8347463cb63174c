// Which frame is in sight, and moving through them: steps, scrubbing, playing.
import type { FrameInfo } from "./frames.ts";

const SETTLE = 140; // milliseconds after the last move until the frame is opened for painting

export class Player {
  /** The frame in sight; the one that is painted on follows when it has settled. */
  shown = $state(0);
  playing = $state(false);
  way: -1 | 0 | 1 = 0;
  late = 0; // frames in a row that were not there in time
  private timer: ReturnType<typeof setTimeout> | undefined;
  private asked = 0;

  constructor(
    private readonly settled: (frame: number) => void,
    private readonly isReady: (frame: number) => boolean,
    private readonly moved: () => void,
  ) {}

  moveTo(frame: number, info: FrameInfo): void {
    this.stop();
    const next = Math.min(Math.max(Math.round(frame), 0), info.frames - 1);
    this.way = next > this.shown ? 1 : next < this.shown ? -1 : 0;
    this.shown = next;
    this.moved();
    this.settle();
  }

  toggle(info: FrameInfo): void {
    if (this.playing) this.stop();
    else this.play(info);
  }

  stop(): void {
    if (!this.playing) return;
    this.playing = false;
    cancelAnimationFrame(this.asked);
    this.way = 0;
    this.settle();
  }

  close(): void {
    clearTimeout(this.timer);
    cancelAnimationFrame(this.asked);
  }

  private settle(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.settled(this.shown), SETTLE);
  }

  private play(info: FrameInfo): void {
    clearTimeout(this.timer);
    this.playing = true;
    this.way = 1;
    if (this.shown >= info.frames - 1) this.shown = 0;
    const fps = info.fps ?? 12;
    let start = performance.now();
    let from = this.shown;
    const beginOf = (frame: number) => (info.times ? info.times[frame]! : frame / fps);
    const step = (now: number): void => {
      if (!this.playing) return;
      this.asked = requestAnimationFrame(step);
      const due = beginOf(from) + (now - start) / 1000;
      const next = this.shown + 1;
      if (next >= info.frames) return this.stop();
      if (beginOf(next) > due) return;
      if (!this.isReady(next)) {
        // Time waits for the frame: one that is not shown was not seen.
        this.late++;
        this.moved();
        start = now;
        from = this.shown;
        return;
      }
      this.shown = next;
      this.moved();
    };
    this.moved();
    this.asked = requestAnimationFrame(step);
  }
}
