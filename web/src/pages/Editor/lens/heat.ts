/** Weights as colours: dark violet, red, amber, pale yellow; brightness rises all the way. */

const STOPS: [number, number, number][] = [
  [13, 8, 33],
  [86, 22, 96],
  [187, 55, 84],
  [249, 142, 9],
  [252, 253, 191],
];
const LOG_FLOOR = 0.001; // share of the largest weight that the logarithm still tells from 0

export function heat(share: number): [number, number, number] {
  const at = Math.min(Math.max(share, 0), 1) * (STOPS.length - 1);
  const low = Math.min(Math.floor(at), STOPS.length - 2);
  const [from, to] = [STOPS[low]!, STOPS[low + 1]!];
  const part = at - low;
  return [0, 1, 2].map((i) => Math.round(from[i]! + (to[i]! - from[i]!) * part)) as [
    number,
    number,
    number,
  ];
}

/** Where a weight stands between nothing and the largest, 0 to 1. */
export function scaleWeight(weight: number, largest: number, log: boolean): number {
  if (!(largest > 0) || !(weight > 0)) return 0;
  const share = weight / largest;
  if (!log) return share;
  return Math.max(1 - Math.log(share) / Math.log(LOG_FLOOR), 0);
}
