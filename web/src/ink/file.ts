/**
 * A mask that is edited, whole: its document, its steps, its journal and its saving. The page holds
 * one for the clip and frame it shows, and tells it of every step.
 */

import { MaskDoc, type Step } from "./doc";
import { History, type NamedStep } from "./history";
import { Journal, type Kept, type KeptMask, type KeptStep } from "./journal";
import { drawAgain } from "./ops";
import { OpQueue } from "./queue";
import { compareMasks, sumOf } from "./standing";
import { SaveError, type SaveState, type Send, Sync } from "./sync";
import type { Op } from "./stroke";

/** A mask as the server has it. */
export interface ServerMask {
  info: {
    width: number;
    height: number;
    revision: string;
    background: number;
    truth: "ids" | "soft";
    editable: boolean;
  };
  ids: Uint8Array;
  soft: Map<number, Uint8Array>;
}

export interface InkOptions {
  /** Of the clip; with the frame it names the journal. */
  clip: string;
  frame: number;
  read(): Promise<ServerMask>;
  send: Send;
  state?(state: SaveState, why: string): void;
  /** Somebody else saved while this mask has changes of its own: call `settle` with what holds. */
  conflict?(theirs: ServerMask): void;
  /** The document was changed from outside: draw it anew. */
  changed?(): void;
  pause?: number;
}

interface Attempt {
  numbers: number[];
  sum: string; // of the mask that was sent
  ops: number; // entries of the log that went with it
}

export class InkFile {
  readonly doc: MaskDoc;
  readonly history: History;
  /** Steps that a crash left unsaved on a mask that somebody changed since: `layLost` draws them. */
  lost: KeptStep[] = [];
  private readonly sync: Sync;
  private readonly queue: OpQueue;
  private unsaved = new Set<number>(); // steps by which the document differs from the server's mask
  private attempts: Attempt[] = []; // since the last answer: any of them may have arrived
  private heard = "";

  private readonly editable: boolean;

  private constructor(
    private readonly options: InkOptions,
    mask: ServerMask,
    private readonly journal: Journal | null,
  ) {
    const { width, height, background, truth, revision } = mask.info;
    this.editable = mask.info.editable;
    this.doc = new MaskDoc(width, height, mask.ids, {
      frame: options.frame,
      background,
      truth,
      soft: mask.soft,
    });
    this.history = new History(this.doc);
    this.queue = new OpQueue(this.doc);
    this.sync = new Sync(
      this.doc,
      revision,
      options.send,
      {
        state: (state, why) => options.state?.(state, why),
        take: () => this.take(),
        saved: (next) => this.keepSaved(next),
        conflict: () => void this.meet(),
      },
      options.pause,
    );
  }

  /** Open a mask; strokes of a page that was closed or crashed are back, with their undo. */
  static async open(options: InkOptions): Promise<InkFile> {
    const mask = await options.read();
    const journal = mask.info.editable
      ? await Journal.open(`${options.clip}/${options.frame}`)
      : null;
    const file = new InkFile(options, mask, journal);
    try {
      const kept = await journal?.load();
      if (kept) file.restore(kept);
    } catch {
      journal?.clear(); // written by another version, or damaged: the server's mask is whole
    }
    if (typeof window !== "undefined") {
      window.addEventListener("beforeunload", file.guard);
      document.addEventListener("visibilitychange", file.hide);
    }
    return file;
  }

  get revision(): string {
    return this.sync.revision;
  }

  get state(): SaveState {
    return this.sync.state;
  }

  get why(): string {
    return this.sync.why;
  }

  /** Why a crash would lose what is not saved yet; "" where nothing would be lost. */
  get unkept(): string {
    if (!this.editable) return ""; // nothing can be painted, nothing lost
    return this.journal ? this.journal.fault : "another window has this mask open";
  }

  /** A step that the document has just made. */
  push(step: Step): NamedStep {
    const { step: named, dropped } = this.history.push(step);
    this.queue.push(named.number, step.op);
    this.flip(named.number);
    this.keep(
      named,
      dropped.filter((number) => !this.needs(number)),
    );
    this.sync.touch();
    return named;
  }

