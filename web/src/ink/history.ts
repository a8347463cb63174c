/** Undo and redo: steps as differences of tiles, limited by bytes, small enough to keep hundreds. */

import type { MaskDoc, Step } from "./doc";

export const LIMIT = 64 << 20; // bytes of differences kept
const OVERHEAD = 64; // bytes a tile of a step costs besides its runs

export interface NamedStep extends Step {
  /** Counts steps of a clip, never used twice; what the journal knows a step by. */
  number: number;
  bytes: number;
}

export class History {
  readonly steps: NamedStep[] = [];
  /** How many of `steps` are done; those after it were undone and can be redone. */
  position = 0;
  bytes = 0;
  private next = 1;

  constructor(
    private readonly doc: MaskDoc,
    readonly limit = LIMIT,
  ) {}

  get canUndo(): boolean {
    return this.position > 0;
  }

  get canRedo(): boolean {
    return this.position < this.steps.length;
  }

  /** Put a step on top; what was undone is gone. Returns the numbers of steps that were dropped. */
  push(step: Step): { step: NamedStep; dropped: number[] } {
    const dropped = this.steps.splice(this.position);
    const bytes = measure(step),
      named = { ...step, number: this.next++, bytes };
    this.steps.push(named);
    this.position++;
    this.bytes += bytes - dropped.reduce((sum, old) => sum + old.bytes, 0);
    while (this.bytes > this.limit && this.steps.length > 1) {
      const oldest = this.steps.shift()!;
      this.bytes -= oldest.bytes;
      this.position--;
      dropped.push(oldest);
    }
    return { step: named, dropped: dropped.map((old) => old.number) };
  }

  /** Take the last step back; null where there is none. Marks its tiles dirty, to be saved too. */
  undo(): NamedStep | null {
    if (!this.canUndo) return null;
    const step = this.steps[--this.position]!;
    this.doc.toggle(step.deltas);
    return step;
  }

  redo(): NamedStep | null {
    if (!this.canRedo) return null;
    const step = this.steps[this.position++]!;
    this.doc.toggle(step.deltas);
    return step;
  }

  /** Go to where `position` steps are done, one by one. */
  goTo(position: number): void {
    const target = Math.min(Math.max(position, 0), this.steps.length);
    while (this.position > target) this.undo();
    while (this.position < target) this.redo();
  }

  /** Take over steps that were kept, without touching the document: `position` of them are done. */
  restore(steps: readonly Omit<NamedStep, "bytes">[], position: number, last = 0): void {
    this.steps.splice(
      0,
      this.steps.length,
      ...steps.map((step) => ({ ...step, bytes: measure(step) })),
    );
    this.position = position;
    this.bytes = this.steps.reduce((sum, step) => sum + step.bytes, 0);
    this.next = Math.max(last, ...this.steps.map((step) => step.number)) + 1;
  }

  /** A number that no step of this mask has or will have. */
  reserve(): number {
    return this.next++;
  }

  clear(): void {
    this.steps.length = 0;
    this.position = this.bytes = 0;
  }
}

function measure(step: Pick<Step, "deltas" | "op">): number {
  const runs = step.deltas.reduce((sum, delta) => sum + delta.runs.length + OVERHEAD, 0);
  const op = step.op;
  if (op.op === "pixels") return runs + op.spans.byteLength + op.values.byteLength;
  return runs + ("points" in op ? op.points.length * 8 : 0);
}
