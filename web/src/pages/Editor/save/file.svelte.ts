// One mask being edited, as the page shows it: what it is, how it stands, and where it is saved.
import { InkFile, SaveError, type ServerMask } from "../../../ink/file.ts";
import type { MaskDoc, Step } from "../../../ink/doc.ts";
import type { History } from "../../../ink/history.ts";
import type { SaveState } from "../../../ink/sync.ts";
import { ApiError, raw } from "../../../lib/api.ts";
import type { Clip } from "../../../lib/workspace.svelte.ts";
import type { Conflict } from "./conflict.ts";
import { mergeMasks } from "./merge.ts";
import { readMask, type MaskInfo, type ReadMask } from "./open.ts";

export interface Saved {
  state: SaveState;
  revision: string;
  why: string;
  /** Why a crash would lose what is not saved yet; "" where nothing would be lost. */
  unkept: string;
}

export class MaskFile {
  saved: Saved = $state.raw({ state: "saved", revision: "", why: "", unkept: "" });
  conflict: Conflict | null = $state.raw(null);
  /** Steps that a crash left on a mask that was changed since. */
  lost = $state(0);
  info: MaskInfo = $state.raw({} as MaskInfo);
  private ink!: InkFile;
  private base = new Uint8Array(0); // the ids as this window last knew them saved
  private theirs: ServerMask | null = null;

  private constructor(
    readonly clip: Clip,
    readonly frame: number,
    private readonly changed: () => void,
  ) {}

  static async open(clip: Clip, frame: number, changed: () => void): Promise<MaskFile> {
    const file = new MaskFile(clip, frame, changed);
    file.ink = await InkFile.open({
      clip: clip.id,
      frame,
      read: () => file.read(),
      send: (body, revision) => file.send(body, revision),
      state: (state, why) => file.note(state, why),
      conflict: (theirs) => file.meet(theirs),
      changed: () => changed(),
    });
    file.lost = file.ink.lost.length;
    file.note(file.ink.state, file.ink.why);
    return file;
  }

  get doc(): MaskDoc {
    return this.ink.doc;
  }
  get history(): History {
    return this.ink.history;
  }

  push(step: Step): void {
    this.ink.push(step);
  }
  undo(): void {
    this.ink.undo();
  }
  redo(): void {
    this.ink.redo();
  }
  goTo(position: number): void {
    this.ink.goTo(position);
  }
  async saveNow(): Promise<void> {
    await this.ink.saveNow();
  }
  /** The server says that this mask has another revision. */
  hear(revision: string): void {
    // A failed request is told where it was made for something; here the next save finds it out.
    this.ink.hear(revision).catch(() => undefined);
  }

  resolve(how: "mine" | "theirs" | "merged"): void {
    const { conflict, theirs } = this;
    this.conflict = null;
    this.theirs = null;
    if (!conflict || !theirs) return;
    if (how === "mine") this.ink.keepMine(theirs);
    else if (how === "theirs") this.ink.settle(theirs);
    else this.ink.settle(theirs, mergeMasks(conflict.base, conflict.mine, conflict.theirs));
    this.changed();
  }

  drawLost(): number {
    const count = this.ink.layLost();
    this.lost = 0;
    this.changed();
    return count;
  }
  dropLost(): void {
    this.ink.dropLost();
    this.lost = 0;
  }

  async close(): Promise<void> {
    await this.ink.close();
  }

  private async read(): Promise<ReadMask> {
    const mask = await readMask(this.clip.id, this.frame);
    this.info = mask.info;
    if (!this.base.length) this.base = mask.ids.slice();
    return mask;
  }

  private async send(body: Uint8Array, revision: string): Promise<string> {
    try {
      const response = await raw(`/clips/${this.clip.id}/mask`, {
        method: "PUT",
        headers: { "If-Match": revision, "Content-Type": "application/octet-stream" },
        body: body as Uint8Array<ArrayBuffer>,
      });
      return ((await response.json()) as { revision: string }).revision;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      const newest = (error.body as { revision?: string } | undefined)?.revision ?? "";
      throw new SaveError(
        error.status,
        error.fix ? `${error.message}: ${error.fix}` : error.message,
        newest,
      );
    }
  }

  private note(state: SaveState, why: string): void {
    if (!this.ink) return; // the first state is noted when it is open
    this.saved = { state, why, revision: this.ink.revision, unkept: this.ink.unkept };
    if (state === "saved" && !this.doc.busy) this.base = this.doc.ids.slice();
  }

  private meet(theirs: ServerMask): void {
    const { base, doc } = this;
    this.theirs = theirs;
    this.conflict = {
      base,
      mine: doc.ids.slice(),
      theirs: theirs.ids,
      width: doc.width,
      height: doc.height,
      joins: doc.truth === "ids",
    };
  }
}

const KEPT = 6; // frames of a video whose masks stay open

/** The masks of a clip's frames that are open: each keeps its own steps. */
export class FrameFiles {
  private readonly files = new Map<number, Promise<MaskFile>>();

  constructor(
    private readonly clip: Clip,
    private readonly changed: () => void,
  ) {}

  open(frame: number): Promise<MaskFile> {
    let file = this.files.get(frame);
    if (file) {
      this.files.delete(frame); // to the young end
    } else {
      file = MaskFile.open(this.clip, frame, this.changed);
      file.catch(() => this.files.delete(frame));
    }
    this.files.set(frame, file);
    this.closeOldest();
    return file;
  }

  hear(frame: number, revision: string): void {
    this.files.get(frame)?.then(
      (file) => file.hear(revision),
      () => undefined,
    );
  }

  close(): void {
    for (const file of this.files.values()) closeFile(file);
    this.files.clear();
  }

  private closeOldest(): void {
    for (const [frame, file] of this.files) {
      if (this.files.size <= KEPT) return;
      this.files.delete(frame);
      closeFile(file);
    }
  }
}

function closeFile(file: Promise<MaskFile>): void {
  file.then(
    (opened) => opened.close(),
    () => undefined, // it never opened, which was said then
  );
}