  undo(): NamedStep | null {
    const step = this.history.undo();
    if (!step) return null;
    this.queue.undo(step);
    this.flip(step.number);
    this.keep();
    this.sync.touch();
    return step;
  }

  redo(): NamedStep | null {
    const step = this.history.redo();
    if (!step) return null;
    this.queue.redo(step);
    this.flip(step.number);
    this.keep();
    this.sync.touch();
    return step;
  }

  /** Go to where `position` steps are done. */
  goTo(position: number): void {
    const target = Math.min(Math.max(position, 0), this.history.steps.length);
    while (this.history.position > target && this.undo());
    while (this.history.position < target && this.redo());
  }

  /** Save now; true where the server has everything then. */
  async saveNow(): Promise<boolean> {
    await this.sync.flush();
    return this.sync.state === "saved";
  }

  /** A mask was saved by somebody (an event of the server): take it over where nothing is lost. */
  async hear(revision: string): Promise<void> {
    this.heard = revision;
    if (this.sync.state !== "saved" || this.doc.busy || revision === this.revision) return;
    const theirs = await this.options.read();
    if (this.sync.state !== "saved" || this.doc.busy || theirs.info.revision === this.revision)
      return;
    this.takeOver(theirs);
  }

  /**
   * End a conflict: `result` holds, made of both masks; without it, theirs does. It is a step like
   * any other, and is saved as a new revision where it differs from theirs.
   */
  settle(theirs: ServerMask, result?: Uint8Array): void {
    if (!result) {
      this.takeOver(theirs);
      return;
    }
    if (this.doc.truth === "soft") throw new Error("of grey masks one side is kept whole");
    const step = this.doc.assign(result, "Settled with another window");
    if (step) this.stack(step);
    this.standOn(theirs);
  }

  /** End a conflict by keeping this window's mask, as a new revision over theirs. */
  keepMine(theirs: ServerMask): void {
    this.standOn(theirs);
  }

  /** Draw again what a crash left behind on an older mask; how many steps changed something. */
  layLost(): number {
    let count = 0;
    for (const { op, name } of this.lost) {
      const step = op && drawAgain(this.doc, op, name);
      if (!step) continue;
      this.push({ ...step, name });
      count++;
    }
    this.lost = [];
    return count;
  }

  /** Forget what a crash left behind. */
  dropLost(): void {
    this.lost = [];
    this.keep();
  }

  /** Save what there is and let go of the journal. */
  async close(): Promise<void> {
    if (typeof window !== "undefined") {
      window.removeEventListener("beforeunload", this.guard);
      document.removeEventListener("visibilitychange", this.hide);
    }
    await this.sync.flush();
    this.sync.close();
    await this.journal?.close();
  }

  private readonly guard = (event: BeforeUnloadEvent): void => {
    if (this.sync.state !== "saved") event.preventDefault();
  };

  private readonly hide = (): void => {
    if (document.visibilityState === "hidden") void this.sync.flush();
  };

  private flip(number: number): void {
    if (!this.unsaved.delete(number)) this.unsaved.add(number);
  }

  private take(): Op[] {
    this.attempts.push({
      numbers: [...this.unsaved],
      sum: this.measure(),
      ops: this.queue.ops.length,
    });
    this.keep();
    return this.queue.ops.slice();
  }

  private keepSaved(revision: string): void {
    const attempt = this.attempts.at(-1);
    if (attempt) this.land(attempt);
    if (this.heard && this.heard !== revision) void this.hear(this.heard);
  }

  /** An attempt is on the server: what came after it is all that is not. */
  private land(attempt: Attempt): void {
    for (const number of attempt.numbers) this.flip(number);
    this.queue.ops.splice(0, attempt.ops);
    this.attempts = [];
    const stack = new Set(this.history.steps.map(({ number }) => number));
    this.keep(
      null,
      attempt.numbers.filter((number) => !stack.has(number) && !this.unsaved.has(number)),
    );
  }

  /** Whether the server's mask may still be a step away from this document. */
  private needs(number: number): boolean {
    return (
      this.unsaved.has(number) || this.attempts.some(({ numbers }) => numbers.includes(number))
    );
  }

