// Where frames lie on the time line, and what its lanes show. Drawn on one canvas, in CSS pixels.

export interface Timeline {
  frames: number;
  fps: number;
  painted: number[];
  tracked: Record<string, number>;
  blended: number[];
  waiting: number[]; // not in the mask's file yet
  confidence: number[]; // of each frame, as the mask was made
  worst: number | null;
  shares: Record<string, number[]> | null;
  waiting_shares: Record<string, Record<string, number>>;
  still: boolean;
  masked: boolean;
  tracking: Tracking | null;
  trackers: string[];
  undo: boolean;
}

export interface Tracking {
  first: number;
  last: number;
  direction: string;
  running: boolean;
  done: number;
  total: number;
  fault: string;
}

export interface Strip {
  picture: ImageBitmap;
  frames: number[];
  wanted: number[];
  width: number;
  height: number;
  row: number;
}

/** The stretch of frames in sight: `first` at the left edge, `across` frames over the width. */
export interface Span {
  first: number;
  across: number;
}

export interface Range {
  first: number;
  last: number;
}

export const HEIGHTS = { film: 44, keys: 16, sure: 20, cover: 22 };
const FULL = HEIGHTS.film + HEIGHTS.keys + HEIGHTS.sure + HEIGHTS.cover;

/** The left edge of a frame. */
export function toX(frame: number, span: Span, width: number): number {
  return ((frame - span.first) / span.across) * width;
}

export function toFrame(x: number, span: Span, width: number, frames: number): number {
  return Math.min(Math.max(Math.floor(span.first + (x / width) * span.across), 0), frames - 1);
}

/** The span after zooming by a factor about a place, within the clip. */
export function zoomSpan(
  span: Span,
  x: number,
  width: number,
  factor: number,
  frames: number,
): Span {
  const across = Math.min(Math.max(span.across / factor, Math.min(12, frames)), frames);
  const at = span.first + (x / width) * span.across;
  return holdSpan({ first: at - (x / width) * across, across }, frames);
}

export function holdSpan(span: Span, frames: number): Span {
  return { first: Math.min(Math.max(span.first, 0), frames - span.across), across: span.across };
}

/** The nearest keyframe before or after a frame; undefined where there is none. */
export function findKey(painted: number[], frame: number, way: -1 | 1): number | undefined {
  return way < 0 ? painted.findLast((each) => each < frame) : painted.find((each) => each > frame);
}

/** How sure each frame is: what was carried, else what the mask's maker said; painted ones are. */
export function sureOf(timeline: Timeline, frame: number): number | undefined {
  const tracked = timeline.tracked[frame];
  if (tracked !== undefined) return tracked;
  if (timeline.painted.includes(frame)) return 1;
  return timeline.confidence[frame];
}

/** What a frame covers by region, the draft of it before what the file has. */
export function coverOf(timeline: Timeline, frame: number): Record<string, number> | undefined {
  const draft = timeline.waiting_shares[frame];
  if (draft) return draft;
  if (!timeline.shares) return undefined;
  return Object.fromEntries(
    Object.entries(timeline.shares).map(([id, row]) => [id, row[frame] ?? 0]),
  );
}

/** Frames that the trainer takes, of any window. */
export function joinPicks(windows: number[][]): Set<number> {
  return new Set(windows.flat());
}

export interface Colours {
  bg: string;
  panel: string;
  line: string;
  text: string;
  dim: string;
  accent: string;
  ok: string;
  warn: string;
  danger: string;
  info: string;
}

export interface Drawn {
  timeline: Timeline;
  strip: Strip | null;
  picks: Set<number> | null;
  regions: { id: number; colour: string }[];
  span: Span;
  frame: number;
  range: Range | null;
  colours: Colours;
}

export const height = FULL;

export function drawLanes(context: CanvasRenderingContext2D, width: number, drawn: Drawn): void {
  const { colours, span } = drawn;
  context.fillStyle = colours.bg;
  context.fillRect(0, 0, width, FULL);
  drawFilm(context, width, drawn);
  const top = {
    keys: HEIGHTS.film,
    sure: HEIGHTS.film + HEIGHTS.keys,
    cover: HEIGHTS.film + HEIGHTS.keys + HEIGHTS.sure,
  };
  drawPicks(context, width, drawn, top.keys);
  drawSure(context, width, drawn, top.sure);
  drawCover(context, width, drawn, top.cover);
  drawKeys(context, width, drawn, top.keys);
  if (drawn.range) {
    const left = toX(drawn.range.first, span, width);
    const right = toX(drawn.range.last + 1, span, width);
    context.strokeStyle = colours.accent;
    context.lineWidth = 1.5;
    context.strokeRect(left + 0.75, 0.75, Math.max(right - left - 1.5, 2), FULL - 1.5);
    context.globalAlpha = 0.12;
    context.fillStyle = colours.accent;
    context.fillRect(left, 0, right - left, FULL);
    context.globalAlpha = 1;
  }
  drawHead(context, width, drawn);
}

function drawFilm(
  context: CanvasRenderingContext2D,
  width: number,
  { strip, span, timeline }: Drawn,
): void {
  if (!strip) return;
  const { film } = HEIGHTS;
  const tile = (strip.width / strip.height) * film;
  const count = Math.max(Math.ceil(width / tile), 1);
  for (let place = 0; place < count; place++) {
    const frame = toFrame((place + 0.5) * tile, span, width, timeline.frames);
    const at = nearest(strip.wanted, frame);
    const column = at % strip.row;
    const row = Math.floor(at / strip.row);
    const { width: wide, height: high } = strip;
    context.drawImage(
      strip.picture,
      column * wide,
      row * high,
      wide,
      high,
      place * tile,
      0,
      tile,
      film,
    );
  }
}

