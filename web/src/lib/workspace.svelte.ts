/** The opened folder, and which configuration and data set are looked at. */

import { get } from "./api.ts";

export interface ConfigRef {
  id: string;
  name: string;
}

export interface SetRef {
  id: string;
  name: string;
  config: string | null;
  index: number;
}

export interface Clip {
  id: string;
  set: string;
  name: string;
  video: boolean;
}

export interface Region {
  id: number;
  name: string;
  colour: string;
  weight: number;
}

interface WorkspaceAnswer {
  name: string;
  path: string;
  version: string;
  configs: ConfigRef[];
  sets: SetRef[];
}

class WorkspaceState {
  name = $state("");
  path = $state("");
  version = $state("");
  configs = $state<ConfigRef[]>([]);
  sets = $state<SetRef[]>([]);
  configId = $state<string | null>(null);
  setId = $state<string | null>(null);
  ready = $state(false);

  get config(): ConfigRef | undefined {
    return this.configs.find((each) => each.id === this.configId);
  }

  get set(): SetRef | undefined {
    return this.sets.find((each) => each.id === this.setId);
  }

  /** Sets of the chosen configuration, or those of none. */
  get shownSets(): SetRef[] {
    return this.sets.filter((each) => each.config === this.configId);
  }

  async load(): Promise<void> {
    const answer = await get<WorkspaceAnswer>("/workspace");
    Object.assign(this, answer);
    if (!this.config) this.chooseConfig(answer.configs[0]?.id ?? null);
    else if (!this.set) this.chooseConfig(this.configId);
    this.ready = true;
  }

  chooseConfig(id: string | null): void {
    this.configId = id;
    this.setId = this.shownSets[0]?.id ?? this.sets[0]?.id ?? null;
  }
}

export const workspace = new WorkspaceState();
