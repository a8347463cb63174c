// Two masks that grew from one: what differs, and both changes in one.

export interface Differences {
  mine: number; // pixels that only this window changed
  theirs: number; // pixels that only the other changed
  both: number; // pixels that both changed, and not to the same
  ids: Uint8Array; // 0 alike, 1 mine, 2 theirs, 3 both: to be looked at
}

export function compareMasks(base: Uint8Array, mine: Uint8Array, theirs: Uint8Array): Differences {
  const ids = new Uint8Array(mine.length);
  const counts = [0, 0, 0, 0];
  for (let at = 0; at < mine.length; at++) {
    if (mine[at] === theirs[at]) continue;
    const kind = theirs[at] === base[at] ? 1 : mine[at] === base[at] ? 2 : 3;
    ids[at] = kind;
    counts[kind]!++;
  }
  return { mine: counts[1]!, theirs: counts[2]!, both: counts[3]!, ids };
}

/** Theirs where this window changed nothing, mine where it did. */
export function mergeMasks(base: Uint8Array, mine: Uint8Array, theirs: Uint8Array): Uint8Array {
  const merged = theirs.slice();
  for (let at = 0; at < mine.length; at++) if (mine[at] !== base[at]) merged[at] = mine[at]!;
  return merged;
}
