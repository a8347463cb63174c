/** Comma-separated tags of a caption's first paragraph: pure. What follows it is left alone. */

export interface TagText {
  tags: string[];
  /** The rest of the text, from the line break that ends the first paragraph. */
  rest: string;
}

export function readTags(text: string): TagText {
  const lead = text.length - text.trimStart().length;
  const end = text.slice(lead).search(/\r?\n[ \t]*\r?\n|\s*$/);
  const stop = lead + (end < 0 ? text.length - lead : end);
  const tags = text
    .slice(lead, stop)
    .split(",")
    .map((tag) => tag.trim().replace(/\s+/g, " "))
    .filter(Boolean);
  return { tags, rest: text.slice(stop) };
}

export function writeTags({ tags, rest }: TagText): string {
  return tags.join(", ") + rest;
}

/** Whether a text looks like tags: several short ones. Else chips would only be in the way. */
export function looksTagged(text: string): boolean {
  const { tags } = readTags(text);
  return tags.length > 1 && tags.every((tag) => tag.split(" ").length <= 6);
}

export function addTag(text: string, tag: string): string {
  const parts = readTags(text);
  const wanted = tag.trim().replace(/\s+/g, " ").replaceAll(",", "");
  const known = parts.tags.some((each) => each.toLowerCase() === wanted.toLowerCase());
  return !wanted || known ? text : writeTags({ ...parts, tags: [...parts.tags, wanted] });
}

export function removeTag(text: string, at: number): string {
  const parts = readTags(text);
  return writeTags({ ...parts, tags: parts.tags.filter((_, index) => index !== at) });
}

/** The tag at one place moved to another. */
export function moveTag(text: string, from: number, to: number): string {
  const parts = readTags(text);
  const tag = parts.tags[from];
  if (tag === undefined || to < 0 || to >= parts.tags.length) return text;
  const tags = parts.tags.filter((_, index) => index !== from);
  tags.splice(to, 0, tag);
  return writeTags({ ...parts, tags });
}
