/** Saves what changed: a moment after the last stroke, never during one, again until it is there. */

import type { MaskDoc } from "./doc";
import { packPatch, type PatchTile } from "./patch";
import type { Op } from "./stroke";

export type SaveState = "saved" | "waiting" | "saving" | "conflict" | "failed";

export const PAUSE = 1000; // milliseconds after the last change
const STROKE = 150; // milliseconds until a stroke under way is looked at again
const FIRST_RETRY = 1000,
  LAST_RETRY = 30_000;

/** What the server answers instead of a revision. `status` 0: it did not answer at all. */
export class SaveError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly revision = "",
  ) {
    super(message);
  }
}

/** Sends a change made on a revision; the new revision, or SaveError. */
export type Send = (body: Uint8Array, revision: string) => Promise<string>;

export interface SyncEvents {
  state(state: SaveState, why: string): void;
  /** What goes into the log with the tiles that are being taken; asked again where that fails. */
  take(): Op[];
  /** The tiles taken are on the server. */
  saved(revision: string): void;
  /** Somebody else has saved; nothing is sent until `resume`. */
  conflict(revision: string): void;
}

export class Sync {
  state: SaveState = "saved";
  why = "";
  private timer: ReturnType<typeof setTimeout> | undefined;
  private delay = FIRST_RETRY;
  private running: Promise<void> | null = null;
  private closed = false;

  constructor(
    private readonly doc: MaskDoc,
    public revision: string,
    private readonly send: Send,
    private readonly events: SyncEvents,
    private readonly pause = PAUSE,
  ) {}

  /** Something changed: save it soon. */
  touch(): void {
    if (this.closed || this.state === "conflict") return;
    if (!this.running) this.change("waiting");
    this.plan(this.pause);
  }

  /** Save now what there is, and wait for it. */
  async flush(): Promise<void> {
    while (this.running) await this.running;
    if (this.state === "conflict" || this.closed || this.doc.busy || !this.doc.hasDirty("sync"))
      return;
    clearTimeout(this.timer);
    this.running = this.save().finally(() => (this.running = null));
    await this.running;
  }

  /** Go on from a revision, after a conflict was settled or somebody else's mask was taken over. */
  resume(revision: string): void {
    this.revision = revision;
    this.state = "saved";
    if (this.doc.hasDirty("sync")) this.touch();
    else this.change("saved");
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
  }

  private plan(wait: number): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      if (this.doc.busy) this.plan(STROKE);
      else void this.flush();
    }, wait);
  }

  private async save(): Promise<void> {
    const { doc } = this,
      taken = doc.takePlanes("sync"),
      ops = this.events.take();
    const tiles: PatchTile[] = [];
    for (const [plane, list] of taken) {
      for (const tile of list)
        tiles.push({
          plane,
          ...doc.tiling.rect(tile),
          content: doc.tiling.copy(doc.plane(plane), tile),
        });
    }
    this.change("saving");
    const { frame, width, height } = doc;
    try {
      this.revision = await this.send(
        await packPatch({ frame, width, height, tiles, ops }),
        this.revision,
      );
    } catch (error) {
      for (const [plane, list] of taken) for (const tile of list) doc.touch(plane, tile, ["sync"]);
      this.give(error);
      return;
    }
    this.delay = FIRST_RETRY;
    this.events.saved(this.revision);
    if (doc.hasDirty("sync")) {
      this.change("waiting");
      this.plan(this.pause);
    } else {
      this.change("saved");
    }
  }

  /** Say why it is not saved; try again by itself where the server may come back. */
  private give(error: unknown): void {
    const status = error instanceof SaveError ? error.status : -1;
    const message = error instanceof Error ? error.message : String(error);
    if (status === 412) {
      this.change("conflict", message);
      this.events.conflict((error as SaveError).revision);
      return;
    }
    this.change("failed", message);
    if (status !== 0 && status < 500) return;
    this.plan(this.delay);
    this.delay = Math.min(this.delay * 2, LAST_RETRY);
  }

  private change(state: SaveState, why = ""): void {
    this.state = state;
    this.why = why;
    this.events.state(state, why);
  }
}
