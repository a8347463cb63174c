/** Keys of the page and of what is on it: the newest binding of a key wins, `?` shows them all. */

import { untrack } from "svelte";

export interface Binding {
  do: (event: KeyboardEvent) => void;
  says: string;
  /** Called when the key is let go: for what lasts as long as it is held. */
  up?: () => void;
  /** Also while a text field has the focus (Ctrl+S, Escape). */
  inFields?: boolean;
}

export type Bindings = Record<string, Binding>;

class BoundKeys {
  // Raw: read through a deep state each layer would be a proxy, no binding would be found again,
  // and none ever let go.
  layers = $state.raw<Bindings[]>([]);
}

/** Of all that is bound now, newest last; the help reads it. */
export const bound = new BoundKeys();
const held = new Map<string, Binding>();

/** Bind keys, spelt "b", "Shift+[", "Ctrl+z", "Space", "ArrowLeft"; the result unbinds them. */
export function bindKeys(bindings: Bindings): () => void {
  // Called within effects, which must not run again for what they write here themselves.
  untrack(() => (bound.layers = [...bound.layers, bindings]));
  return () => {
    untrack(() => (bound.layers = bound.layers.filter((layer) => layer !== bindings)));
  };
}

/** How a key is spelt here: modifiers first; Cmd counts as Ctrl. */
export function spell(event: KeyboardEvent): string {
  let key = event.key === " " ? "Space" : event.key;
  if (key.length === 1) key = key.toLowerCase();
  const isLetter = /^[a-z]$/.test(key);
  const shift = event.shiftKey && (isLetter || key.length > 1) ? "Shift+" : "";
  const ctrl = event.ctrlKey || event.metaKey ? "Ctrl+" : "";
  return ctrl + (event.altKey ? "Alt+" : "") + shift + key;
}

export function isField(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target.isContentEditable || target instanceof HTMLTextAreaElement) return true;
  if (target instanceof HTMLSelectElement) return true;
  return target instanceof HTMLInputElement && !/^(checkbox|radio|button)$/.test(target.type);
}

function find(key: string): Binding | undefined {
  return bound.layers.findLast((layer) => key in layer)?.[key];
}

function press(event: KeyboardEvent): void {
  const binding = find(spell(event));
  if (!binding || event.isComposing) return;
  // A dialog closes itself, whatever Escape means on the page beneath.
  if (event.key === "Escape" && document.querySelector("dialog:modal")) return;
  if (isField(event.target) && !binding.inFields && !takesKeys(event)) return;
  // Space and Enter work the control that has the focus.
  const onControl =
    event.target instanceof HTMLElement && event.target.closest("button, a, summary");
  if (onControl && (event.key === " " || event.key === "Enter")) return;
  event.preventDefault();
  if (event.repeat && binding.up) return;
  if (binding.up) held.set(event.code, binding);
  binding.do(event);
}

/** A slider takes arrows; letters pass it by. */
function takesKeys(event: KeyboardEvent): boolean {
  const target = event.target;
  return target instanceof HTMLInputElement && target.type === "range" && event.key.length === 1;
}

function release(event: KeyboardEvent): void {
  const binding = held.get(event.code);
  held.delete(event.code);
  binding?.up?.();
}

function releaseAll(): void {
  for (const binding of held.values()) binding.up?.();
  held.clear();
}

addEventListener("keydown", press);
addEventListener("keyup", release);
// A key let go in another window is never heard of here.
addEventListener("blur", releaseAll);
