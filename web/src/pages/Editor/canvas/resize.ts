// How large an element is in the screen's own pixels, as it changes.
import type { Size } from "./view.ts";

/** Tell size and device pixels a CSS pixel, now and whenever they change; the answer ends it. */
export function watchSize(
  element: Element,
  changed: (size: Size, ratio: number) => void,
): () => void {
  const watch = new ResizeObserver((entries) => {
    const entry = entries.at(-1)!;
    const ratio = devicePixelRatio;
    // Exact device pixels where the browser tells them: crisp at any zoom of the browser.
    const exact = entry.devicePixelContentBoxSize?.[0];
    const width = exact?.inlineSize ?? Math.round(entry.contentRect.width * ratio);
    const height = exact?.blockSize ?? Math.round(entry.contentRect.height * ratio);
    changed({ width, height }, ratio);
  });
  try {
    watch.observe(element, { box: "device-pixel-content-box" });
  } catch {
    watch.observe(element); // Safari knows no such box
  }
  return () => watch.disconnect();
}
