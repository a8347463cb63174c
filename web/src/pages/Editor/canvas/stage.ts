// The layers of the canvas and the one loop that draws them: picture, mask, overlay. Each layer is as
// large as what is seen of it, and only what changed is drawn again, once a frame.
import { PictureLayer } from "./picture.ts";
import {
  paintIds,
  paintProposal,
  paintSoft,
  type IdMap,
  type MaskColours,
  type SoftLayer,
} from "./sampler.ts";
import {
  clipRect,
  coverRect,
  fitView,
  holdView,
  joinRects,
  type Rect,
  type Size,
  type View,
} from "./view.ts";

export interface StageElements {
  picture: HTMLCanvasElement;
  mask: HTMLCanvasElement;
  overlay: HTMLCanvasElement;
}

export interface StageHooks {
  /** Take what the pointer brought since the last frame to the document. */
  drain(): void;
  /** Image rectangles that changed since the last frame. */
  takeDirty(): Rect[];
  /** The view moved: handles and rings must follow. */
  viewed(view: View): void;
}

export interface SoftLook {
  layers: SoftLayer[];
  opacity: number;
}

export interface Proposal {
  ids: Uint8Array;
  film: Uint32Array;
}

const GRID_FROM = 12; // device pixels an image pixel from which the grid is drawn
const MARCH = 120; // milliseconds between two steps of an outline

export class Stage {
  view: View = { scale: 1, x: 0, y: 0 };
  size: Size = { width: 1, height: 1 };
  ratio = 1;
  private image: Size = { width: 1, height: 1 };
  private map: IdMap | null = null;
  private preview: Uint8Array | null = null;
  private soft: SoftLook | null = null;
  private colours: MaskColours | null = null;
  private proposal: Proposal | null = null;
  private pictureLayer: PictureLayer | null = null;
  private pictureStale = true;
  private maskStale: Rect | null = null;
  private overlayStale = true;
  private asked = 0;
  private phase = 0;
  private marching: ReturnType<typeof setInterval> | undefined;
  private buffer = new ArrayBuffer(4);
  private readonly contexts: Record<keyof StageElements, CanvasRenderingContext2D>;
  /** Whether each frame with a stroke in it leaves a measure (see benchmarks/studio/brush.py). */
  private readonly measured = localStorage.getItem("frisket-measure") === "1";

  constructor(
    private readonly elements: StageElements,
    private readonly hooks: StageHooks,
  ) {
    this.contexts = {
      picture: elements.picture.getContext("2d", { alpha: true })!,
      mask: elements.mask.getContext("2d")!,
      overlay: elements.overlay.getContext("2d")!,
    };
  }

  /** Fit the layers to the element they lie in; the picture stays where it was looked at. */
  resize(size: Size, ratio: number): void {
    if (size.width < 1 || size.height < 1) return;
    const before = this.size;
    this.size = size;
    this.ratio = ratio;
    for (const canvas of Object.values(this.elements) as HTMLCanvasElement[]) {
      canvas.width = size.width;
      canvas.height = size.height;
    }
    this.buffer = new ArrayBuffer(size.width * size.height * 4);
    const view = this.view;
    if (before.width > 1)
      this.setView({
        ...view,
        x: view.x + (size.width - before.width) / 2,
        y: view.y + (size.height - before.height) / 2,
      });
    else this.fit();
  }

  setImage(size: Size): void {
    // The next frame of a video is looked at where the last one was.
    const same = this.image.width === size.width && this.image.height === size.height;
    this.image = size;
    if (same) return;
    this.fit();
  }

  setPicture(layer: PictureLayer | null): void {
    if (this.pictureLayer !== layer) this.pictureLayer?.close();
    this.pictureLayer = layer;
    this.drawPicture();
  }

  setMap(map: IdMap | null): void {
    this.map = map;
    this.preview = null;
    this.drawMask();
  }

  /** Ids shown in place of the document's, as a slider would leave them; null shows the document. */
  setPreview(ids: Uint8Array | null): void {
    if (this.preview === ids) return;
    this.preview = ids;
    this.drawMask();
  }

  setSoft(soft: SoftLook | null): void {
    if (isSameLook(this.soft, soft)) return; // what changes within planes comes as dirty tiles
    this.soft = soft;
    this.drawMask();
  }

  setColours(colours: MaskColours): void {
    this.colours = colours;
    this.drawMask();
  }

  setProposal(proposal: Proposal | null, still: boolean): void {
    this.proposal = proposal;
    clearInterval(this.marching);
    if (proposal && !still)
      this.marching = setInterval(() => {
        this.phase += 2;
        this.drawOverlay();
      }, MARCH);
    this.drawOverlay();
  }

  fit(): void {
    this.setView(fitView(this.image, this.size, 16 * this.ratio));
  }

  setView(view: View): void {
    this.view = holdView(view, this.image, this.size);
    this.drawPicture();
    this.drawMask();
    this.drawOverlay();
    this.hooks.viewed(this.view);
  }

