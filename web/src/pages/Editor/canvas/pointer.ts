// What fingers, pen and mouse mean on the canvas. Handlers only note what came, nothing waits in
// them; the canvas asks for the points once a frame.
import { zoomAt, type View } from "./view.ts";

export interface StrokePoint {
  x: number; // canvas pixels
  y: number;
  pressure: number; // 0 to 1; 1 where the device knows none
}

export type Gesture = "draw" | "erase" | "pan" | "size";

export interface PointerHooks {
  /** Canvas pixels a CSS pixel. */
  ratio(): number;
  view(): View;
  setView(view: View): void;
  /** Whether a press now means panning: the hand tool, or Space held. */
  pans(): boolean;
  /** A press with the tool in hand; false where the tool takes no stroke. */
  press(point: StrokePoint, gesture: "draw" | "erase", event: PointerEvent): boolean;
  move(points: StrokePoint[]): void;
  release(point: StrokePoint): void;
  /** The stroke was no stroke: a second finger came down. */
  cancel(): void;
  hover(point: StrokePoint | null): void;
  pick(point: StrokePoint): void;
  size(change: number): void; // canvas pixels the pointer went to the right
  /** The wheel sizes the brush, and zooms with Ctrl. */
  wheelSizes(): boolean;
  stepSize(up: boolean): void;
  undo(): void;
}

const STILL = 5; // CSS pixels a click may move
const TAP = 300; // milliseconds of a two-finger tap

interface Finger {
  x: number;
  y: number;
}

export class PointerReader {
  private readonly fingers = new Map<number, Finger>();
  private gesture: Gesture | null = null;
  private active = -1;
  private start: StrokePoint = { x: 0, y: 0, pressure: 1 };
  private last: Finger = { x: 0, y: 0 };
  private waiting: PointerEvent | null = null; // Alt pressed: a click picks, a drag erases
  private pinched: { at: number; moved: boolean } | null = null;
  private penCame = false;

  constructor(
    private readonly element: HTMLElement,
    private readonly hooks: PointerHooks,
  ) {}

  /** Listen; the answer ends it. */
  listen(): () => void {
    const { element } = this;
    const on = (type: string, handler: (event: PointerEvent) => void) => {
      const listener = handler.bind(this) as EventListener;
      element.addEventListener(type, listener);
      return () => element.removeEventListener(type, listener);
    };
    const block = (event: Event) => event.preventDefault();
    element.addEventListener("contextmenu", block);
    const wheel = (event: WheelEvent) => this.turnWheel(event);
    element.addEventListener("wheel", wheel, { passive: false });
    const ends = [
      on("pointerdown", this.down),
      on("pointermove", this.move),
      on("pointerup", this.up),
      on("pointercancel", this.up),
      on("pointerleave", this.leave),
      () => element.removeEventListener("contextmenu", block),
      () => element.removeEventListener("wheel", wheel),
    ];
    return () => ends.forEach((end) => end());
  }

  get drawing(): boolean {
    return this.gesture === "draw" || this.gesture === "erase";
  }

  private locate(event: {
    clientX: number;
    clientY: number;
    pressure?: number;
    pointerType?: string;
  }): StrokePoint {
    const box = this.element.getBoundingClientRect();
    const ratio = this.hooks.ratio();
    // A mouse says 0.5 while pressed, which is no pressure.
    const pressure = event.pointerType === "pen" ? (event.pressure ?? 1) : 1;
    return {
      x: (event.clientX - box.left) * ratio,
      y: (event.clientY - box.top) * ratio,
      pressure,
    };
  }

  private down(event: PointerEvent): void {
    event.preventDefault(); // or the browser takes the focus and its own gestures start
    this.element.focus({ preventScroll: true });
    if (event.pointerType === "pen") this.penCame = true;
    const point = this.locate(event);
    this.capture(event);
    if (event.pointerType === "touch") {
      this.fingers.set(event.pointerId, point);
      if (this.fingers.size === 2) return this.startPinch();
      if (this.fingers.size > 2) return;
    }
    if (this.gesture !== null) return;
    this.active = event.pointerId;
    this.start = point;
    this.last = point;
    const pans =
      this.hooks.pans() || event.button === 1 || (event.pointerType === "touch" && this.penCame);
    if (pans) this.gesture = "pan";
    else if (event.altKey && event.button === 2) this.gesture = "size";
    else if (event.altKey && event.button === 0) this.waiting = event;
    else this.begin(point, event.button === 2 || event.button === 5 ? "erase" : "draw", event);
  }

