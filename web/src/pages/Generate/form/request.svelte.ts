/** The form of one call, kept while pages change, and what it comes to as a request. */

import type { Defaults, Form, LoraFile, PromptRow } from "../types.ts";
import { readSeeds } from "./seeds.ts";

/** A LoRA of the form; its place in the list is its number in the painting. */
export interface Acting {
  lora: string;
  strength: number;
  painted: boolean;
  trigger: string;
}

const EMPTY: PromptRow = { prompt: "", negative: null, seed: null, steps: null, guidance: null };

class RequestState {
  /** "config:ID" or "run:ID". */
  source = $state("");
  lines = $state("");
  asTable = $state(false);
  rows = $state<PromptRow[]>([{ ...EMPTY }]);
  negative = $state("");
  seeds = $state("0");
  width = $state<number | null>(null);
  height = $state<number | null>(null);
  frames = $state<number | null>(null);
  steps = $state<number | null>(null);
  guidance = $state<number | null>(null);
  loras = $state<Acting[]>([]);
  painting = $state<string | null>(null);
  /** Size that the painting has. */
  painted = $state({ width: 0, height: 0 });
  compare = $state(false);
  method = $state("");
  background = $state("");
  fuseStep = $state<number | null>(null);
  fuseLoras = $state(false);
  fuseBias = $state(false);
  defaults = $state<Defaults | null>(null);

  get size(): { width: number; height: number } {
    return {
      width: this.width ?? this.defaults?.width ?? 512,
      height: this.height ?? this.defaults?.height ?? 512,
    };
  }

  get query(): string {
    const [kind, id] = this.source.split(":");
    return `${kind}=${id}`;
  }

  addRow(): void {
    this.rows = [...this.rows, { ...EMPTY }];
  }

  addLora(lora: LoraFile): void {
    const trigger = lora.focus || lora.trigger;
    this.loras = [...this.loras, { lora: lora.id, strength: 1, painted: false, trigger }];
  }

  /** What is sent; prompts without words are left out. */
  build(): Form {
    const [kind, id] = this.source.split(":");
    const lines = this.lines.split("\n").filter((line) => line.trim());
    const rows = this.asTable
      ? this.rows.filter((row) => row.prompt.trim())
      : lines.map((line) => ({ ...EMPTY, prompt: line.trim() }));
    return {
      config: kind === "config" ? (id ?? null) : null,
      run: kind === "run" ? (id ?? null) : null,
      prompts: rows.map((row) => ({ ...row, negative: row.negative || null })),
      seeds: readSeeds(this.seeds),
      negative: this.negative,
      width: this.width,
      height: this.height,
      frames: this.frames,
      steps: this.steps,
      guidance: this.guidance,
      batch: null,
      loras: this.loras.map((each) => ({
        ...each,
        painted: each.painted && !this.method,
        trigger: this.method ? each.trigger : "",
      })),
      painting: this.method ? null : this.painting,
      compare: this.compare && this.loras.length > 0,
      method: this.loras.length ? this.method : "",
      background: this.method === "freefuse" ? this.background : "",
      fuse_step: this.method === "freefuse" ? this.fuseStep : null,
      fuse_loras: this.method === "freefuse" && this.fuseLoras,
      fuse_bias: this.method === "freefuse" && this.fuseBias,
    };
  }

  /** Take up the settings of an earlier call. */
  take(form: Form): void {
    this.source = form.config ? `config:${form.config}` : `run:${form.run}`;
    this.asTable = form.prompts.some((row) =>
      [row.negative, row.seed, row.steps, row.guidance].some((own) => own !== null),
    );
    this.rows = form.prompts.map((row) => ({ ...row }));
    this.lines = form.prompts.map((row) => row.prompt).join("\n");
    this.negative = form.negative;
    this.seeds = form.seeds.join(", ");
    this.width = form.width;
    this.height = form.height;
    this.frames = form.frames;
    this.steps = form.steps;
    this.guidance = form.guidance;
    this.loras = form.loras.map((each) => ({ ...each }));
    this.painting = form.painting;
    this.compare = form.compare;
    this.method = form.method;
    this.background = form.background;
    this.fuseStep = form.fuse_step;
    this.fuseLoras = form.fuse_loras;
    this.fuseBias = form.fuse_bias;
  }
}

export const request = new RequestState();
