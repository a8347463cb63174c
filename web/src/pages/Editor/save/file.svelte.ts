// One mask being edited: its document, its steps, and where it is saved.
import { MaskDoc, type Step } from "../../../ink/doc.ts";
import { History } from "../../../ink/history.ts";
import type { Clip } from "../../../lib/workspace.svelte.ts";
import type { LegendEntry } from "../palette/regions.ts";

export interface Saved {
  state: "saved" | "saving" | "waiting" | "failed";
  revision: string;
  why: string;
}

export class MaskFile {
  saved: Saved = $state({ state: "saved", revision: "", why: "" });
  legend: LegendEntry[] = $state.raw([]);
  readonly history: History;

  constructor(
    readonly clip: Clip,
    readonly doc: MaskDoc,
    legend: LegendEntry[],
  ) {
    this.legend = legend;
    this.history = new History(doc);
  }

  push(step: Step): void {
    this.history.push(step);
  }
  undo(): boolean {
    return this.history.undo() !== null;
  }
  redo(): boolean {
    return this.history.redo() !== null;
  }
  goTo(position: number): void {
    this.history.goTo(position);
  }
  async saveNow(): Promise<void> {}
  close(): void {}
}

export async function openMask(clip: Clip, _frame: number, size: { width: number; height: number }): Promise<MaskFile> {
  const doc = new MaskDoc(size.width, size.height);
  const legend = [
    { id: 1, name: "face", colour: "#e69f00", weight: 1 },
    { id: 2, name: "hair", colour: "#56b4e9", weight: 0.3 },
    { id: 3, name: "body", colour: "#009e73", weight: 0.5 },
    { id: 0, name: "background", colour: "#000000", weight: 0 },
  ];
  return new MaskFile(clip, doc, legend);
}
