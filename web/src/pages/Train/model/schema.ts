/** The JSON schema of a configuration as sections of fields, each with the kind of its control. */

export type Part = string | number;
export type Key = Part[];

export interface Entry {
  type?: string;
  format?: string;
  enum?: (string | number)[];
  const?: string;
  anyOf?: Entry[];
  items?: Entry;
  prefixItems?: Entry[];
  properties?: Record<string, Entry>;
  additionalProperties?: Entry | boolean;
  default?: unknown;
  description?: string;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
  pattern?: string;
  $ref?: string;
}

export interface Schema {
  properties: Record<string, Entry>;
  $defs: Record<string, Entry & { required?: string[] }>;
}

export type Kind =
  | "switch"
  | "number"
  | "integer"
  | "choice"
  | "text"
  | "path"
  | "lines"
  | "toml"
  | "masks"
  | "regions"
  | "term";

export interface Field {
  /** Its place in the tree; below a data set, within `["data", n]`. */
  key: Key;
  name: string;
  kind: Kind;
  doc: string;
  /** What holds where the file says nothing; null where that is "empty". */
  usual: unknown;
  required: boolean;
  choices: (string | number)[];
  /** Its range in words: ">= 0, <= 1". */
  range: string;
}

export interface Group {
  /** As its header in the file: [lora], [[data]], [maskgen.cleanup]. */
  title: string;
  doc: string;
  key: Key;
  fields: Field[];
}

export interface Section {
  name: string;
  /** Whether there may be several: [[data]]. */
  listed: boolean;
  groups: Group[];
}

const TITLES: Record<string, string> = { maskgen: "mask making" };

export function titleOf(name: string): string {
  return TITLES[name] ?? name;
}

/** All sections in their order; `data` is the first data set's, to be moved by `atSet`. */
export function readSections(schema: Schema): Section[] {
  return Object.entries(schema.properties).map(([name, entry]) => {
    const listed = entry.type === "array";
    const model = refer(schema, listed ? entry.items : entry);
    if (!model) {
      const field = readField([name], entry, false);
      const group = {
        title: `[${name}]`,
        doc: field.doc,
        key: [],
        fields: [{ ...field, doc: "" }],
      };
      return { name, listed: false, groups: [group] };
    }
    const title = listed ? `[[${name}]]` : `[${name}]`;
    const key: Key = listed ? [name, 0] : [name];
    return { name, listed, groups: readGroups(schema, model, key, title) };
  });
}

function readGroups(
  schema: Schema,
  model: Entry & { required?: string[] },
  key: Key,
  title: string,
): Group[] {
  const fields: Field[] = [];
  const inner: Group[] = [];
  for (const [name, entry] of Object.entries(model.properties ?? {})) {
    const section = entry.$ref ? refer(schema, entry) : undefined;
    if (section) {
      const names = [...key, name].filter((part) => typeof part === "string");
      inner.push(...readGroups(schema, section, [...key, name], `[${names.join(".")}]`));
    } else {
      fields.push(readField([...key, name], entry, model.required?.includes(name) ?? false));
    }
  }
  return [{ title, doc: plain(model.description), key, fields }, ...inner];
}

/** The fields of the full table of `masks`, at the key of a data set's masks. */
export function readMaskFields(schema: Schema, key: Key): Field[] {
  const model = schema.$defs.MaskSource;
  return model ? (readGroups(schema, model, key, "")[0]?.fields ?? []) : [];
}

function refer(
  schema: Schema,
  entry: Entry | undefined,
): (Entry & { required?: string[] }) | undefined {
  const name = entry?.$ref?.split("/").at(-1);
  return name ? schema.$defs[name] : undefined;
}

export function readField(key: Key, entry: Entry, required: boolean): Field {
  const choices = (entry.anyOf ?? [entry]).filter((choice) => choice.type !== "null");
  const [first = entry] = choices;
  return {
    key,
    name: String(key.at(-1)),
    kind: chooseKind(key, choices),
    doc: plain(entry.description),
    usual: entry.default ?? null,
    required,
    choices: first.enum ?? [],
    range: describeRange(first),
  };
}

function chooseKind(key: Key, choices: Entry[]): Kind {
  const name = key.at(-1);
  if (name === "masks" && key.length > 1) return "masks";
  if (key.length === 1 && name === "regions") return "regions";
  if (key[0] === "losses" && choices.length > 1) return "term";
  const [entry] = choices;
  if (!entry || choices.length > 1) return "toml";
  if (entry.enum) return "choice";
  if (entry.type === "boolean") return "switch";
  if (entry.type === "number" || entry.type === "integer") return entry.type;
  if (entry.type === "string") return entry.format === "path" ? "path" : "text";
  const texts = entry.type === "array" && entry.items?.type === "string" && !entry.items.enum;
  return texts ? "lines" : "toml";
}

function describeRange(entry: Entry): string {
  const limits: [string, number | undefined][] = [
    [">=", entry.minimum],
    [">", entry.exclusiveMinimum],
    ["<=", entry.maximum],
    ["<", entry.exclusiveMaximum],
  ];
  return limits
    .filter(([, limit]) => limit !== undefined)
    .map(([sign, limit]) => `${sign} ${limit}`)
    .join(", ");
}

function plain(text: string | undefined): string {
  return (text ?? "").replace(/\s+/g, " ").trim();
}

/** A field of the first data set as that of another. */
export function atSet(field: Field, set: number): Field {
  return field.key[0] === "data" ? { ...field, key: ["data", set, ...field.key.slice(2)] } : field;
}

/** A key as messages write it: data.0.clips. */
export function joinKey(key: Key): string {
  return key.join(".");
}

/** The value at a key of a tree; undefined where the file says nothing. */
export function valueAt(tree: unknown, key: Key): unknown {
  let value = tree;
  for (const part of key) {
    if (value === null || typeof value !== "object") return undefined;
    value = (value as Record<Part, unknown>)[part];
  }
  return value;
}

/** The fields that most runs set, in the order one thinks of them. */
export const COMMON = [
  "data.0.clips",
  "data.0.masks",
  "data.0.trigger",
  "data.0.resolution",
  "data.0.frames",
  "data.0.repeats",
  "regions",
  "losses.prior",
  "swap.rate",
  "model.family",
  "model.variant",
  "model.source",
  "lora.rank",
  "optimizer.lr",
  "optimizer.name",
  "run.steps",
  "run.batch",
  "run.output",
  "run.save_every",
  "preview.every",
  "preview.prompts",
  "validation.holdout",
  "memory.quantise",
  "memory.checkpointing",
];

/** Whether a field answers a search: all words in its key or its meaning. */
export function matches(field: Field, search: string): boolean {
  const text = `${joinKey(field.key)} ${field.doc}`.toLowerCase();
  return search
    .toLowerCase()
    .split(/\s+/)
    .every((word) => text.includes(word));
}
