// Where the picture lies on the canvas. All lengths are device pixels, so that one image pixel at
// scale 1 is one pixel of the screen whatever the browser's own zoom.

export interface View {
  scale: number; // device pixels an image pixel
  x: number; // device pixels from the canvas' left edge to the picture's
  y: number;
}

export interface Size {
  width: number;
  height: number;
}

export interface Rect {
  left: number;
  top: number;
  right: number; // exclusive
  bottom: number; // exclusive
}

export const MOST = 64; // device pixels an image pixel
const LEAST = 0.01;
const KEPT = 48; // device pixels of the picture that stay in sight however far it is panned

export function fitView(image: Size, canvas: Size, margin = 24): View {
  const room = { width: canvas.width - 2 * margin, height: canvas.height - 2 * margin };
  const scale = Math.max(Math.min(room.width / image.width, room.height / image.height, 8), LEAST);
  return centreView(image, canvas, scale);
}

export function centreView(image: Size, canvas: Size, scale: number): View {
  return {
    scale,
    x: Math.round((canvas.width - image.width * scale) / 2),
    y: Math.round((canvas.height - image.height * scale) / 2),
  };
}

/** The view after zooming by a factor about a point of the canvas, which stays where it is. */
export function zoomAt(view: View, x: number, y: number, factor: number): View {
  const scale = Math.min(Math.max(view.scale * factor, LEAST), MOST);
  const ratio = scale / view.scale;
  return { scale, x: x - (x - view.x) * ratio, y: y - (y - view.y) * ratio };
}

/** The view with at least a strip of the picture in sight. */
export function holdView(view: View, image: Size, canvas: Size): View {
  const width = image.width * view.scale;
  const height = image.height * view.scale;
  const keptX = Math.min(KEPT, width);
  const keptY = Math.min(KEPT, height);
  return {
    scale: view.scale,
    x: Math.min(Math.max(view.x, keptX - width), canvas.width - keptX),
    y: Math.min(Math.max(view.y, keptY - height), canvas.height - keptY),
  };
}

export function toImage(view: View, x: number, y: number): [number, number] {
  return [(x - view.x) / view.scale, (y - view.y) / view.scale];
}

export function toCanvas(view: View, x: number, y: number): [number, number] {
  return [x * view.scale + view.x, y * view.scale + view.y];
}

/** The canvas pixels that a rectangle of image pixels touches, clipped to the canvas. */
export function coverRect(view: View, image: Rect, canvas: Size, more = 0): Rect {
  const [left, top] = toCanvas(view, image.left, image.top);
  const [right, bottom] = toCanvas(view, image.right, image.bottom);
  return clipRect(
    {
      left: Math.floor(left) - more,
      top: Math.floor(top) - more,
      right: Math.ceil(right) + more,
      bottom: Math.ceil(bottom) + more,
    },
    canvas,
  );
}

export function clipRect(rect: Rect, canvas: Size): Rect {
  const left = Math.min(Math.max(rect.left, 0), canvas.width);
  const top = Math.min(Math.max(rect.top, 0), canvas.height);
  return {
    left,
    top,
    right: Math.max(Math.min(rect.right, canvas.width), left),
    bottom: Math.max(Math.min(rect.bottom, canvas.height), top),
  };
}

export function joinRects(first: Rect | null, second: Rect): Rect {
  if (first === null) return second;
  return {
    left: Math.min(first.left, second.left),
    top: Math.min(first.top, second.top),
    right: Math.max(first.right, second.right),
    bottom: Math.max(first.bottom, second.bottom),
  };
}
