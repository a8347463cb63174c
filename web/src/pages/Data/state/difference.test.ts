import fc from "fast-check";
import { expect, test } from "vitest";
import { compareTexts } from "./difference.ts";

test("an edit is shown by its words", () => {
  expect(compareTexts("sks on a beach, red", "sks on a lake, red")).toEqual([
    { kind: "same", text: "sks on a " },
    { kind: "gone", text: "beach" },
    { kind: "new", text: "lake" },
    { kind: "same", text: ", red" },
  ]);
});

test("both texts can be put together again", () => {
  const words = fc.array(fc.constantFrom("a", "b", " ", ",", "\n"), { maxLength: 30 });
  fc.assert(
    fc.property(words, words, (first, second) => {
      const [a, b] = [first.join(""), second.join("")];
      const pieces = compareTexts(a, b);
      const join = (kind: string) =>
        pieces
          .filter((piece) => piece.kind === "same" || piece.kind === kind)
          .map((piece) => piece.text)
          .join("");
      expect(join("gone")).toBe(a);
      expect(join("new")).toBe(b);
    }),
  );
});
