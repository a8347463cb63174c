// What the tools are set to, remembered by this browser: nobody sets a brush twice.
export const TOOLS = [
  "brush",
  "eraser",
  "edge",
  "lasso",
  "polygon",
  "fill",
  "segment",
  "pick",
  "pan",
] as const;
export type ToolName = (typeof TOOLS)[number];

/** What a stroke may change: everything, only background, or only the region it begins in. */
export type Over = "all" | "background" | "start";

const KEY = "frisket-editor";

/** Everything remembered, with what it is at first. */
const FIRST = {
  tool: "brush" as ToolName,
  brushSize: 40, // diameter, image pixels
  eraserSize: 40,
  edgeSize: 60,
  hardness: 1,
  opacity: 1,
  pressure: true,
  soft: true, // where masks are soft: paint with hardness and opacity
  over: "all" as Over,
  fillBy: "mask" as "mask" | "colour",
  tolerance: 24,
  contiguous: true,
  segmentMode: "add" as "add" | "subtract" | "replace",
  maskOpacity: 0.5,
  hatching: false,
  outlines: true,
  fillShown: true,
  wheelSizes: false, // the wheel sizes the brush, Ctrl+wheel zooms
};
export type Remembered = typeof FIRST;

function recall(): Remembered {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) ?? "{}") as Record<string, unknown>;
    const known = Object.entries(FIRST).filter(
      ([name, value]) => typeof kept[name] === typeof value,
    );
    const settings = { ...FIRST, ...Object.fromEntries(known.map(([name]) => [name, kept[name]])) };
    return TOOLS.includes(settings.tool) ? settings : { ...settings, tool: FIRST.tool };
  } catch {
    return { ...FIRST };
  }
}

export const settings: Remembered = $state(recall());

let waiting: ReturnType<typeof setTimeout> | undefined;

/** Note the settings, a moment after the last change. */
export function remember(): void {
  clearTimeout(waiting);
  waiting = setTimeout(() => localStorage.setItem(KEY, JSON.stringify(settings)), 200);
}

export const LARGEST = 2000;

type SizeKey = "brushSize" | "eraserSize" | "edgeSize";

export function sizeKey(tool: ToolName): SizeKey {
  return tool === "eraser" ? "eraserSize" : tool === "edge" ? "edgeSize" : "brushSize";
}

export function sizeOf(tool: ToolName): number {
  return settings[sizeKey(tool)];
}

export function setSize(tool: ToolName, size: number): void {
  settings[sizeKey(tool)] = Math.min(Math.max(Math.round(size * 10) / 10, 1), LARGEST);
}

/** One step larger or smaller: single pixels while small, a tenth after that. */
export function stepSize(tool: ToolName, up: boolean): void {
  const size = sizeOf(tool);
  const step = Math.max(1, Math.round(size / 10));
  setSize(tool, Math.round(up ? size + step : size - step));
}

/** Tools whose reach is a disc about the pointer. */
export function hasRing(tool: ToolName): boolean {
  return tool === "brush" || tool === "eraser" || tool === "edge";
}

export function cursorOf(tool: ToolName): string {
  if (tool === "pan") return "grab";
  if (tool === "pick") return "copy";
  return hasRing(tool) ? "none" : "crosshair";
}
