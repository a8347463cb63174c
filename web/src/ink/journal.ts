/**
 * What a crash or a reload must not lose, in IndexedDB: the steps of each mask that is edited, and
 * how the page's mask differs from what the server has. Differences are xors, so their order does
 * not matter: the mask is the server's with the steps in `unsaved` laid over it. Where the server has
 * another revision it may be an attempt whose answer was lost: its sum tells.
 */

import type { Step } from "./doc";

const NAME = "frisket-strokes";
const STEPS = "steps",
  MASKS = "masks";
/** What the browser keeps of masks that are saved: the youngest, as long as they are below both. */
const MOST_BYTES = 256 << 20,
  MOST_MASKS = 400;

export interface KeptStep extends Omit<Step, "op"> {
  number: number;
  op: Step["op"] | null; // null of a difference that is no step anybody can undo
}

/** One mask as it was last known. */
export interface KeptMask {
  revision: string;
  width: number;
  height: number;
  stack: number[]; // numbers of the steps, oldest first
  position: number; // how many of them are done
  unsaved: number[];
  attempts: { numbers: number[]; sum: string }[];
  bytes: number; // of the steps
  when: number; // milliseconds since 1970
}

export interface Kept {
  mask: KeptMask;
  steps: Map<number, KeptStep>;
}

interface StepRow extends KeptStep {
  mask: string;
}

function request<T>(asked: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error ?? new Error("IndexedDB failed"));
  });
}

async function openStore(): Promise<IDBDatabase> {
  const asked = indexedDB.open(NAME, 1);
  asked.onupgradeneeded = () => {
    asked.result.createObjectStore(STEPS, { keyPath: ["mask", "number"] });
    asked.result.createObjectStore(MASKS);
  };
  return request(asked);
}

export class Journal {
  private last: Promise<unknown> = Promise.resolve();
  /** Why nothing is kept any more; "" while it is. */
  fault = "";

  private constructor(
    private readonly base: IDBDatabase,
    private readonly key: string,
    private readonly release: () => void,
  ) {}

  /** The journal of one mask; null where the browser keeps none, or another window has it. */
  static async open(key: string): Promise<Journal | null> {
    const release = await takeLock(`${NAME}/${key}`);
    if (!release) return null;
    try {
      const journal = new Journal(await openStore(), key, release);
      await journal.prune();
      return journal;
    } catch {
      release();
      return null;
    }
  }

  /** What was kept; null where there is nothing. */
  async load(): Promise<Kept | null> {
    const transaction = this.base.transaction([STEPS, MASKS]);
    const mask = (await request(transaction.objectStore(MASKS).get(this.key))) as
      KeptMask | undefined;
    if (!mask) return null;
    const rows = (await request(transaction.objectStore(STEPS).getAll(this.range()))) as StepRow[];
    return { mask, steps: new Map(rows.map(({ mask: _, ...step }) => [step.number, step])) };
  }

  /** Write a step and what is known of the mask with it, in one go; steps dropped go too. */
  record(mask: KeptMask, step: KeptStep | null = null, dropped: readonly number[] = []): void {
    this.change((steps, masks) => {
      if (step) steps.put({ ...step, mask: this.key });
      for (const number of dropped) steps.delete([this.key, number]);
      masks.put(mask, this.key);
    });
  }

  clear(): void {
    this.change((steps, masks) => {
      steps.delete(this.range());
      masks.delete(this.key);
    });
  }

  /** When everything given so far is written. */
  async settle(): Promise<void> {
    await this.last;
  }

  async close(): Promise<void> {
    await this.last;
    this.base.close();
    this.release();
  }

  private range(key = this.key): IDBKeyRange {
    return IDBKeyRange.bound([key, 0], [key, Number.MAX_SAFE_INTEGER]);
  }

  /** Forget the undo of masks that were not painted for long; what is not saved is never forgotten. */
  private async prune(): Promise<void> {
    const store = this.base.transaction([MASKS]).objectStore(MASKS);
    const [keys, masks] = await Promise.all([request(store.getAllKeys()), request(store.getAll())]);
    const rows = (masks as KeptMask[]).map((mask, at) => ({ key: String(keys[at]), mask }));
    rows.sort((one, other) => other.mask.when - one.mask.when);
    let bytes = 0;
    const old = rows.filter(({ key, mask }, place) => {
      bytes += mask.bytes;
      const many = place >= MOST_MASKS || bytes > MOST_BYTES;
      return many && key !== this.key && !mask.unsaved.length;
    });
    if (!old.length) return;
    this.change((steps, kept) => {
      for (const { key } of old) {
        steps.delete(this.range(key));
        kept.delete(key);
      }
    });
  }

  private change(write: (steps: IDBObjectStore, masks: IDBObjectStore) => void): void {
    // Transactions of one store run in the order they were made: nothing here needs to wait.
    this.last = new Promise<void>((resolve) => {
      try {
        const transaction = this.base.transaction([STEPS, MASKS], "readwrite");
        transaction.oncomplete = () => resolve();
        transaction.onabort = transaction.onerror = () => {
          this.fault = String(transaction.error ?? "the browser keeps no more");
          resolve();
        };
        write(transaction.objectStore(STEPS), transaction.objectStore(MASKS));
      } catch (error) {
        this.fault = String(error);
        resolve();
      }
    });
  }
}

/** Hold a name until the returned function is called; null where another window holds it. */
async function takeLock(name: string): Promise<(() => void) | null> {
  const locks = typeof navigator === "undefined" ? undefined : navigator.locks;
  if (!locks) return () => {};
  return new Promise((resolve) => {
    const hold = (lock: Lock | null): Promise<void> | void => {
      if (!lock) return resolve(null);
      return new Promise((release) => resolve(release));
    };
    // A page that is loaded again may be a moment ahead of the end of its former self.
    locks.request(name, { signal: AbortSignal.timeout(1000) }, hold).catch(() => resolve(null));
  });
}
