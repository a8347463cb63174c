// How the mask of a clip stands, by the facts of its data set.
import type { Clip } from "../../../lib/workspace.svelte.ts";

export type Mark =
  "none" | "made" | "accepted" | "unsure" | "nothing" | "failed" | "hand" | "alpha";

/** A row of the data set, as far as the strip needs it. */
export interface StripClip extends Clip {
  v?: string; // changes with the file
}

export const MARKS: Record<Mark, { text: string; sign: string }> = {
  none: { text: "no mask", sign: "" },
  made: { text: "made, sure", sign: "✓" },
  accepted: { text: "looked at, accepted", sign: "✓" },
  unsure: { text: "unsure: look at it", sign: "?" },
  nothing: { text: "nothing was found in it", sign: "?" },
  failed: { text: "could not be made", sign: "!" },
  hand: { text: "painted by hand", sign: "✎" },
  alpha: { text: "its own transparency", sign: "α" },
};

/** Those that somebody should look at. */
export function needsLook(mark: Mark | undefined): boolean {
  return mark === "unsure" || mark === "nothing" || mark === "failed";
}

/** The next clip after this one, round the end, that somebody should look at. */
export function findNext(
  clips: StripClip[],
  current: string,
  marks: Record<string, Mark>,
): StripClip | undefined {
  const at = clips.findIndex((clip) => clip.id === current);
  const later = [...clips.slice(at + 1), ...clips.slice(0, Math.max(at, 0))];
  return later.find((clip) => needsLook(marks[clip.id]));
}

/** Pictures other than this one that have a mask, as far as is known. */
export function listMasked(
  clips: StripClip[],
  current: string,
  marks: Record<string, Mark>,
): StripClip[] {
  return clips.filter(
    (clip) => clip.id !== current && !clip.video && (marks[clip.id] ?? "none") !== "none",
  );
}
