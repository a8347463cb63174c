// How the mask of a clip stands, by its record.
export type Mark = "none" | "done" | "unsure" | "hand" | "failed";

export const MARKS: Record<Mark, { text: string; sign: string }> = {
  none: { text: "no mask", sign: "" },
  done: { text: "made, sure", sign: "✓" },
  unsure: { text: "unsure: look at it", sign: "?" },
  hand: { text: "painted by hand", sign: "✎" },
  failed: { text: "could not be made", sign: "!" },
};
