// Drawn over the editor's canvas: frames on their way while one scrubs or plays, and the onion skin.
import type { View } from "../canvas/view.ts";
import { packColour, tintIds, traceOutline } from "./outline.ts";

export interface Skin {
  ids: Uint8Array;
  dashed: boolean; // of the frame after: told apart from that before without colour
}

export interface Shown {
  view: View;
  width: number; // of the clip, in its own pixels
  height: number;
  picture: ImageBitmap | null; // of the frame on its way; null shows what is below
  ids: Uint8Array | null;
  skins: Skin[];
  opacity: number; // of skins
  maskOpacity: number;
  regions: { id: number; colour: string }[];
}

export class PreviewLayer {
  private readonly canvas = document.createElement("canvas");
  private readonly scratch = document.createElement("canvas");
  private readonly watch: ResizeObserver;
  private shown: Shown | null = null;
  private asked = 0;
  private outlines = new WeakMap<Uint8Array, Uint8Array>();

  constructor(private readonly stage: HTMLElement) {
    Object.assign(this.canvas.style, {
      position: "absolute",
      inset: "0",
      width: "100%",
      height: "100%",
      pointerEvents: "none",
    });
    this.canvas.setAttribute("aria-hidden", "true");
    this.canvas.dataset.layer = "frames";
    stage.append(this.canvas);
    this.watch = new ResizeObserver(() => this.resize());
    this.watch.observe(stage);
    this.resize();
  }

  show(shown: Shown): void {
    this.shown = shown;
    if (!this.asked) this.asked = requestAnimationFrame(() => this.draw());
  }

  close(): void {
    cancelAnimationFrame(this.asked);
    this.watch.disconnect();
    this.canvas.remove();
  }

  private resize(): void {
    const { clientWidth, clientHeight } = this.stage;
    this.canvas.width = Math.round(clientWidth * devicePixelRatio);
    this.canvas.height = Math.round(clientHeight * devicePixelRatio);
    if (this.shown) this.show(this.shown);
  }

  private draw(): void {
    this.asked = 0;
    const context = this.canvas.getContext("2d");
    if (!context || !this.shown) return;
    const { view, width, height, picture, ids, skins, regions } = this.shown;
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    const place = [view.x, view.y, width * view.scale, height * view.scale] as const;
    if (picture) {
      context.imageSmoothingEnabled = view.scale < 2 * devicePixelRatio;
      context.drawImage(picture, ...place);
      context.imageSmoothingEnabled = false;
      if (ids?.length === width * height) {
        context.drawImage(
          this.paint(ids, width, height, buildTable(regions, this.shown.maskOpacity)),
          ...place,
        );
      }
    }
    context.imageSmoothingEnabled = false;
    for (const skin of skins) {
      if (skin.ids.length !== width * height) continue;
      const outline = this.trace(skin, width, height);
      context.drawImage(
        this.paint(outline, width, height, buildTable(regions, this.shown.opacity)),
        ...place,
      );
    }
  }

  private trace(skin: Skin, width: number, height: number): Uint8Array {
    let outline = this.outlines.get(skin.ids);
    if (!outline) {
      outline = traceOutline(
        skin.ids,
        width,
        height,
        Math.max(1, Math.round(Math.max(width, height) / 640)),
      );
      if (skin.dashed)
        for (let at = 0; at < outline.length; at++) {
          const [x, y] = [at % width, Math.floor(at / width)];
          if (((x + y) >> 2) & 1) outline[at] = 0;
        }
      this.outlines.set(skin.ids, outline);
    }
    return outline;
  }

  private paint(
    ids: Uint8Array,
    width: number,
    height: number,
    table: Uint32Array,
  ): HTMLCanvasElement {
    if (this.scratch.width !== width || this.scratch.height !== height) {
      this.scratch.width = width;
      this.scratch.height = height;
    }
    this.scratch.getContext("2d")!.putImageData(tintIds(ids, width, height, table), 0, 0);
    return this.scratch;
  }
}

function buildTable(regions: { id: number; colour: string }[], opacity: number): Uint32Array {
  const table = new Uint32Array(256);
  for (const region of regions)
    if (region.id) table[region.id] = packColour(region.colour, opacity);
  return table;
}
