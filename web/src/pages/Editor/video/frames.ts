// Frames of a clip as pictures to draw: fetched ahead, a bounded number of bytes kept.
import { raw } from "../../../lib/api.ts";

const KEPT = 192 * 2 ** 20; // bytes of pictures
const AHEAD = 8; // frames fetched on either side, and twice as many on the way of playing
const AT_ONCE = 3; // of the six connections that a browser has

export interface FrameInfo {
  frames: number;
  width: number;
  height: number;
  fps: number | null;
  times: number[] | null;
  video: boolean;
}

/** What is worth fetching about a frame, the nearest first; `way` leans to where it goes. */
export function listAhead(index: number, frames: number, way: -1 | 0 | 1, ahead = AHEAD): number[] {
  const wanted = [index];
  for (let far = 1; far <= ahead * (way ? 2 : 1); far++) {
    if (way >= 0) wanted.push(index + far);
    if (way <= 0 || far <= 2) wanted.push(index - far);
  }
  return wanted.filter((each) => each >= 0 && each < frames);
}

export class FrameStore {
  private readonly kept = new Map<number, ImageBitmap>();
  private readonly coming = new Map<number, AbortController>();
  private readonly failed = new Set<number>();
  private wanted: number[] = [];
  private bytes = 0;
  private closed = false;

  constructor(
    private readonly clip: string,
    private readonly frames: number,
    readonly width: number,
    private readonly came: (index: number) => void,
    private readonly told: (error: unknown) => void,
  ) {}

  get(index: number): ImageBitmap | undefined {
    const picture = this.kept.get(index);
    if (picture) {
      this.kept.delete(index); // to the young end
      this.kept.set(index, picture);
    }
    return picture;
  }

  /** Fetch a frame and those about it; what is not wanted any more is called off. */
  want(index: number, way: -1 | 0 | 1 = 0): void {
    this.wanted = listAhead(index, this.frames, way).filter(
      (each) => !this.kept.has(each) && !this.failed.has(each),
    );
    for (const [number, controller] of this.coming)
      if (!this.wanted.includes(number)) controller.abort();
    this.fill();
  }

  close(): void {
    this.closed = true;
    for (const controller of this.coming.values()) controller.abort();
    for (const picture of this.kept.values()) picture.close();
    this.kept.clear();
  }

  private fill(): void {
    if (this.closed) return;
    for (const index of this.wanted) {
      if (this.coming.size >= AT_ONCE) return;
      if (!this.coming.has(index) && !this.kept.has(index)) void this.fetch(index);
    }
  }

  private async fetch(index: number): Promise<void> {
    const controller = new AbortController();
    this.coming.set(index, controller);
    try {
      const answer = await raw(`/clips/${this.clip}/frames/${index}?width=${this.width}`, {
        signal: controller.signal,
      });
      const picture = await createImageBitmap(await answer.blob());
      if (this.closed) picture.close();
      else this.keep(index, picture);
    } catch (error) {
      if (controller.signal.aborted) return;
      this.failed.add(index); // asked for again it would fail again
      this.told(error);
    } finally {
      this.coming.delete(index);
      this.fill();
    }
  }

  private keep(index: number, picture: ImageBitmap): void {
    this.kept.set(index, picture);
    this.bytes += picture.width * picture.height * 4;
    for (const [number, old] of this.kept) {
      if (this.bytes <= KEPT || number === index) break;
      this.kept.delete(number);
      this.bytes -= old.width * old.height * 4;
      old.close();
    }
    this.came(index);
  }
}

/** Masks of frames, for showing them while the frames move; none is kept once it may be old. */
export class MaskStore {
  private readonly kept = new Map<number, Uint8Array>();
  private readonly coming = new Map<number, AbortController>();

  constructor(
    private readonly clip: string,
    private readonly most: number,
    private readonly came: (index: number) => void,
  ) {}

  get(index: number): Uint8Array | undefined {
    return this.kept.get(index);
  }

  want(indices: number[]): void {
    for (const [number, controller] of this.coming)
      if (!indices.includes(number)) controller.abort();
    for (const index of indices)
      if (!this.kept.has(index) && !this.coming.has(index)) void this.fetch(index);
  }

  forget(index?: number): void {
    if (index === undefined) this.kept.clear();
    else this.kept.delete(index);
  }

  close(): void {
    for (const controller of this.coming.values()) controller.abort();
    this.kept.clear();
  }

  private async fetch(index: number): Promise<void> {
    const controller = new AbortController();
    this.coming.set(index, controller);
    try {
      const answer = await raw(`/clips/${this.clip}/mask?frame=${index}`, {
        signal: controller.signal,
      });
      const body = answer.body!.pipeThrough(new DecompressionStream("deflate"));
      const ids = new Uint8Array(await new Response(body).arrayBuffer());
      this.kept.set(index, ids);
      for (const number of this.kept.keys()) {
        if (this.kept.size <= this.most) break;
        this.kept.delete(number);
      }
      this.came(index);
    } catch {
      // Shown without its mask: the editor says what is wrong with it when the frame is opened.
    } finally {
      this.coming.delete(index);
    }
  }
}
