/** What the server says of sampling, and what is sent to it. */

export interface Defaults {
  family: string;
  variant: string;
  width: number;
  height: number;
  frames: number;
  steps: number;
  guidance: number;
  negative: string;
  prompts: string[];
  /** Sides are multiples of this. */
  step: number;
  video: boolean;
  sees: "nothing" | "first_frame" | "pictures";
}

export interface LoraFile {
  id: string;
  name: string;
  run: string | null;
  step: number | null;
  family: string;
  trigger: string;
  focus: string;
  modified: number;
}

export interface Models {
  configs: { id: string; name: string }[];
  runs: { id: string; name: string; family: string; variant: string }[];
}

export interface Options {
  methods: string[];
  meanings: Record<string, string>;
}

export interface PromptRow {
  prompt: string;
  negative: string | null;
  seed: number | null;
  steps: number | null;
  guidance: number | null;
}

export interface LoraChoice {
  lora: string;
  strength: number;
  painted: boolean;
  trigger: string;
}

export interface Form {
  config: string | null;
  run: string | null;
  prompts: PromptRow[];
  seeds: number[];
  negative: string;
  width: number | null;
  height: number | null;
  frames: number | null;
  steps: number | null;
  guidance: number | null;
  batch: number | null;
  loras: LoraChoice[];
  painting: string | null;
  compare: boolean;
  method: string;
  background: string;
  fuse_step: number | null;
  fuse_loras: boolean;
  fuse_bias: boolean;
}

export interface Sample {
  url: string;
  video: boolean;
  lora: boolean;
  prompt: string;
  negative: string;
  seed: number;
  width?: number;
  height?: number;
  frames?: number;
  steps?: number;
  guidance?: number;
}

export interface Call {
  id: string;
  at: number | null;
  job: string | null;
  command: string | null;
  form: Form | null;
  done: boolean;
  folder: string;
  pictures: Sample[];
}
