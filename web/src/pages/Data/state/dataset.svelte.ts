/** The data set that is looked at: rows, facts as they come, filter, selection. */

import { get, patch, post } from "../../../lib/api.ts";
import { on } from "../../../lib/events.svelte.ts";
import { toast, toastError } from "../../../lib/toasts.svelte.ts";
import {
  EVERYTHING,
  countFacts,
  filterRows,
  sortRows,
  type Filter,
  type SortBy,
} from "./filter.ts";
import type { Facts, FactsAnswer, Finding, RegionRef, Row, SetAnswer } from "./types.ts";

/** Something that can be taken back, offered for a while. */
export interface Undo {
  text: string;
  run: () => Promise<void>;
}

const OFFERED = 20_000;

class DataSet {
  id = $state<string | null>(null);
  rows = $state.raw<Row[]>([]);
  facts = $state.raw<ReadonlyMap<string, Facts>>(new Map());
  regions = $state.raw<RegionRef[]>([]);
  findings = $state.raw<Finding[]>([]);
  left = $state.raw<string[]>([]);
  masks = $state("none");
  repeats = $state(1);
  configured = $state(false);
  obeyed = $state(false);
  fallback = $state<string | null>(null);
  orphans = $state(0);
  measured = $state(0);
  loaded = $state(false);

  filter = $state<Filter>({ ...EVERYTHING });
  sortBy = $state<SortBy>("name");
  down = $state(false);

  selected = $state.raw<ReadonlySet<string>>(new Set());
  current = $state<string | null>(null);
  /** What Ctrl+Z takes back; shown for a while after it was done. */
  undo = $state.raw<Undo | null>(null);
  offering = $state(false);

