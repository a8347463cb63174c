import { expect, test } from "vitest";
import { addTag, looksTagged, moveTag, readTags, removeTag } from "./tags.ts";

test("tags are of the first paragraph, the rest stays", () => {
  const text = "sks,  beach ,red hair\n\nA second, paragraph.\n";
  expect(readTags(text).tags).toEqual(["sks", "beach", "red hair"]);
  expect(removeTag(text, 1)).toBe("sks, red hair\n\nA second, paragraph.\n");
  expect(addTag(text, " sun ")).toBe("sks, beach, red hair, sun\n\nA second, paragraph.\n");
  expect(addTag(text, "BEACH")).toBe(text);
  expect(moveTag(text, 2, 0)).toBe("red hair, sks, beach\n\nA second, paragraph.\n");
  expect(moveTag(text, 0, 9)).toBe(text);
});

test("nothing is lost of an empty or plain text", () => {
  expect(addTag("", "sks")).toBe("sks");
  expect(addTag("sks\n", "sun")).toBe("sks, sun\n");
  expect(readTags("  \n").tags).toEqual([]);
  expect(looksTagged("A long sentence that has one comma, and no tags in it at all.")).toBe(false);
  expect(looksTagged("sks, beach")).toBe(true);
});
