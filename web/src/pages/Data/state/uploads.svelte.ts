/** Files dropped into the page: clips first, then the captions and masks that belong to them. */

import { ApiError, raw } from "../../../lib/api.ts";

export interface Dropped {
  file: File;
  /** Where it lay in what was dropped, "/" between folders. */
  path: string;
}

export interface Refused {
  name: string;
  why: string;
}

interface Answer {
  name: string;
  kind: "clip" | "caption" | "mask";
  renamed: boolean;
}

const TEXTS = /\.(txt|caption|tags|tag|cap|prompt|description)$/i;
const MASK_FOLDER = /(^|\/)(masks?|mattes?|masklabels)\//i;
const MASK_NAME = /(\.mask|-masklabel)\.[^.]+$/i;

/** Files of what was dropped, folders opened; hidden files are none. */
export async function gather(transfer: DataTransfer): Promise<Dropped[]> {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.() ?? null);
  if (!entries.some(Boolean)) return fromList(transfer.files);
  const files: Dropped[] = [];
  for (const entry of entries) if (entry) await walk(entry, "", files);
  return files;
}

export function fromList(list: FileList): Dropped[] {
  return [...list].map((file) => ({ file, path: file.webkitRelativePath || file.name }));
}

async function walk(entry: FileSystemEntry, base: string, files: Dropped[]): Promise<void> {
  if (entry.name.startsWith(".")) return;
  const path = base + entry.name;
  if (entry.isFile) {
    const file = await new Promise<File>((done, fail) =>
      (entry as FileSystemFileEntry).file(done, fail),
    );
    files.push({ file, path });
    return;
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  for (;;) {
    const part = await new Promise<FileSystemEntry[]>((done, fail) =>
      reader.readEntries(done, fail),
    );
    if (!part.length) return;
    for (const each of part) await walk(each, `${path}/`, files);
  }
}

export function isMask(dropped: Dropped): boolean {
  return MASK_FOLDER.test(dropped.path) || MASK_NAME.test(dropped.file.name);
}

const stem = (name: string) => name.replace(/\.[^.]+$/, "");

class Uploads {
  total = $state(0);
  done = $state(0);
  now = $state("");
  refused = $state.raw<Refused[]>([]);
  taken = $state(0);
  busy = $derived(this.done < this.total);

  #stop = false;

  cancel(): void {
    this.#stop = true;
  }

  /** Send files one after another; `masks` says that all pictures are masks. */
  async send(set: string, dropped: Dropped[], masks: boolean): Promise<void> {
    const rank = (each: Dropped) =>
      TEXTS.test(each.file.name) ? 1 : masks || isMask(each) ? 2 : 0;
    const ordered = [...dropped].sort((a, b) => rank(a) - rank(b));
    // A clip that was renamed takes its caption and mask along.
    const renamed = new Map<string, string>();
    this.#stop = false;
    this.refused = [];
    this.taken = 0;
    this.done = 0;
    this.total = ordered.length;
    for (const [at, each] of ordered.entries()) {
      if (this.#stop) break;
      const mask = rank(each) === 2;
      const name = rank(each) ? rename(each.file.name, renamed) : each.file.name;
      this.now = each.file.name;
      const query = new URLSearchParams({ name, last: String(at === ordered.length - 1) });
      if (mask) query.set("kind", "mask");
      try {
        const response = await raw(`/sets/${set}/files?${query}`, {
          method: "POST",
          body: each.file,
        });
        const answer = (await response.json()) as Answer;
        if (answer.kind === "clip") renamed.set(stem(each.file.name), stem(answer.name));
        this.taken += 1;
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error);
        this.refused = [...this.refused, { name: each.file.name, why }];
        if (error instanceof ApiError && error.status === 0) break;
      }
      this.done = at + 1;
    }
    this.done = this.total;
    this.now = "";
  }
}

function rename(name: string, renamed: ReadonlyMap<string, string>): string {
  const bare = name.replace(MASK_NAME, "").replace(/\.[^.]+$/, "");
  const other = renamed.get(bare);
  return other === undefined ? name : other + name.slice(bare.length);
}

export const uploads = new Uploads();
