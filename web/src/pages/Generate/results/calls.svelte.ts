/** Everything that was sampled from the page, the newest call first. */

import { del, get, post } from "../../../lib/api.ts";
import { toast, toastError } from "../../../lib/toasts.svelte.ts";
import type { Cell } from "../../Runs/data/types.ts";
import type { Call, Sample } from "../types.ts";

class CallList {
  list = $state<Call[]>([]);
  ready = $state(false);
  /** What was removed last, and can be brought back. */
  removed = $state<string | null>(null);
  private timers = new Map<string, ReturnType<typeof setTimeout>>();

  async load(): Promise<void> {
    this.list = (await get<{ calls: Call[] }>("/generated")).calls;
    this.ready = true;
  }

  /** Read one call again; at most once a second while it is at work. */
  refresh(id: string, now = false): void {
    if (this.timers.has(id) && !now) return;
    clearTimeout(this.timers.get(id));
    const wait = now ? 0 : 1000;
    const read = async () => {
      this.timers.delete(id);
      try {
        const call = await get<Call>(`/generated/${id}`);
        const known = this.list.some((each) => each.id === id);
        this.list = known
          ? this.list.map((each) => (each.id === id ? call : each))
          : [call, ...this.list];
      } catch (error) {
        toastError(error);
      }
    };
    this.timers.set(
      id,
      setTimeout(() => void read(), wait),
    );
  }

  async remove(id: string): Promise<void> {
    try {
      this.removed = (await del<{ trash: string }>(`/generated/${id}`)).trash;
      this.list = this.list.filter((each) => each.id !== id);
      toast("The pictures are in the studio's trash; Undo brings them back.");
    } catch (error) {
      toastError(error);
    }
  }

  async restore(): Promise<void> {
    if (!this.removed) return;
    try {
      await post("/generated/restore", { trash: this.removed });
      this.removed = null;
      await this.load();
    } catch (error) {
      toastError(error);
    }
  }
}

export const calls = new CallList();

export interface Choice {
  id: string;
  title: string;
  cell: Cell;
}

/** What a picture may be held against: equal prompt, seed and size, of its own call and others. */
export function listRivals(all: Call[], picture: Sample): Choice[] {
  return all.flatMap((call) =>
    call.pictures
      .filter(
        (each) =>
          each.prompt === picture.prompt &&
          each.seed === picture.seed &&
          each.width === picture.width &&
          each.height === picture.height,
      )
      .map((each) => ({
        id: each.url,
        title: `${call.id} ${each.lora ? "with LoRA" : "base"}`,
        cell: { url: each.url, video: each.video, note: describe(call, each) },
      })),
  );
}

/** The settings of a picture in words. */
export function describe(call: Call, picture: Sample): string {
  const strengths = call.form?.loras.map((each) => each.strength) ?? [];
  return [
    `generated/${call.id}`,
    `seed ${picture.seed}`,
    picture.steps !== undefined && `${picture.steps} steps`,
    picture.guidance !== undefined && `guidance ${picture.guidance}`,
    picture.lora && strengths.length > 0 && `strength ${strengths.join(", ")}`,
  ]
    .filter(Boolean)
    .join(" · ");
}
