/** One colour a LoRA; numbers and hatching tell them apart without. */
export const COLOURS = [
  "#d07a00",
  "#2f7fe0",
  "#2f9e5b",
  "#a855d6",
  "#d64a3a",
  "#1f9c9c",
  "#b0567f",
  "#7c7f2a",
];

export function readColour(colour: string): [number, number, number] {
  const value = Number.parseInt(colour.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

/** Whether a pixel is drawn darker, so that each number has a pattern of its own. */
export function isHatched(number: number, x: number, y: number): boolean {
  const step = 12;
  switch (number % 4) {
    case 1:
      return (x + y) % step < 2;
    case 2:
      return (x - y + (1 << 20)) % step < 2;
    case 3:
      return y % step < 2;
    default:
      return x % step < 2;
  }
}
