/** The runs of the folder, and which of them stand side by side; the choice is in the address. */

import { get } from "../../../lib/api.ts";
import { on } from "../../../lib/events.svelte.ts";
import { go, route } from "../../../lib/router.svelte.ts";
import { toastError } from "../../../lib/toasts.svelte.ts";
import type { Run } from "./types.ts";

export const MOST = 6;
/** Lines and marks of runs: told apart on dark and light; dashes and letters tell them without. */
export const COLOURS = ["#d07a00", "#2f7fe0", "#2f9e5b", "#a855d6", "#d64a3a", "#1f9c9c"];
export const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3], [5, 5], [1, 4]];
const LETTERS = "ABCDEF";

export interface ChosenRun extends Run {
  letter: string;
  colour: string;
  dash: number[];
}

class RunList {
  list = $state<Run[]>([]);
  ready = $state(false);
  private timer: ReturnType<typeof setTimeout> | undefined;

  /** The chosen runs in the order they were chosen, each with its letter and colour. */
  get chosen(): ChosenRun[] {
    const ids = (route.page === "runs" ? (route.parts[0] ?? "") : "").split(",");
    return ids
      .map((id) => this.list.find((run) => run.id === id))
      .filter((run) => run !== undefined)
      .slice(0, MOST)
      .map((run, at) => ({
        ...run,
        letter: LETTERS[at] ?? "?",
        colour: COLOURS[at] ?? "#888888",
        dash: DASHES[at] ?? [],
      }));
  }

  async load(): Promise<void> {
    this.list = (await get<{ runs: Run[] }>("/runs")).runs;
    this.ready = true;
  }

  /** Read at once, and again when runs go on: at most every two seconds. */
  follow(): () => void {
    void this.load().catch(toastError);
    const again = () => {
      this.timer ??= setTimeout(() => {
        this.timer = undefined;
        this.load().catch(toastError);
      }, 2000);
    };
    const stops = [on("run", again), on("refetch", again)];
    return () => {
      stops.forEach((stop) => stop());
      clearTimeout(this.timer);
      this.timer = undefined;
    };
  }

  toggle(id: string): void {
    const ids = this.chosen.map((run) => run.id);
    const next = ids.includes(id) ? ids.filter((each) => each !== id) : [...ids, id].slice(-MOST);
    this.choose(next);
  }

  choose(ids: string[]): void {
    if (ids.length) go("runs", ids.join(","));
    else go("runs");
  }
}

export const runs = new RunList();

/** The query that names the chosen runs to the server. */
export function spellRuns(chosen: { id: string }[]): string {
  return chosen.map((run) => `run=${run.id}`).join("&");
}