  #anchor: string | null = null;
  #number = 0;
  #fetching = false;
  #again = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  shown = $derived(
    sortRows(
      filterRows(this.rows, this.facts, this.filter),
      this.facts,
      this.sortBy,
      this.down,
      this.filter.region,
    ),
  );
  counts = $derived(countFacts(this.rows, this.facts));
  byId = $derived(new Map(this.rows.map((row) => [row.id, row])));
  places = $derived(new Map(this.shown.map((row, at) => [row.id, at])));
  rejected = $derived(this.rows.reduce((sum, row) => sum + Number(row.rejected), 0));

  /** Follow a set until the result is called. */
  follow(id: string): () => void {
    this.id = id;
    this.#number = 0;
    this.#fetching = false;
    this.rows = [];
    this.facts = new Map();
    this.selected = new Set();
    this.current = null;
    this.loaded = false;
    this.undo = null;
    void this.reload();
    const offs = [
      on("clips", (data) => {
        if (data.set !== this.id) return;
        if (data.listed) void this.reload();
        else if (Number(data.number) > this.#number) void this.#fetchFacts();
        this.measured = Number(data.measured);
      }),
      on("mask", () => void this.reload()),
      on("refetch", () => void this.reload(true)),
      on("job", (data) => this.#hearJob(data)),
    ];
    return () => offs.forEach((off) => off());
  }

  async reload(anew = false): Promise<void> {
    const id = this.id;
    if (!id) return;
    try {
      const answer = await get<SetAnswer>(`/sets/${id}/clips`);
      if (id !== this.id) return;
      this.rows = answer.clips;
      const { regions, findings, left, masks, repeats, configured, obeyed, fallback } = answer;
      Object.assign(this, {
        regions,
        findings,
        left,
        masks,
        repeats,
        configured,
        obeyed,
        fallback,
      });
      this.orphans = answer.orphans;
      this.#prune();
      if (anew) this.#number = 0;
      this.loaded = true;
      await this.#fetchFacts();
    } catch (error) {
      this.loaded = true;
      toastError(error);
    }
  }

  async #fetchFacts(): Promise<void> {
    if (this.#fetching) {
      this.#again = true;
      return;
    }
    this.#fetching = true;
    const id = this.id;
    try {
      const answer = await get<FactsAnswer>(`/sets/${id}/facts?since=${this.#number}`);
      if (id !== this.id) return;
      if (answer.facts.length) {
        const known = new Map(this.facts);
        for (const facts of answer.facts) known.set(facts.id, facts);
        this.facts = known;
      }
      this.#number = answer.number;
      this.measured = answer.measured;
    } catch (error) {
      toastError(error);
    } finally {
      this.#fetching = false;
      if (this.#again) {
        this.#again = false;
        void this.#fetchFacts();
      }
    }
  }

  /** The doctor has ended: what it found is read anew. */
  #hearJob(data: Record<string, unknown>): void {
    const ended = ["finished", "failed", "stopped"].includes(String(data.state));
    if (ended && ["inspect", "masks"].includes(String(data.kind))) void this.reload(true);
  }

  #prune(): void {
    const kept = new Set([...this.selected].filter((id) => this.byId.has(id)));
    if (kept.size !== this.selected.size) this.selected = kept;
    if (this.current && !this.byId.has(this.current)) this.current = null;
  }

  // Selection

  /** What an action is done to: the selection, else the clip that has the cursor. */
  get targets(): string[] {
    if (this.selected.size)
      return this.shown.map((r) => r.id).filter((id) => this.selected.has(id));
    return this.current ? [this.current] : [];
  }

  choose(id: string, how: "one" | "toggle" | "range" = "one"): void {
    if (how === "range" && this.#anchor && this.places.has(this.#anchor)) {
      const from = this.places.get(this.#anchor) ?? 0;
      const to = this.places.get(id) ?? from;
      const span = this.shown.slice(Math.min(from, to), Math.max(from, to) + 1);
      this.selected = new Set(span.map((row) => row.id));
    } else if (how === "toggle") {
      const next = new Set(this.selected.size || !this.current ? this.selected : [this.current]);
      if (!next.delete(id)) next.add(id);
      this.selected = next;
      this.#anchor = id;
    } else {
      this.selected = new Set([id]);
      this.#anchor = id;
    }
    this.current = id;
  }

  chooseAll(): void {
    this.selected = new Set(this.shown.map((row) => row.id));
    this.current ??= this.shown[0]?.id ?? null;
  }

  chooseNone(): void {
    this.selected = new Set();
  }

  /** Move the cursor by so many clips. */
  step(by: number, extend = false): void {
    if (!this.shown.length) return;
    const at = this.current ? (this.places.get(this.current) ?? -1) : -1;
    const next = at < 0 ? 0 : Math.min(this.shown.length - 1, Math.max(0, at + by));
    const row = this.shown[next];
    if (row) this.choose(row.id, extend ? "range" : "one");
  }

  // Actions

  async reject(ids: string[], rejected: boolean): Promise<void> {
    if (!ids.length || !this.id) return;
    const before = new Map(ids.map((id) => [id, this.byId.get(id)?.rejected ?? false]));
    const wanted = new Set(ids);
    this.rows = this.rows.map((row) => (wanted.has(row.id) ? { ...row, rejected } : row));
    try {
      const answer = await post<{ list: string }>(`/sets/${this.id}/reject`, { ids, rejected });
      const changed = ids.filter((id) => before.get(id) !== rejected);
      this.offer(
        `${spell(changed.length)} ${rejected ? "rejected" : "kept"} (${answer.list})`,
        async () => {
          await post(`/sets/${this.id}/reject`, { ids: changed, rejected: !rejected });
        },
      );
    } catch (error) {
      toastError(error);
      await this.reload();
    }
  }

  async trash(ids: string[]): Promise<void> {
    if (!ids.length || !this.id) return;
    const set = this.id;
    const at = this.places.get(ids[0] ?? "") ?? 0;
    try {
      const answer = await post<{ id: string }>(`/sets/${set}/trash`, { ids });
      this.offer(`${spell(ids.length)} in the trash`, async () => {
        await post(`/sets/${set}/trash/${answer.id}/restore`);
      });
      await this.reload();
      const next = this.shown[Math.min(at, this.shown.length - 1)];
      if (next) this.choose(next.id);
    } catch (error) {
      toastError(error);
    }
  }

  async setRepeats(repeats: number): Promise<void> {
    try {
      await patch(`/sets/${this.id}`, { repeats });
      this.repeats = repeats;
    } catch (error) {
      toastError(error);
      await this.reload();
    }
  }

  offer(text: string, run: () => Promise<void>): void {
    clearTimeout(this.#timer);
    this.undo = { text, run };
    this.offering = true;
    this.#timer = setTimeout(() => (this.offering = false), OFFERED);
  }

  async takeBack(): Promise<void> {
    const undo = this.undo;
    if (!undo) return;
    this.undo = null;
    this.offering = false;
    try {
      await undo.run();
      toast(`Taken back: ${undo.text}`, "ok");
      await this.reload();
    } catch (error) {
      toastError(error);
    }
  }
}

export function spell(count: number): string {
  return count === 1 ? "1 clip" : `${count.toLocaleString("en")} clips`;
}

export const data = new DataSet();
