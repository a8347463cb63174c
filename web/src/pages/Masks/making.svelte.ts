/** The form of `frisket masks make`: its fields from the server, and what was changed in it. */

import { get, post } from "../../lib/api.ts";
import { toast } from "../../lib/toasts.svelte.ts";

export type FieldValue = boolean | number | string | (boolean | number | string)[];

export interface MakingField {
  name: string;
  kind: "boolean" | "number" | "integer" | "string" | "choice" | "list" | "table";
  choices: string[];
  least: number | null;
  most: number | null;
  text: string;
  value: FieldValue | null;
  default: FieldValue | null;
}

export interface BackendCard {
  name: string;
  parts: string[];
  summary: string;
  role: string;
  weights: boolean;
  licence: string;
  warning: string;
  missing: string;
}

export interface MakingForm {
  fields: MakingField[];
  backends: BackendCard[];
  device: string;
}

export interface MakingPlan {
  counts: Record<string, number>;
  messages: string[];
  licences: string[];
  regions: Record<string, [string, number][]>;
}

export interface MakingRequest {
  options: Record<string, FieldValue>;
  ids: string[] | null;
  again: boolean;
  overwrite: boolean;
  device: string;
}

export class Making {
  form = $state.raw<MakingForm | null>(null);
  options = $state<Record<string, FieldValue>>({});
  again = $state(false);
  device = $state("auto");
  error = $state("");

  constructor(readonly setId: string) {}

  async load(): Promise<void> {
    this.form = await get<MakingForm>(`/sets/${this.setId}/making`);
  }

  valueOf(field: MakingField): FieldValue | null {
    return this.options[field.name] ?? field.value;
  }

  /** Take a change; one that says what the configuration says anyway is none. */
  change(field: MakingField, value: FieldValue): void {
    if (JSON.stringify(value) === JSON.stringify(field.value)) delete this.options[field.name];
    else this.options[field.name] = value;
  }

  get backend(): string {
    const chosen =
      this.options["backends"] ??
      this.form?.fields.find((field) => field.name === "backends")?.value;
    return Array.isArray(chosen) ? String(chosen[0] ?? "draft") : "draft";
  }

  get card(): BackendCard | undefined {
    return this.form?.backends.find((card) => card.name === this.backend);
  }

  request(ids: string[] | null, more: Partial<MakingRequest> = {}): MakingRequest {
    const { again, device } = this;
    return { options: { ...this.options }, ids, again, overwrite: false, device, ...more };
  }

  plan(ids: string[] | null): Promise<MakingPlan> {
    const { again, options } = this;
    return post<MakingPlan>(`/sets/${this.setId}/making/plan`, {
      again,
      options: { ...options },
      ids,
    });
  }

  async run(request: MakingRequest): Promise<string> {
    const answer = await post<{ job: string; adopted: string[] }>(
      `/sets/${this.setId}/making`,
      request,
    );
    if (answer.adopted.length) {
      toast(
        `The configuration reads masks from now on: masks = "masks", ${answer.adopted.join(", ")} = 1.0`,
        "ok",
      );
    }
    return answer.job;
  }
}

/** The section of a field and its own name, as headings. */
export function splitName(name: string): [string, string] {
  const parts = name.split(".");
  const own = parts.pop()!.replaceAll("_", " ");
  return [parts.join(" ") || "general", own];
}
