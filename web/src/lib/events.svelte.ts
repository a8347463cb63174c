/** What happens on the server, as it happens: one stream for the whole page. */

export type EventKind = "job" | "clips" | "mask" | "run" | "notice" | "refetch";
type Listener = (data: Record<string, unknown>) => void;

const KINDS: EventKind[] = ["job", "clips", "mask", "run", "notice", "refetch"];
const listeners = new Map<EventKind, Set<Listener>>();

/** Whether the stream is open; shown by the bar. */
export const link = $state({ open: false });

let source: EventSource | undefined;

/** Hear of one kind; `refetch` says that some were missed, and everything is to be read anew. */
export function on(kind: EventKind, listener: Listener): () => void {
  const heard = listeners.get(kind) ?? new Set();
  listeners.set(kind, heard.add(listener));
  return () => heard.delete(listener);
}

/** Open the stream; the browser comes back by itself and says the last id it saw. */
export function connect(): void {
  if (source) return;
  source = new EventSource("/api/events");
  source.addEventListener("open", () => (link.open = true));
  source.addEventListener("error", () => (link.open = false));
  for (const kind of KINDS) {
    source.addEventListener(kind, (event) =>
      dispatch(kind, JSON.parse((event as MessageEvent<string>).data)),
    );
  }
}

function dispatch(kind: EventKind, data: Record<string, unknown>): void {
  for (const listener of listeners.get(kind) ?? []) listener(data);
}