  private capture(event: PointerEvent): void {
    try {
      this.element.setPointerCapture(event.pointerId);
    } catch {
      // the pointer is gone already, or was made by a script
    }
  }

  private begin(point: StrokePoint, gesture: "draw" | "erase", event: PointerEvent): void {
    if (this.hooks.press(point, gesture, event)) this.gesture = gesture;
  }

  private move(event: PointerEvent): void {
    const point = this.locate(event);
    if (this.fingers.has(event.pointerId)) {
      if (this.pinched) return this.pinch(event.pointerId, point);
      this.fingers.set(event.pointerId, point);
    }
    if (event.pointerType !== "touch") this.hooks.hover(point);
    if (event.pointerId !== this.active) return;
    if (this.waiting && this.isFar(point)) {
      const pressed = this.waiting;
      this.waiting = null;
      this.begin(this.start, "erase", pressed);
    }
    if (this.gesture === "pan") {
      const view = this.hooks.view();
      this.hooks.setView({
        ...view,
        x: view.x + point.x - this.last.x,
        y: view.y + point.y - this.last.y,
      });
    } else if (this.gesture === "size") this.hooks.size(point.x - this.last.x);
    else if (this.drawing) {
      const events = event.getCoalescedEvents?.() ?? [];
      this.hooks.move((events.length ? events : [event]).map((moment) => this.locate(moment)));
    }
    this.last = point;
  }

  private isFar(point: Finger): boolean {
    return Math.hypot(point.x - this.start.x, point.y - this.start.y) > STILL * this.hooks.ratio();
  }

  private up(event: PointerEvent): void {
    if (this.fingers.delete(event.pointerId) && this.pinched) return this.endPinch();
    if (event.pointerId !== this.active) return;
    const point = this.locate(event);
    if (this.waiting && event.type === "pointerup") this.hooks.pick(point);
    else if (this.drawing) this.hooks.release(point);
    this.gesture = null;
    this.waiting = null;
    this.active = -1;
  }

  private leave(event: PointerEvent): void {
    if (this.gesture === null && event.pointerType !== "touch") this.hooks.hover(null);
  }

  private startPinch(): void {
    if (this.drawing) this.hooks.cancel();
    this.gesture = null;
    this.waiting = null;
    this.active = -1;
    this.pinched = { at: performance.now(), moved: false };
  }

  private pinch(id: number, point: Finger): void {
    const before = this.fingers.get(id)!;
    const other = [...this.fingers].find(([finger]) => finger !== id)?.[1];
    this.fingers.set(id, point);
    if (!other) return;
    if (Math.hypot(point.x - before.x, point.y - before.y) > this.hooks.ratio())
      this.pinched!.moved = true;
    const middle = { x: (point.x + other.x) / 2, y: (point.y + other.y) / 2 };
    const was = { x: (before.x + other.x) / 2, y: (before.y + other.y) / 2 };
    const apart = Math.hypot(point.x - other.x, point.y - other.y);
    const wasApart = Math.max(Math.hypot(before.x - other.x, before.y - other.y), 1);
    const view = this.hooks.view();
    const moved = { ...view, x: view.x + middle.x - was.x, y: view.y + middle.y - was.y };
    this.hooks.setView(zoomAt(moved, middle.x, middle.y, apart / wasApart));
  }

  private endPinch(): void {
    if (this.fingers.size > 0) return;
    const { at, moved } = this.pinched!;
    this.pinched = null;
    if (!moved && performance.now() - at < TAP) this.hooks.undo();
  }

  private turnWheel(event: WheelEvent): void {
    event.preventDefault(); // also the browser's own zoom, which Ctrl+wheel (and a pinch) would be
    const lines = event.deltaMode === 1 ? 16 : 1;
    const ratio = this.hooks.ratio();
    const view = this.hooks.view();
    if (event.shiftKey && !event.ctrlKey) {
      const across = (event.deltaX || event.deltaY) * lines * ratio;
      return this.hooks.setView({ ...view, x: view.x - across });
    }
    // A trackpad's pinch says Ctrl as well, so that it zooms whatever the switch says.
    if (this.hooks.wheelSizes() && !event.ctrlKey) return this.hooks.stepSize(event.deltaY < 0);
    const point = this.locate(event);
    const strength = event.ctrlKey ? 0.01 : 0.0015; // a trackpad's pinch comes in small steps
    this.hooks.setView(zoomAt(view, point.x, point.y, Math.exp(-event.deltaY * lines * strength)));
  }
}
