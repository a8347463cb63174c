// One clip in the editor: its mask, its regions, what is being done to it.
import type { MaskDoc, Picture, Step } from "../../ink/doc.ts";
import { put } from "../../lib/api.ts";
import { toastError } from "../../lib/toasts.svelte.ts";
import type { Clip, Region } from "../../lib/workspace.svelte.ts";
import { fetchPixels, type PictureSource } from "./canvas/picture.ts";
import {
  layPalette,
  measureShares,
  recallOrder,
  rememberOrder,
  sortLegend,
  type LegendEntry,
  type PaletteRegion,
} from "./palette/regions.ts";
import { settings, sizeOf } from "./tools/settings.svelte.ts";
import type { StrokeSettings } from "./tools/strokes.ts";

const OFTEN = 100; // milliseconds between two looks at a stroke on its way
const LARGE = 4e6; // pixels of a mask that is looked at so often; larger ones in proportion less
const WRITE = 250; // milliseconds after the last move of a weight until it is written
const EVER = 400; // milliseconds after the last stroke until shares are counted

export interface Hover {
  x: number;
  y: number;
  region: string;
  soft: number | null; // 0 to 1
}

/** What a tool proposes: nothing is painted until it is accepted. */
export interface Proposed {
  ids: Uint8Array;
  colour: string;
}

export class EditorSession {
  doc = $state.raw<MaskDoc | null>(null);
  source = $state.raw<PictureSource | null>(null);
  regions = $state<PaletteRegion[]>([]);
  region = $state(1);
  /** Rises at the end of a stroke, and during one at most ten times a second. */
  version = $state(0);
  /** Rises when steps were added, undone or redone. */
  steps = $state(0);
  shares = $state.raw<Float64Array<ArrayBuffer>>(new Float64Array(256));
  hover = $state.raw<Hover | null>(null);
  path = $state.raw<number[]>([]); // of a lasso or polygon on its way
  preview = $state.raw<Uint8Array | null>(null);
  proposed = $state.raw<Proposed | null>(null);
  maskOnly = $state(false);
  maskHidden = $state(false);
  /** The clip's own pixels were fetched, for the tools that look at colours. */
  pixelsThere = $state(false);
  /** The picture is on the canvas, as coarse as it may be. */
  seen = $state(false);
  /** What will change the mask is on its way: it does not count as saved before that is here. */
  awaiting = $state(0);
  private readonly onTheWay = new Set<Promise<unknown>>();
  private pixels: Picture | null = null;
  private pixelsOf: PictureSource | null = null;
  private lookedAt = 0;
  private counting: ReturnType<typeof setTimeout> | undefined;
  private writing: ReturnType<typeof setTimeout> | undefined;
  private weights: Record<string, number> = {};

  constructor(
    readonly clip: Clip,
    readonly config: string | null,
  ) {}

  get current(): PaletteRegion | undefined {
    return this.regions.find((region) => region.id === this.region);
  }

  get locked(): ReadonlySet<number> {
    return new Set(this.regions.filter((region) => region.locked).map((region) => region.id));
  }

  /** The regions as other parts of the page take them. */
  get weighed(): Region[] {
    return this.regions.map(({ id, name, colour, weight }) => ({
      id,
      name,
      colour,
      weight: weight ?? 1,
    }));
  }

  /** Whether strokes are soft: only where the masks of the set can hold that. */
  get soft(): boolean {
    return settings.soft && this.doc?.truth === "soft";
  }

  get strokeSettings(): StrokeSettings {
    return {
      ...settings,
      soft: this.soft,
      region: this.region,
      size: sizeOf(settings.tool),
      locked: this.locked,
    };
  }

  /** Hold the mask as unsaved until what was asked for has come, and was laid into it. */
  async hold<T>(work: Promise<T>): Promise<T> {
    this.onTheWay.add(work);
    this.awaiting = this.onTheWay.size;
    try {
      return await work;
    } finally {
      this.onTheWay.delete(work);
      this.awaiting = this.onTheWay.size;
    }
  }

  /** Resolves when nothing is on its way any more. */
  async settle(): Promise<void> {
    while (this.onTheWay.size) await Promise.allSettled([...this.onTheWay]);
  }

  takeDoc(doc: MaskDoc, legend: LegendEntry[]): void {
    this.doc = doc;
    this.takeLegend(legend);
    this.changed();
  }

