/** What goes into the log with the next save: strokes as they are drawn, undone and redone. */

import type { MaskDoc, Step } from "./doc";
import type { Op } from "./stroke";

export class OpQueue {
  /** Entries that no save has taken along for certain. */
  ops: Op[] = [];
  private done: number[] = []; // steps whose entries the log's own undo takes back, the last first
  private undone: number[] = [];

  constructor(private readonly doc: MaskDoc) {}

  push(number: number, op: Op): void {
    this.ops.push(op);
    this.done.push(number);
    this.undone = [];
  }

  undo(step: Step & { number: number }): void {
    if (this.done.at(-1) !== step.number) {
      this.write(step);
      return;
    }
    this.undone.push(this.done.pop()!);
    this.ops.push({ op: "undo" });
  }

  redo(step: Step & { number: number }): void {
    if (this.undone.at(-1) !== step.number) {
      this.write(step);
      return;
    }
    this.done.push(this.undone.pop()!);
    this.ops.push({ op: "redo" });
  }

  /** The tiles of a step as they are now: where the log's own undo would take back something else. */
  write({ name, deltas }: Pick<Step, "name" | "deltas">): void {
    const { tiling } = this.doc;
    for (const plane of new Set(deltas.map((delta) => delta.plane))) {
      const spans: number[] = [];
      const contents: Uint8Array[] = [];
      for (const { tile } of deltas.filter((delta) => delta.plane === plane)) {
        const { x, y, w, h } = tiling.rect(tile);
        for (let row = y; row < y + h; row++) spans.push(row, x, x + w);
        contents.push(tiling.copy(this.doc.plane(plane), tile));
      }
      const values = new Uint8Array(contents.reduce((sum, content) => sum + content.length, 0));
      let place = 0;
      for (const content of contents) {
        values.set(content, place);
        place += content.length;
      }
      this.ops.push({ op: "pixels", name, plane, spans: Int32Array.from(spans), values });
    }
    this.stand([]);
  }

  /** Say which steps the log ends with; of others it knows nothing. */
  stand(numbers: readonly number[]): void {
    this.done = [...numbers];
    this.undone = [];
  }

  clear(): void {
    this.ops = [];
    this.stand([]);
  }
}
