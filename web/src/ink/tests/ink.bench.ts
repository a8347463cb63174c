/** What a frame of painting costs at 4096 pixels: `npx vitest bench src/ink --run`. */

import { bench, describe } from "vitest";
import { MaskDoc } from "../doc";
import { History } from "../history";
import { growMask, maskOf } from "../regions";
import { checksum } from "../tiles";

const SIDE = 4096;
const doc = new MaskDoc(SIDE, SIDE),
  history = new History(doc);
let x = 0;

/** One frame of a stroke: four coalesced points, three pixels apart, and the tiles to be drawn. */
function drawFrame(): void {
  doc.extend(
    Array.from({ length: 4 }, () => ({
      x: (x = (x + 3) % SIDE),
      y: 2000 + 900 * Math.sin(x / 300),
    })),
  );
  doc.takeDirty();
}

for (const size of [60, 400, 1000]) {
  describe(`brush of ${size} px`, () => {
    bench("a frame on ids", drawFrame, {
      setup: () => doc.begin({ tool: "brush", region: 1 + (size % 7), size }),
      teardown: () => doc.cancel(),
    });
    bench("a frame on ids, one region locked", drawFrame, {
      setup: () => doc.begin({ tool: "brush", region: 1 + (size % 7), size, locked: new Set([9]) }),
      teardown: () => doc.cancel(),
    });
    bench("a frame on a soft plane", drawFrame, {
      setup: () =>
        doc.begin({ tool: "brush", region: 1, size, mode: "soft", hardness: 0.4, opacity: 0.8 }),
      teardown: () => doc.cancel(),
    });
  });
}

describe("a stroke of 60 px half across", () => {
  function paint(): void {
    doc.begin({ tool: "brush", region: 1 + (history.steps.length % 5), size: 60 });
    for (let at = 0; at < SIDE / 2; at += 12)
      doc.extend([{ x: at, y: 1000 + 60 * Math.sin(at / 90) }]);
    const step = doc.end();
    if (step) history.push(step);
  }
  bench("painted and kept", paint);
  bench("undone and redone", () => {
    history.undo();
    history.redo();
  });
  paint();
  const { bytes, deltas } = history.steps[0]!;
  console.log(
    `a step of ${deltas.length} tiles: ${deltas.reduce((sum, { runs }) => sum + runs.length, 0)} bytes of runs, ${bytes} in all`,
  );
});

describe("whole masks", () => {
  bench("grow by 8 px", () => void growMask(maskOf(doc.ids, 1), SIDE, SIDE, 8));
  bench("flood fill", () => {
    history.undo();
    doc.fill(5, 4000, { region: 6 });
    doc.fill(5, 4000, { region: 0 });
  });
  bench("checksum", () => void checksum([doc.ids]));
});
