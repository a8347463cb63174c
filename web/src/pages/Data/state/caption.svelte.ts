/** One caption being written: saved a moment after the last key, and whenever it is left. */

import { ApiError, get, put } from "../../../lib/api.ts";
import { toastError } from "../../../lib/toasts.svelte.ts";

const PAUSE = 800;

interface Answer {
  text: string;
  revision: string;
  editable: boolean;
  why: string;
  file?: string;
}

interface Theirs {
  text: string;
  revision: string;
}

export type CaptionState = "loading" | "saved" | "changed" | "saving" | "failed" | "conflict";

export class CaptionDraft {
  text = $state("");
  state = $state<CaptionState>("loading");
  editable = $state(false);
  why = $state("");
  file = $state("");
  theirs = $state.raw<Theirs | null>(null);

  #revision = "";
  #saved = "";
  #timer: ReturnType<typeof setTimeout> | undefined;
  #sending: Promise<void> | null = null;
  #closed = false;

  constructor(readonly clip: string) {
    void this.#load();
  }

  async #load(): Promise<void> {
    try {
      const answer = await get<Answer>(`/clips/${this.clip}/caption`);
      if (this.#closed) return;
      this.text = this.#saved = answer.text;
      this.#revision = answer.revision;
      this.editable = answer.editable;
      this.why = answer.why;
      this.file = answer.file ?? "";
      this.state = "saved";
    } catch (error) {
      this.why = error instanceof Error ? error.message : String(error);
      this.state = "failed";
    }
  }

  /** Read the file again, where nothing is unsaved. */
  async refresh(): Promise<void> {
    if (this.state !== "saved") return;
    const before = this.text;
    const answer = await get<Answer>(`/clips/${this.clip}/caption`).catch(() => null);
    if (!answer || this.#closed || this.state !== "saved" || this.text !== before) return;
    this.text = this.#saved = answer.text;
    this.#revision = answer.revision;
  }

  /** The text as it is now, to be saved after a pause. */
  write(text: string): void {
    if (!this.editable) return;
    this.text = text;
    if (this.state === "conflict") return;
    this.state = text === this.#saved ? "saved" : "changed";
    clearTimeout(this.#timer);
    if (this.state === "changed") this.#timer = setTimeout(() => void this.flush(), PAUSE);
  }

  /** Save now what is not saved; one request at a time. */
  async flush(): Promise<void> {
    clearTimeout(this.#timer);
    if (this.#sending) await this.#sending;
    if (this.state !== "changed" && this.state !== "failed") return;
    if (!this.editable || this.text === this.#saved) return;
    this.#sending = this.#send();
    await this.#sending;
    this.#sending = null;
    if (this.state === "changed") await this.flush();
  }

  async #send(): Promise<void> {
    const text = this.text;
    this.state = "saving";
    try {
      const body = { text, revision: this.#revision };
      // keepalive: also where the page is left meanwhile (bodies up to 64 kB).
      const init = { keepalive: text.length < 20_000 };
      const answer = await put<Theirs>(`/clips/${this.clip}/caption`, body, init);
      this.#saved = text;
      this.#revision = answer.revision;
      this.state = this.text === text ? "saved" : "changed";
    } catch (error) {
      const body = error instanceof ApiError ? (error.body as { theirs?: Theirs }) : undefined;
      if (error instanceof ApiError && error.status === 409 && body?.theirs) {
        this.theirs = body.theirs;
        this.state = "conflict";
      } else {
        this.state = "failed";
        this.why = error instanceof Error ? error.message : String(error);
      }
      if (this.#closed) toastError(error);
    }
  }

  /** End a conflict: with the text of this page, or with what the file holds now. */
  async settle(mine: boolean): Promise<void> {
    if (!this.theirs) return;
    this.#revision = this.theirs.revision;
    this.#saved = this.theirs.text;
    if (!mine) this.text = this.theirs.text;
    this.theirs = null;
    this.state = this.text === this.#saved ? "saved" : "changed";
    await this.flush();
  }

  close(): void {
    void this.flush();
    this.#closed = true;
  }
}