  takeLegend(legend: LegendEntry[]): void {
    const background = this.doc?.background ?? 0;
    this.regions = layPalette(
      sortLegend(legend, background, recallOrder(this.clip.set)),
      background,
      this.regions,
    );
    if (!this.current)
      this.region = this.regions.find((region) => region.id !== background)?.id ?? 1;
  }

  /** Put a region before another (or one place up or down), which changes its key too. */
  moveRegion(id: number, to: number): void {
    const background = this.doc?.background ?? 0;
    const regions = this.regions.filter((region) => region.id !== background);
    const from = regions.findIndex((region) => region.id === id);
    if (from < 0 || to < 0 || to >= regions.length) return;
    regions.splice(to, 0, ...regions.splice(from, 1));
    rememberOrder(
      this.clip.set,
      regions.map((region) => region.name),
    );
    const all = [...regions, ...this.regions.filter((region) => region.id === background)];
    this.regions = layPalette(all, background, this.regions);
  }

  nameOf(id: number): string {
    return (
      this.regions.find((region) => region.id === id)?.name ??
      (id === (this.doc?.background ?? 0) ? "background" : `number ${id}`)
    );
  }

  /** Called each frame in which the document changed. */
  looked(): void {
    const now = performance.now();
    const pause = OFTEN * Math.max(1, (this.doc?.ids.length ?? 0) / LARGE);
    if (now - this.lookedAt < pause) return;
    this.lookedAt = now;
    this.version++;
  }

  /** Called when a stroke or a step has ended. */
  changed(): void {
    this.version++;
    this.steps++;
    clearTimeout(this.counting);
    this.counting = setTimeout(() => {
      if (this.doc) this.shares = measureShares(this.doc.ids);
    }, EVER);
  }

  point(x: number, y: number): void {
    const doc = this.doc;
    const column = Math.floor(x);
    const row = Math.floor(y);
    if (!doc || column < 0 || row < 0 || column >= doc.width || row >= doc.height) {
      this.hover = null;
      return;
    }
    const at = row * doc.width + column;
    const id = doc.ids[at]!;
    const plane = doc.soft.get(this.region);
    this.hover = {
      x: column,
      y: row,
      region: this.nameOf(id),
      soft: plane ? plane[at]! / 255 : null,
    };
  }

  /** The region under a point becomes the one in hand. */
  pick(x: number, y: number): void {
    const doc = this.doc;
    const column = Math.floor(x);
    const row = Math.floor(y);
    if (!doc || column < 0 || row < 0 || column >= doc.width || row >= doc.height) return;
    const id = doc.ids[row * doc.width + column]!;
    if (this.regions.some((region) => region.id === id)) this.region = id;
  }

  /** Show one region alone, or all again where it is alone already. */
  solo(id: number): void {
    const alone = this.regions.every((region) => region.hidden === (region.id !== id));
    for (const region of this.regions) region.hidden = !alone && region.id !== id;
  }

  /** A weight from its slider: seen at once, written a moment later. */
  weigh(region: PaletteRegion, weight: number): void {
    if (!this.config || !Number.isFinite(weight) || weight < 0) return;
    region.weight = weight;
    this.weights[region.name] = weight;
    clearTimeout(this.writing);
    this.writing = setTimeout(() => void this.writeWeights(), WRITE);
  }

  async writeWeights(): Promise<void> {
    const weights = this.weights;
    if (!this.config || !Object.keys(weights).length) return;
    this.weights = {};
    try {
      await put(`/configs/${this.config}/regions`, { weights });
    } catch (error) {
      toastError(error);
    }
  }

  get picture(): Picture | null {
    return this.pixelsOf === this.source ? this.pixels : null;
  }

  /** Fetch the clip's own pixels, for the tools that look at colours. */
  async needPixels(): Promise<void> {
    const { source, doc } = this;
    if (!source || !doc || this.pixelsOf === source) return;
    this.pixelsOf = source;
    this.pixels = null;
    this.pixelsThere = false;
    try {
      const data = await fetchPixels(source);
      if (this.pixelsOf !== source) return; // another frame is shown by now
      this.pixels = { width: source.width, height: source.height, data };
      this.pixelsThere = true;
    } catch (error) {
      this.pixelsOf = null;
      toastError(error);
    }
  }

  close(): void {
    clearTimeout(this.counting);
    clearTimeout(this.writing);
    void this.writeWeights();
  }
}

export type Finished = (step: Step | null) => void;
