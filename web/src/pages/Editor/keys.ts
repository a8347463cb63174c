// The editor's keys. Every one of them has a button too.
import type { Bindings } from "../../lib/keys.svelte.ts";
import type { EditorSession } from "./session.svelte.ts";
import { hasRing, settings, stepSize, type ToolName } from "./tools/settings.svelte.ts";

export interface KeyTargets {
  session: EditorSession;
  choose(tool: ToolName): void;
  hold(panning: boolean): void;
  undo(): void;
  redo(): void;
  save(): void;
  step(by: number): void;
  fit(): void;
  zoomTo(scale: number): void;
  zoomBy(factor: number): void;
  /** Close the outline, or accept what is proposed. */
  accept(): void;
  takeBack(): void;
  leave(): void;
  nextUnsure(): void;
  judge(verdict: "accepted" | "rejected"): void;
}

const TOOL_KEYS: [string, ToolName, string][] = [
  ["b", "brush", "Brush"],
  ["e", "eraser", "Eraser"],
  ["n", "edge", "Edge brush"],
  ["l", "lasso", "Lasso"],
  ["p", "polygon", "Polygon"],
  ["g", "fill", "Fill"],
  ["s", "segment", "Segment on a click"],
  ["i", "pick", "Take the region under the pointer (or Alt-click)"],
  ["v", "pan", "Move the view"],
];

export function describeKeys(targets: KeyTargets): Bindings {
  const { session } = targets;
  const bindings: Bindings = {};
  for (const [key, tool, says] of TOOL_KEYS)
    bindings[key] = { do: () => targets.choose(tool), says };
  for (const key of "1234567890")
    bindings[key] = {
      do: () => {
        const region = session.regions.find((each) => each.key === key);
        if (region) session.region = region.id;
      },
      says: key === "0" ? "Background" : `Region ${key}`,
    };
  const size = (up: boolean) => () => hasRing(settings.tool) && stepSize(settings.tool, up);
  const harder = (change: number) => () => {
    settings.hardness = Math.min(
      Math.max(Math.round((settings.hardness + change) * 100) / 100, 0),
      1,
    );
  };
  return {
    ...bindings,
    x: {
      do: () => targets.choose(settings.tool === "eraser" ? "brush" : "eraser"),
      says: "Brush or eraser, in turns",
    },
    "[": { do: size(false), says: "Smaller brush (or Alt+right drag)" },
    "]": { do: size(true), says: "Larger brush" },
    "{": { do: harder(-0.1), says: "Softer brush" },
    "}": { do: harder(0.1), says: "Harder brush" },
    m: { do: () => (session.maskOnly = !session.maskOnly), says: "Mask only" },
    o: { do: () => (settings.fillShown = !settings.fillShown), says: "Outlines only" },
    h: {
      do: () => (session.maskHidden = true),
      up: () => (session.maskHidden = false),
      says: "Hide the mask, as long as it is held",
    },
    Space: {
      do: () => targets.hold(true),
      up: () => targets.hold(false),
      says: "Hold and drag: move the view",
    },
    f: { do: targets.fit, says: "Fit the picture" },
    "Ctrl+0": { do: () => targets.zoomTo(1), says: "100 %" },
    "+": { do: () => targets.zoomBy(1.25), says: "Zoom in (or wheel)" },
    "-": { do: () => targets.zoomBy(0.8), says: "Zoom out" },
    "Ctrl+z": { do: targets.undo, says: "Undo" },
    "Ctrl+Shift+z": { do: targets.redo, says: "Redo" },
    "Ctrl+y": { do: targets.redo, says: "Redo" },
    "Ctrl+s": { do: targets.save, says: "Save now", inFields: true },
    a: { do: () => targets.step(-1), says: "The clip before" },
    d: { do: () => targets.step(1), says: "The clip after" },
    Enter: { do: targets.accept, says: "Close the polygon; accept a proposal" },
    Backspace: { do: targets.takeBack, says: "Take the last corner back" },
    Escape: { do: targets.leave, says: "Leave a stroke, an outline or a proposal" },
    "Ctrl+Enter": { do: () => targets.judge("accepted"), says: "This mask is done" },
    "Shift+u": {
      do: () => targets.judge("rejected"),
      says: "This mask is unsure: training leaves its clip out",
    },
    u: { do: targets.nextUnsure, says: "The next clip that needs a look" },
  };
}
