/** The queue of masks to look at, and what a person says of them. */

import { get, post } from "../../lib/api.ts";
import { toast, toastError } from "../../lib/toasts.svelte.ts";

export type Standing = "broken" | "failed" | "unsure" | "nothing" | "done" | "unmade" | "hand";
export type Verdict = "accepted" | "rejected";

export interface QueueEntry {
  id: string;
  name: string;
  video: boolean;
  version: string;
  status: Standing;
  confidence: number | null;
  look: string[];
  verdict: "" | Verdict;
  regions: Record<string, { share: number; confidence: number | null }>;
  models: string[];
  worst: number | null;
  rejected: boolean;
  created: string;
}

export type Filter = "look" | "all" | "accepted";

export const WORDS: Record<Standing, string> = {
  broken: "cannot be read",
  failed: "failed",
  unsure: "unsure",
  nothing: "nothing found",
  done: "made",
  unmade: "no mask",
  hand: "by hand",
};

interface QueueAnswer {
  entries: QueueEntry[];
  counts: Record<string, number>;
  colours: Record<string, string>;
}

interface Done {
  id: string;
  verdict: Verdict;
}

export class ReviewQueue {
  entries = $state.raw<QueueEntry[]>([]);
  counts = $state.raw<Record<string, number>>({});
  colours = $state.raw<Record<string, string>>({});
  filter = $state<Filter>("look");
  currentId = $state("");
  ready = $state(false);
  private done: Done[] = [];

  constructor(readonly setId: string) {}

  get shown(): QueueEntry[] {
    if (this.filter === "look") {
      return this.entries.filter((entry) => entry.look.length > 0 || entry.id === this.currentId);
    }
    return this.entries.filter((entry) => this.filter === "all" || entry.verdict === "accepted");
  }

  get current(): QueueEntry | undefined {
    return this.entries.find((entry) => entry.id === this.currentId);
  }

  async load(): Promise<void> {
    const answer = await get<QueueAnswer>(`/sets/${this.setId}/queue?anew=true`);
    this.entries = answer.entries;
    this.counts = answer.counts;
    this.colours = answer.colours;
    this.ready = true;
    if (!this.current) this.currentId = this.shown[0]?.id ?? "";
  }

  step(by: number): void {
    const { shown } = this;
    const at = shown.findIndex((entry) => entry.id === this.currentId);
    const next = shown[Math.min(Math.max(at + by, 0), shown.length - 1)];
    if (next) this.currentId = next.id;
  }

  /** Say something of the mask at hand, and go on to the next. */
  async judge(verdict: Verdict): Promise<void> {
    const entry = this.current;
    if (!entry) return;
    const { shown } = this;
    const next = shown[shown.indexOf(entry) + 1] ?? shown[shown.indexOf(entry) - 1];
    if (!(await this.send([entry.id], verdict, false))) return;
    this.done.push({ id: entry.id, verdict });
    if (next) this.currentId = next.id;
    await this.load();
  }

  async takeBack(): Promise<void> {
    const last = this.done.pop();
    if (!last) return toast("There is no verdict of this visit to take back.");
    if (await this.send([last.id], last.verdict, true)) {
      this.currentId = last.id;
      await this.load();
    }
  }

  /** Accept all that are at least so sure. */
  async acceptAbove(above: number): Promise<void> {
    try {
      const answer = await post<{ judged: string[] }>(`/sets/${this.setId}/verdicts`, {
        above,
        verdict: "accepted",
      });
      toast(`${answer.judged.length} masks accepted`, "ok");
      await this.load();
    } catch (error) {
      toastError(error);
    }
  }

  countAbove(above: number): number {
    return this.entries.filter(
      (entry) =>
        ["done", "unsure"].includes(entry.status) &&
        entry.verdict !== "accepted" &&
        (entry.confidence ?? 0) >= above,
    ).length;
  }

  private async send(ids: string[], verdict: Verdict, undo: boolean): Promise<boolean> {
    try {
      const answer = await post<{ judged: string[]; refused: Record<string, string> }>(
        `/sets/${this.setId}/verdicts`,
        { ids, verdict, undo },
      );
      for (const reason of Object.values(answer.refused)) toast(reason, "warn");
      return answer.judged.length > 0;
    } catch (error) {
      toastError(error);
      return false;
    }
  }
}
