/** One configuration on the page. Its text is the truth; the form is a view of it. */

import { ApiError, get, post, put } from "../../../lib/api.ts";
import { toast, toastError } from "../../../lib/toasts.svelte.ts";
import { joinKey, valueAt, type Key, type Part, type Schema } from "./schema.ts";

export interface Change {
  key: Key;
  value?: unknown;
  remove?: boolean;
  to?: Key;
  maybe?: boolean;
}

export interface Fix {
  says: string;
  changes: Change[];
}

export interface Problem {
  key: Key;
  line: number | null;
  message: string;
  fix?: Fix;
}

interface Checked {
  tree: Record<string, unknown> | null;
  lines: [Part[], number][];
  problems: Problem[];
  valid: boolean;
}

interface Opened extends Checked {
  id: string;
  name: string;
  text: string;
  revision: string;
}

export interface Look {
  problems: Problem[];
  refusals: string[];
  opening: string[];
}

interface Draft {
  text: string;
  revision: string;
}

const CHECK_AFTER = 250; // ms after the last letter
const LOOK_AFTER = 1200;

export class ConfigState {
  schema = $state.raw<Schema | null>(null);
  id = $state("");
  name = $state("");
  text = $state("");
  saved = $state("");
  revision = $state("");
  tree = $state.raw<Record<string, unknown>>({});
  lines = $state.raw<[Part[], number][]>([]);
  problems = $state.raw<Problem[]>([]);
  valid = $state(false);
  /** What the shelves say; null while nobody has asked about this text. */
  look = $state.raw<Look | null>(null);
  looking = $state(false);
  busy = $state(false);
  /** What somebody else wrote into the file meanwhile. */
  theirs = $state.raw<Draft | null>(null);
  private queue: Promise<void> = Promise.resolve();
  private checkTimer = 0;
  private lookTimer = 0;
  private version = 0;

  get changed(): boolean {
    return this.text !== this.saved;
  }

  /** All that stands in the way, those of the shelves last. */
  get allProblems(): Problem[] {
    const deep = this.look?.problems ?? [];
    const refused = (this.look?.refusals ?? []).map((message) => ({
      key: [],
      line: null,
      message,
    }));
    return this.problems.length ? this.problems : [...deep, ...refused];
  }

  valueAt(key: Key): unknown {
    return valueAt(this.tree, key);
  }

  problemAt(key: Key): Problem | undefined {
    const name = joinKey(key);
    return this.allProblems.find(
      (problem) => problem.key.length > 0 && joinKey(problem.key) === name,
    );
  }

  /** Open a file; a draft of it that was not saved comes back. */
  async open(id: string): Promise<void> {
    this.schema ??= await get<Schema>("/schema");
    const opened = await get<Opened>(`/configs/${id}`);
    const draft = recall(id); // before the file's own text is taken, which forgets it
    this.version += 1;
    this.theirs = null;
    this.look = null;
    Object.assign(this, { id, name: opened.name, saved: opened.text, revision: opened.revision });
    this.take(opened.text, opened);
    if (draft && draft.text !== opened.text) {
      this.setText(draft.text);
      if (draft.revision !== opened.revision) {
        toast(`${opened.name} was changed since your draft of it; Changes shows both`, "warn");
      }
    }
  }

  /** A text typed by hand: checked as it is typed. */
  setText(text: string): void {
    this.text = text;
    this.version += 1;
    keep(this.id, { text, revision: this.revision });
    clearTimeout(this.checkTimer);
    this.checkTimer = window.setTimeout(() => void this.check(), CHECK_AFTER);
  }

  private async check(): Promise<void> {
    const version = this.version;
    try {
      const checked = await post<Checked>(`/configs/${this.id}/check`, { text: this.text });
      if (version === this.version) this.take(this.text, checked);
    } catch (error) {
      toastError(error);
    }
  }

  /** Change keys, one after the other in the order they were asked for. */
  edit(...changes: Change[]): Promise<void> {
    this.queue = this.queue.then(() => this.apply(changes));
    return this.queue;
  }

  private async apply(changes: Change[]): Promise<void> {
    this.busy = true;
    try {
      const text = this.text;
      const edited = await post<Checked & { text: string }>(`/configs/${this.id}/edit`, {
        text,
        changes,
      });
      if (text === this.text) this.take(edited.text, edited);
      else await this.apply(changes); // somebody typed in the text meanwhile
    } catch (error) {
      toastError(error);
    } finally {
      this.busy = false;
    }
  }

  private take(text: string, checked: Checked): void {
    const other = text !== this.text;
    this.text = text;
    this.version += 1;
    if (checked.tree) this.tree = checked.tree;
    this.lines = checked.lines;
    this.problems = checked.problems;
    this.valid = checked.valid;
    if (other) this.look = null;
    if (this.changed) keep(this.id, { text, revision: this.revision });
    else forget(this.id);
    clearTimeout(this.lookTimer);
    if (checked.valid) this.lookTimer = window.setTimeout(() => void this.askShelves(), LOOK_AFTER);
    else this.look = null;
  }

  /** Have it looked at by what needs the models' code: families, terms, optimizers. */
  private async askShelves(): Promise<void> {
    const { version, text } = this;
    this.looking = true;
    try {
      const look = await post<Look>("/train/look", { config: this.id, text });
      if (version === this.version) this.look = look;
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 409)) toastError(error);
    } finally {
      if (version === this.version) this.looking = false;
    }
  }

  async save(): Promise<boolean> {
    await this.queue;
    if (!this.changed) return true;
    try {
      const { text } = this;
      const body = { text, revision: this.revision };
      const saved = await put<Checked & { revision: string }>(`/configs/${this.id}`, body);
      this.saved = text;
      this.revision = saved.revision;
      this.take(this.text, saved);
      return true;
    } catch (error) {
      const body = error instanceof ApiError ? (error.body as { theirs?: Draft }) : undefined;
      if (body?.theirs) this.theirs = body.theirs;
      else toastError(error);
      return false;
    }
  }

  /** Of two versions: ours over theirs, or theirs instead of ours. */
  async settle(keepOurs: boolean): Promise<void> {
    if (!this.theirs) return;
    this.saved = this.theirs.text;
    this.revision = this.theirs.revision;
    const text = this.theirs.text;
    this.theirs = null;
    if (keepOurs) await this.save();
    else this.setText(text);
  }

  /** Back to what the file holds. */
  revert(): void {
    this.setText(this.saved);
    forget(this.id);
  }

  stop(): void {
    clearTimeout(this.checkTimer);
    clearTimeout(this.lookTimer);
  }
}

function slot(id: string): string {
  return `frisket-draft-${id}`;
}

function keep(id: string, draft: Draft): void {
  if (id) localStorage.setItem(slot(id), JSON.stringify(draft));
}

function forget(id: string): void {
  localStorage.removeItem(slot(id));
}

function recall(id: string): Draft | null {
  const kept = localStorage.getItem(slot(id));
  return kept ? (JSON.parse(kept) as Draft) : null;
}

export const config = new ConfigState();