  private measure(): string {
    return sumOf(this.doc.truth, this.doc);
  }

  private keep(step: KeptStep | NamedStep | null = null, dropped: readonly number[] = []): void {
    this.journal?.record(this.describe(), step, dropped);
  }

  private describe(): KeptMask {
    return {
      revision: this.revision,
      width: this.doc.width,
      height: this.doc.height,
      stack: this.history.steps.map(({ number }) => number),
      position: this.history.position,
      unsaved: [...this.unsaved],
      attempts: this.attempts.map(({ numbers, sum }) => ({ numbers, sum })),
      bytes: this.history.bytes,
      when: Date.now(),
    };
  }

  private restore({ mask, steps }: Kept): void {
    const { doc } = this,
      same = mask.width === doc.width && mask.height === doc.height;
    const known = mask.revision === this.revision;
    const sum = known || !mask.attempts.length ? "" : this.measure();
    const arrived = mask.attempts.find((attempt) => attempt.sum === sum);
    const open = new Set(mask.unsaved);
    for (const number of arrived?.numbers ?? []) if (!open.delete(number)) open.add(number);
    if (!same || !(known || arrived)) {
      const left = mask.stack.slice(0, mask.position).filter((number) => open.has(number));
      this.lost = left.flatMap((number) => steps.get(number) ?? []);
      this.journal?.clear();
      if (this.lost.length) for (const step of this.lost) this.keep(step);
      return;
    }
    for (const number of open) {
      const step = steps.get(number);
      if (step) doc.toggle(step.deltas);
    }
    const stack = mask.stack.map((number) => steps.get(number)!);
    this.history.restore(stack as NamedStep[], mask.position, Math.max(0, ...steps.keys()));
    this.unsaved = open;
    this.queue.stand(mask.stack.slice(0, mask.position));
    this.keep();
    if (!open.size) return;
    // Which entries of the log had arrived is not known any more: what differs is logged as pixels.
    for (const number of open) this.queue.write(steps.get(number) as NamedStep);
    this.sync.touch();
  }

  /** A conflict: look at what is there now. What we sent ourselves is none: its answer was lost. */
  private async meet(): Promise<void> {
    const theirs = await this.options.read().catch(() => null);
    if (!theirs) {
      this.sync.resume(this.revision); // the server went away: this is found out again when it is back
      return;
    }
    const sum = sumOf(this.doc.truth, theirs);
    const arrived = this.attempts.find((attempt) => attempt.sum === sum);
    if (arrived) {
      this.land(arrived);
      this.sync.resume(theirs.info.revision);
    } else {
      this.options.conflict?.(theirs);
    }
  }

  /** Make theirs this document, as a step that can be undone; nothing of it is to be saved. */
  private takeOver(theirs: ServerMask): void {
    const steps =
      this.doc.truth === "ids"
        ? [this.doc.assign(theirs.ids, "Changed elsewhere")]
        : [...theirs.soft].map(([region, plane]) =>
            this.doc.rewriteSoft(region, plane, "Changed elsewhere"),
          );
    for (const step of steps) if (step) this.stack(step);
    this.standOn(theirs);
    this.options.changed?.();
  }

  private stack(step: Step): void {
    const { step: named, dropped } = this.history.push(step);
    this.keep(named, dropped);
  }

  /** Take their revision as the ground: all that differs from it is unsaved, and nothing else. */
  private standOn(theirs: ServerMask): void {
    this.doc.takePlanes("sync");
    this.queue.clear();
    this.unsaved = new Set();
    this.attempts = [];
    const deltas = compareMasks(this.doc, theirs);
    this.sync.revision = theirs.info.revision;
    if (deltas.length) {
      const hidden: NamedStep = {
        number: this.history.reserve(),
        name: "",
        deltas,
        op: { op: "redo" },
        bytes: 0,
      };
      this.queue.write(hidden);
      this.unsaved.add(hidden.number);
      this.keep({ number: hidden.number, name: "", deltas, op: null });
    } else {
      this.keep();
    }
    this.sync.resume(theirs.info.revision);
  }
}

export { SaveError };