function nearest(sorted: number[], value: number): number {
  let best = 0;
  for (let at = 1; at < sorted.length; at++)
    if (Math.abs(sorted[at]! - value) < Math.abs(sorted[best]! - value)) best = at;
  return best;
}

function eachFrame(
  width: number,
  drawn: Drawn,
  use: (frame: number, left: number, wide: number) => void,
): void {
  const { span, timeline } = drawn;
  const step = Math.max(Math.floor(span.across / width), 1); // no more than one a pixel
  const last = Math.min(Math.ceil(span.first + span.across), timeline.frames);
  const wide = Math.max((width / span.across) * step, 1);
  for (let frame = Math.max(Math.floor(span.first), 0); frame < last; frame += step)
    use(frame, toX(frame, span, width), wide);
}

/** Shaded where the trainer does not look: a mask there is read by nobody. */
function drawPicks(
  context: CanvasRenderingContext2D,
  width: number,
  drawn: Drawn,
  top: number,
): void {
  if (!drawn.picks?.size) return;
  context.fillStyle = drawn.colours.line;
  eachFrame(width, drawn, (frame, left, wide) => {
    if (!drawn.picks!.has(frame)) context.fillRect(left, top, wide + 0.5, HEIGHTS.keys);
  });
}

function drawKeys(
  context: CanvasRenderingContext2D,
  width: number,
  drawn: Drawn,
  top: number,
): void {
  const { timeline, colours, span } = drawn;
  const middle = top + HEIGHTS.keys / 2;
  const half = width / span.across / 2;
  const waiting = new Set(timeline.waiting);
  for (const frame of timeline.blended) {
    const x = toX(frame, span, width) + half;
    context.fillStyle = colours.info;
    context.fillRect(x - 1, middle - 3, 2, 6);
  }
  for (const frame of timeline.painted) {
    const x = toX(frame, span, width) + half;
    if (x < -8 || x > width + 8) continue;
    context.beginPath();
    context.moveTo(x, middle - 6);
    context.lineTo(x + 6, middle);
    context.lineTo(x, middle + 6);
    context.lineTo(x - 6, middle);
    context.closePath();
    context.fillStyle = colours.accent;
    context.strokeStyle = colours.accent;
    context.lineWidth = 1.5;
    if (waiting.has(frame)) {
      context.fillStyle = colours.bg; // hollow: not in the file yet
    }
    context.fill();
    context.stroke();
  }
}

function drawSure(
  context: CanvasRenderingContext2D,
  width: number,
  drawn: Drawn,
  top: number,
): void {
  const { colours, timeline } = drawn;
  const high = HEIGHTS.sure - 3;
  context.fillStyle = colours.panel;
  context.fillRect(0, top, width, HEIGHTS.sure);
  eachFrame(width, drawn, (frame, left, wide) => {
    const sure = sureOf(timeline, frame);
    if (sure === undefined) return;
    context.fillStyle = sure < 0.5 ? colours.danger : sure < 0.75 ? colours.warn : colours.ok;
    const bar = Math.max(sure * high, 2);
    context.fillRect(left, top + 2 + high - bar, Math.max(wide - (wide > 3 ? 1 : 0), 1), bar);
  });
}

function drawCover(
  context: CanvasRenderingContext2D,
  width: number,
  drawn: Drawn,
  top: number,
): void {
  const { colours, timeline, regions } = drawn;
  const rows = regions.filter((region) => region.id);
  if (!rows.length) return;
  const high = HEIGHTS.cover / rows.length;
  const most = new Map(rows.map((region) => [region.id, findMost(timeline, region.id)]));
  eachFrame(width, drawn, (frame, left, wide) => {
    const cover = coverOf(timeline, frame);
    if (!cover) return;
    rows.forEach((region, place) => {
      const share = cover[region.id] ?? 0;
      const bottom = top + (place + 1) * high;
      if (!share) {
        // An empty frame teaches nothing: a mark of its own, not only a missing bar.
        context.fillStyle = colours.danger;
        context.fillRect(left, bottom - 1.5, Math.max(wide, 1), 1);
        return;
      }
      context.fillStyle = region.colour;
      const bar = Math.max((share / most.get(region.id)!) * (high - 1), 1);
      context.fillRect(left, bottom - bar, Math.max(wide, 1), bar);
    });
  });
}

function findMost(timeline: Timeline, id: number): number {
  const rows = timeline.shares?.[id] ?? [];
  const drafts = Object.values(timeline.waiting_shares).map((shares) => shares[id] ?? 0);
  let most = 1e-6;
  for (const share of rows) most = Math.max(most, share);
  for (const share of drafts) most = Math.max(most, share);
  return most;
}

function drawHead(context: CanvasRenderingContext2D, width: number, drawn: Drawn): void {
  const { span, frame, colours } = drawn;
  const left = toX(frame, span, width);
  const wide = Math.max(width / span.across, 2);
  context.strokeStyle = colours.text;
  context.lineWidth = 1.5;
  if (wide > 6) context.strokeRect(left + 0.75, 0.75, wide - 1.5, FULL - 1.5);
  else {
    context.fillStyle = colours.text;
    context.fillRect(left + wide / 2 - 1, 0, 2, FULL);
  }
}
