// Where other parts of the page put their components; a slot stays empty where there is none.
import type { Component } from "svelte";
import type { MaskDoc } from "../../ink/doc.ts";
import type { Clip, Region } from "../../lib/workspace.svelte.ts";
import type { View } from "./canvas/view.ts";

export interface LossProps {
  clip: Clip;
  doc: MaskDoc;
  regions: Region[];
  version: number;
}

/** What a tool proposes is drawn over the mask until it is accepted or dropped. */
export interface Overlay {
  /** Anything but 0 is proposed; null shows nothing. */
  set(ids: Uint8Array | null): void;
  accept(): void;
  drop(): void;
}

export interface SegmentProps {
  clip: Clip;
  doc: MaskDoc;
  region: Region;
  mode: "add" | "subtract" | "replace";
  view: View;
  overlay: Overlay;
  frame: number;
}

/** What the canvas calls on the segment tool. */
export interface SegmentExports {
  onPoint(x: number, y: number, inside: boolean): void;
  onBox?(left: number, top: number, right: number, bottom: number): void;
}

export interface TimelineProps {
  clip: Clip;
  frame: number;
  doc: MaskDoc;
  regions: Region[];
  version: number;
  view: View;
  save(): Promise<void>;
}

type Module<T> = { default: T };
const found = import.meta.glob<Module<unknown>>(
  ["./lens/LossPanel.svelte", "./lens/SegmentTool.svelte", "./video/Timeline.svelte"],
  { eager: true },
);

function find<T>(path: string): T | undefined {
  return found[path]?.default as T | undefined;
}

export const LossPanel = find<Component<LossProps>>("./lens/LossPanel.svelte");
export const SegmentTool = find<Component<SegmentProps, SegmentExports>>(
  "./lens/SegmentTool.svelte",
);
export const Timeline = find<Component<TimelineProps, object, "frame">>("./video/Timeline.svelte");
