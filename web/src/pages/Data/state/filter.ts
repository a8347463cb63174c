/** Which clips are shown, and in what order: pure, over rows and what is known of them. */

import type { Facts, MaskStatus, Row } from "./types.ts";

export interface Filter {
  text: string;
  status: MaskStatus | "any" | "masked";
  /** "any", "none", a severity, or "kind:..." for one kind of finding. */
  finding: string;
  kept: "all" | "kept" | "rejected";
  media: "all" | "stills" | "videos";
  region: string;
  /** Shares and confidences in percent; null is no limit. */
  coverageFrom: number | null;
  coverageTo: number | null;
  confidenceFrom: number | null;
  confidenceTo: number | null;
}

export type SortBy = "name" | "time" | "bytes" | "confidence" | "coverage" | "findings" | "caption";

export const EVERYTHING: Filter = {
  text: "",
  status: "any",
  finding: "any",
  kept: "all",
  media: "all",
  region: "",
  coverageFrom: null,
  coverageTo: null,
  confidenceFrom: null,
  confidenceTo: null,
};

type Known = ReadonlyMap<string, Facts>;

/** Whether nothing is left out. */
export function isOpen(filter: Filter): boolean {
  return (Object.keys(EVERYTHING) as (keyof Filter)[]).every(
    (key) => key === "region" || filter[key] === EVERYTHING[key],
  );
}

/** Clips that a filter lets through; one of which something is not known yet is not. */
export function filterRows(rows: readonly Row[], known: Known, filter: Filter): Row[] {
  if (isOpen(filter)) return [...rows];
  const words = filter.text.toLocaleLowerCase().split(/\s+/).filter(Boolean);
  return rows.filter(
    (row) =>
      fitsRow(row, filter) &&
      fitsWords(row, known.get(row.id), words) &&
      fitsFacts(known.get(row.id), filter),
  );
}

function fitsRow(row: Row, filter: Filter): boolean {
  if (filter.kept !== "all" && row.rejected !== (filter.kept === "rejected")) return false;
  return filter.media === "all" || row.video === (filter.media === "videos");
}

function fitsWords(row: Row, facts: Facts | undefined, words: string[]): boolean {
  if (!words.length) return true;
  const text = `${row.name}\n${facts?.caption ?? ""}`.toLocaleLowerCase();
  // A word that begins with a minus must not be there.
  return words.every((word) =>
    word.length > 1 && word.startsWith("-") ? !text.includes(word.slice(1)) : text.includes(word),
  );
}

function fitsFacts(facts: Facts | undefined, filter: Filter): boolean {
  if (filter.status === "masked") {
    if (!facts || facts.status === "none") return false;
  } else if (filter.status !== "any" && facts?.status !== filter.status) return false;
  return (
    fitsFinding(facts, filter.finding) &&
    within(facts?.confidence ?? null, filter.confidenceFrom, filter.confidenceTo) &&
    within(shareOf(facts, filter.region), filter.coverageFrom, filter.coverageTo)
  );
}

function fitsFinding(facts: Facts | undefined, wanted: string): boolean {
  if (wanted === "any") return true;
  if (!facts) return false;
  if (wanted === "none") return facts.findings.length === 0;
  if (wanted.startsWith("kind:")) {
    return facts.findings.some((finding) => finding.kind === wanted.slice(5));
  }
  return facts.findings.some((finding) => finding.severity === wanted);
}

function within(value: number | null, from: number | null, to: number | null): boolean {
  if (from === null && to === null) return true;
  if (value === null) return false;
  // Numbers are typed as percent: half of the last shown digit is given.
  const percent = value * 100;
  return (from === null || percent >= from - 0.05) && (to === null || percent <= to + 0.05);
}

/** The share of a region, or of all regions together for "". */
export function shareOf(facts: Facts | undefined, region: string): number | null {
  if (!facts?.coverage) return null;
  if (region) return facts.coverage[region] ?? 0;
  return Object.values(facts.coverage).reduce((sum, share) => sum + share, 0);
}

const WEIGHTS = { error: 10_000, warning: 100, note: 1 };

function gravity(facts: Facts | undefined): number {
  return facts?.findings.reduce((sum, each) => sum + WEIGHTS[each.severity], 0) ?? -1;
}

/** In order; clips of which the value is not known come last, either way. */
export function sortRows(
  rows: Row[],
  known: Known,
  by: SortBy,
  down: boolean,
  region: string,
): Row[] {
  if (by === "name") return down ? rows.reverse() : rows; // the trainer's own order
  const value = (row: Row): number | null => {
    const facts = known.get(row.id);
    switch (by) {
      case "time":
        return row.mtime;
      case "bytes":
        return row.bytes;
      case "confidence":
        return facts?.confidence ?? null;
      case "coverage":
        return shareOf(facts, region);
      case "findings":
        return facts ? gravity(facts) : null;
      case "caption":
        return facts ? facts.caption.trim().length : null;
    }
  };
  const sign = down ? -1 : 1;
  const keyed = rows.map((row, at) => ({ row, at, key: value(row) }));
  keyed.sort((a, b) => {
    if (a.key === null || b.key === null) return Number(a.key === null) - Number(b.key === null);
    return sign * (a.key - b.key) || a.at - b.at;
  });
  return keyed.map((each) => each.row);
}

/** How often each kind of finding and each status is there, for the menus. */
export function countFacts(rows: readonly Row[], known: Known) {
  const kinds = new Map<string, number>();
  const statuses = new Map<MaskStatus, number>();
  const severities = new Map<string, number>();
  for (const row of rows) {
    const facts = known.get(row.id);
    if (!facts) continue;
    statuses.set(facts.status, (statuses.get(facts.status) ?? 0) + 1);
    for (const kind of new Set(facts.findings.map((each) => each.kind))) {
      kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
    }
    for (const severity of new Set(facts.findings.map((each) => each.severity))) {
      severities.set(severity, (severities.get(severity) ?? 0) + 1);
    }
  }
  return { kinds, statuses, severities };
}
