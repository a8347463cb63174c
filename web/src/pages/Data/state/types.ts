/** What the server says of a data set; see studio/routes/data/clips.py. */

export interface Row {
  id: string;
  set: string;
  name: string;
  video: boolean;
  bytes: number;
  mtime: number;
  /** Changes with the clip's file. */
  v: string;
  masked: boolean;
  rejected: boolean;
}

export type Severity = "error" | "warning" | "note";

export interface Finding {
  kind: string;
  severity: Severity;
  clip?: string;
  sentence: string;
  fix: string;
}

export type MaskStatus =
  "none" | "made" | "accepted" | "unsure" | "nothing" | "failed" | "hand" | "alpha";

export interface Facts {
  id: string;
  /** Changes with any file of the clip. */
  v: string;
  caption: string;
  status: MaskStatus;
  confidence: number | null;
  notes: string[];
  size: [number, number] | null;
  frames: number | null;
  coverage: Record<string, number> | null;
  measured: boolean;
  findings: Finding[];
}

export interface RegionRef {
  id: number;
  name: string;
  colour: string;
  weight: number;
}

export interface SetAnswer {
  clips: Row[];
  number: number;
  regions: RegionRef[];
  masks: string;
  repeats: number;
  configured: boolean;
  obeyed: boolean;
  suffix: string;
  part: string;
  fallback: string | null;
  findings: Finding[];
  left: string[];
  orphans: number;
}

export interface FactsAnswer {
  number: number;
  measured: number;
  total: number;
  facts: Facts[];
}

export const STATUS_WORDS: Record<MaskStatus, string> = {
  none: "no mask",
  made: "made",
  accepted: "accepted",
  unsure: "unsure",
  nothing: "nothing found",
  failed: "failed",
  hand: "by hand",
  alpha: "transparency",
};
