/** Seeds as they are typed: `1, 2, 5-8`. */

const MOST = 64;

/** The numbers, each once, in order; an Error says what is none. */
export function readSeeds(text: string): number[] {
  const seeds = new Set<number>();
  for (const part of text.split(/[\s,;]+/).filter(Boolean)) {
    const match = /^(\d{1,15})(?:-(\d{1,15}))?$/.exec(part);
    if (!match) throw new Error(`${part} is no seed: write whole numbers, as in 1, 2, 5-8`);
    const first = Number(match[1]);
    const last = Number(match[2] ?? match[1]);
    if (last < first || last - first >= MOST) {
      throw new Error(`${part} is no range of at most ${MOST} seeds`);
    }
    for (let seed = first; seed <= last; seed++) seeds.add(seed);
  }
  if (!seeds.size) throw new Error("give at least one seed");
  if (seeds.size > MOST) throw new Error(`${seeds.size} seeds: at most ${MOST} at once`);
  return [...seeds];
}