  drawPicture(): void {
    this.pictureStale = true;
    this.ask();
  }

  drawMask(rect: Rect | null = null): void {
    const whole = { left: 0, top: 0, right: this.size.width, bottom: this.size.height };
    this.maskStale = joinRects(this.maskStale, rect ?? whole);
    this.ask();
  }

  drawOverlay(): void {
    this.overlayStale = true;
    this.ask();
  }

  /** Have a frame drawn, whatever changed. */
  ask(): void {
    this.asked ||= requestAnimationFrame(() => this.drawFrame());
  }

  close(): void {
    cancelAnimationFrame(this.asked);
    clearInterval(this.marching);
    this.asked = -1; // nothing more is asked for
    this.pictureLayer?.close();
  }

  private drawFrame(): void {
    const start = performance.now();
    this.asked = 0;
    this.hooks.drain();
    const dirty = this.hooks.takeDirty();
    const more = this.colours?.thickness ?? 0;
    for (const rect of dirty)
      this.maskStale = joinRects(this.maskStale, coverRect(this.view, rect, this.size, more));
    if (this.pictureStale) this.paintPicture();
    if (this.maskStale) this.paintMask(clipRect(this.maskStale, this.size));
    this.maskStale = null;
    if (this.overlayStale) this.paintOverlay();
    this.overlayStale = false;
    if (this.measured && dirty.length)
      performance.measure("brush frame", { start, end: performance.now() });
  }

  private paintPicture(): void {
    this.pictureStale = false;
    const { picture } = this.contexts;
    if (this.pictureLayer) this.pictureLayer.draw(picture, this.view, this.size, this.ratio);
    else picture.clearRect(0, 0, this.size.width, this.size.height);
    if (this.view.scale >= GRID_FROM * this.ratio) this.paintGrid(picture);
  }

  private paintGrid(context: CanvasRenderingContext2D): void {
    const { view, image, size } = this;
    context.beginPath();
    const top = Math.max(view.y, 0);
    const bottom = Math.min(view.y + image.height * view.scale, size.height);
    const left = Math.max(view.x, 0);
    const right = Math.min(view.x + image.width * view.scale, size.width);
    for (
      let column = Math.max(Math.ceil(-view.x / view.scale), 0);
      column <= image.width;
      column++
    ) {
      const x = Math.round(view.x + column * view.scale) + 0.5;
      if (x > right + 1) break;
      context.moveTo(x, top);
      context.lineTo(x, bottom);
    }
    for (let row = Math.max(Math.ceil(-view.y / view.scale), 0); row <= image.height; row++) {
      const y = Math.round(view.y + row * view.scale) + 0.5;
      if (y > bottom + 1) break;
      context.moveTo(left, y);
      context.lineTo(right, y);
    }
    context.strokeStyle = "rgb(128 128 128 / 45%)";
    context.lineWidth = 1;
    context.stroke();
  }

  private paintMask(rect: Rect): void {
    const { mask } = this.contexts;
    const width = rect.right - rect.left;
    const height = rect.bottom - rect.top;
    if (width < 1 || height < 1) return;
    if (!this.map || !this.colours) return mask.clearRect(rect.left, rect.top, width, height);
    const pixels = new Uint32Array(this.buffer, 0, width * height);
    const map = this.preview ? { ...this.map, ids: this.preview } : this.map;
    paintIds(pixels, rect, this.view, map, this.colours);
    if (this.soft) paintSoft(pixels, rect, this.view, map, this.soft.layers, this.soft.opacity);
    mask.putImageData(this.takeImage(width, height), rect.left, rect.top);
  }

  private paintOverlay(): void {
    const { overlay } = this.contexts;
    const { width, height } = this.size;
    if (!this.proposal || !this.map) return overlay.clearRect(0, 0, width, height);
    const map = { ...this.map, ids: this.proposal.ids };
    const pixels = new Uint32Array(this.buffer, 0, width * height);
    const rect = { left: 0, top: 0, right: width, bottom: height };
    const thickness = Math.max(1, Math.round(this.ratio));
    paintProposal(pixels, rect, this.view, map, this.proposal.film, thickness, this.phase);
    overlay.putImageData(this.takeImage(width, height), 0, 0);
  }

  /** The buffer's pixels as a picture, without a copy. */
  private takeImage(width: number, height: number): ImageData {
    return new ImageData(new Uint8ClampedArray(this.buffer, 0, width * height * 4), width, height);
  }
}

function isSameLook(first: SoftLook | null, second: SoftLook | null): boolean {
  if (!first || !second) return first === second;
  return (
    first.opacity === second.opacity &&
    first.layers.length === second.layers.length &&
    first.layers.every((layer, index) => {
      const other = second.layers[index]!;
      return layer.plane === other.plane && layer.colour === other.colour;
    })
  );
}
