/** Names that the shelves know; read once, for it takes a process with torch a moment. */

import { get } from "../../../lib/api.ts";

export interface VariantInfo {
  name: string;
  repo: string;
  video: boolean;
  width: number;
  height: number;
  frames: number;
}

export interface FamilyInfo {
  name: string;
  default: string;
  variants: VariantInfo[];
}

export interface TermOption {
  name: string;
  type: string;
  default: string | number | boolean | null;
}

interface Choices {
  families: FamilyInfo[];
  terms: Record<string, TermOption[]>;
  optimizers: string[];
  region_presets: Record<string, Record<string, number>>;
}

class ChoicesState {
  known = $state.raw<Choices | null>(null);
  error = $state("");
  private asked = false;

  async load(): Promise<void> {
    if (this.asked) return;
    this.asked = true;
    try {
      this.known = await get<Choices>("/train/choices");
      this.error = "";
    } catch (error) {
      this.asked = false;
      this.error = error instanceof Error ? error.message : String(error);
    }
  }

  family(name: string): FamilyInfo | undefined {
    return this.known?.families.find((family) => family.name === name);
  }
}

export const choices = new ChoicesState();
