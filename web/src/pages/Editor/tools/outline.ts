// The polygon on its way: corners set one by one, moved, taken back, closed.
export class Outline {
  points: number[] = []; // x and y in turns, image pixels
  private held = -1;

  constructor(private readonly changed: () => void) {}

  get open(): boolean {
    return this.points.length > 0;
  }

  /** A press: takes hold of a corner within `reach`, closes on the first, or sets a new corner. */
  press(x: number, y: number, reach: number): "close" | "hold" | "set" {
    const corner = this.find(x, y, reach);
    if (corner === 0 && this.points.length >= 6) return "close";
    if (corner >= 0) {
      this.held = corner;
      return "hold";
    }
    this.points.push(x, y);
    this.held = this.points.length - 2;
    this.changed();
    return "set";
  }

  move(x: number, y: number): void {
    if (this.held < 0) return;
    this.points[this.held] = x;
    this.points[this.held + 1] = y;
    this.changed();
  }

  release(): void {
    this.held = -1;
  }

  takeBack(): void {
    this.points.length = Math.max(this.points.length - 2, 0);
    this.changed();
  }

  /** The corners, and an empty outline for the next. */
  take(): number[] {
    const points = this.points;
    this.clear();
    return points;
  }

  clear(): void {
    this.points = [];
    this.held = -1;
    this.changed();
  }

  private find(x: number, y: number, reach: number): number {
    for (let index = 0; index < this.points.length; index += 2)
      if (Math.hypot(this.points[index]! - x, this.points[index + 1]! - y) <= reach) return index;
    return -1;
  }
}
