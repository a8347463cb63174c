/** Values as TOML writes them on one line, and the words of a text field read back. */

const RAW = "$toml"; // what JSON has no form for: {"$toml": "inf"}

export function writeToml(value: unknown): string {
  if (value === undefined || value === null) return "";
  if (typeof value === "string") return quote(value);
  if (Array.isArray(value)) return `[${value.map(writeToml).join(", ")}]`;
  if (typeof value === "object") {
    const table = value as Record<string, unknown>;
    if (typeof table[RAW] === "string" && Object.keys(table).length === 1) return table[RAW];
    const pairs = Object.entries(table).map(
      ([key, inner]) => `${writeKey(key)} = ${writeToml(inner)}`,
    );
    return pairs.length ? `{ ${pairs.join(", ")} }` : "{}";
  }
  return String(value);
}

function writeKey(key: string): string {
  return /^[A-Za-z0-9_-]+$/.test(key) ? key : quote(key);
}

function quote(text: string): string {
  // JSON's escapes are TOML's, but for the one letter that JSON leaves as it is.
  return JSON.stringify(text).replaceAll("\u007f", "\\u007f");
}

/** What is typed where TOML is expected: a plain word is a text, all else goes as it is. */
export function readToml(text: string): unknown {
  const trimmed = text.trim();
  if (/^[+-]?\d+$/.test(trimmed) && Number.isSafeInteger(Number(trimmed))) return Number(trimmed);
  if (trimmed === "true" || trimmed === "false") return trimmed === "true";
  if (/^[A-Za-z][\w./ -]*$/.test(trimmed) && !/^(inf|nan)$/.test(trimmed)) return trimmed;
  return { [RAW]: trimmed };
}

/** A number as it is typed; undefined for what is none. */
export function readNumber(text: string, whole: boolean): unknown {
  const trimmed = text.trim();
  if (trimmed === "" || !/^[+-]?(\d|\.\d)/.test(trimmed)) return undefined;
  const number = Number(trimmed);
  if (!Number.isFinite(number) || (whole && !Number.isInteger(number))) return undefined;
  // Seeds may be larger than what a number of the browser holds.
  return Number.isInteger(number) && !Number.isSafeInteger(number) ? { [RAW]: trimmed } : number;
}

/** Whether two plain values say the same. */
export function same(left: unknown, right: unknown): boolean {
  return writeToml(left) === writeToml(right);
}
