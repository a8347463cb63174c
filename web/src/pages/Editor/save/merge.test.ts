import fc from "fast-check";
import { expect, test } from "vitest";
import { compareMasks, mergeMasks } from "./merge.ts";

const masks = fc.uint8Array({ minLength: 12, maxLength: 12, max: 3 });

test("a merge keeps every change of mine, and theirs wherever I changed nothing", () => {
  fc.assert(
    fc.property(masks, masks, masks, (base, mine, theirs) => {
      const merged = mergeMasks(base, mine, theirs);
      merged.forEach((id, at) => expect(id).toBe(mine[at] === base[at] ? theirs[at] : mine[at]));
    }),
  );
});

test("differences are counted once each", () => {
  fc.assert(
    fc.property(masks, masks, masks, (base, mine, theirs) => {
      const found = compareMasks(base, mine, theirs);
      const apart = mine.filter((id, at) => id !== theirs[at]).length;
      expect(found.mine + found.theirs + found.both).toBe(apart);
      expect(compareMasks(base, mine, mine)).toMatchObject({ mine: 0, theirs: 0, both: 0 });
    }),
  );
});
