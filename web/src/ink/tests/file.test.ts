/** A mask that is edited and saved: nothing is lost by reload, crash, a lost answer or another window. */

import "fake-indexeddb/auto";
import { expect, test, vi } from "vitest";
import { InkFile, type InkOptions, type ServerMask } from "../file";
import type { Journal } from "../journal";
import { drawAgain } from "../ops";
import { SaveError } from "../sync";
import { MaskDoc } from "../doc";
import type { Op } from "../stroke";
import { IDS, checksum } from "../tiles";

vi.setConfig({ testTimeout: 60_000 }); // machines of CI are slow

const WIDTH = 150,
  HEIGHT = 140;

/** The server's side of one mask, as routes/masks.py keeps it. */
class Server {
  ids = new Uint8Array(WIDTH * HEIGHT);
  soft = new Map<number, Uint8Array>();
  number = 0;
  log: { op: string }[] = [];
  answers = true;
  hears = true;
  constructor(readonly truth: "ids" | "soft" = "ids") {
    if (truth === "soft") this.soft.set(1, new Uint8Array(WIDTH * HEIGHT));
  }
  read = async (): Promise<ServerMask> => ({
    info: {
      width: WIDTH,
      height: HEIGHT,
      revision: `${this.number}`,
      background: 0,
      truth: this.truth,
      editable: true,
    },
    ids: this.ids.slice(),
    soft: new Map([...this.soft].map(([region, plane]) => [region, plane.slice()])),
  });
  send = async (body: Uint8Array, revision: string): Promise<string> => {
    if (!this.hears) throw new SaveError(0, "the studio does not answer");
    if (revision !== `${this.number}`)
      throw new SaveError(412, "changed meanwhile", `${this.number}`);
    const length = new DataView(body.buffer).getUint32(4, true);
    const header = JSON.parse(new TextDecoder().decode(body.subarray(8, 8 + length)));
    const bytes = await inflate(body.subarray(8 + length));
    let place = 0;
    for (const { plane, x, y, w, h } of header.tiles) {
      const content = plane === IDS ? this.ids : this.soft.get(plane)!;
      for (let row = 0; row < h; row++, place += w)
        content.set(bytes.subarray(place, place + w), (y + row) * WIDTH + x);
    }
    this.log.push(...header.edits);
    this.number++;
    if (!this.answers) throw new SaveError(0, "the studio does not answer");
    return `${this.number}`;
  };
}

let clips = 0;
const openOn = (server: Server, more: Partial<InkOptions> = {}): Promise<InkFile> =>
  InkFile.open({
    clip: `clip${clips}`,
    frame: 0,
    read: server.read,
    send: server.send,
    pause: 1e6,
    ...more,
  });

function paint(file: InkFile, region: number, x: number, y: number): void {
  file.doc.begin({ tool: "brush", region, size: 20, mode: file.doc.truth });
  file.doc.extend([
    { x, y },
    { x: x + 15, y },
  ]);
  file.push(file.doc.end()!);
}

test("strokes are saved with their log, and undo is a change like any other", async () => {
  clips++;
  const server = new Server(),
    file = await openOn(server);
  paint(file, 1, 20, 20);
  expect(file.state).toBe("waiting");
  expect(await file.saveNow()).toBe(true);
  expectSame(server.ids, file.doc.ids);
  paint(file, 2, 60, 60);
  file.undo();
  file.undo();
  expect(await file.saveNow()).toBe(true);
  expect(server.ids.some(Boolean)).toBe(false);
  file.redo();
  expect(await file.saveNow()).toBe(true);
  expect(server.log.map(({ op }) => op)).toEqual(["stroke", "stroke", "undo", "undo", "redo"]);
});

test("after a reload the mask and its undo are back, saved or not", async () => {
  clips++;
  const server = new Server(),
    file = await openOn(server);
  paint(file, 1, 20, 20);
  await file.saveNow();
  paint(file, 2, 60, 60);
  paint(file, 3, 90, 90);
  file.undo();
  const mine = file.doc.ids.slice();
  await crash(file);
  const again = await openOn(server);
  expectSame(again.doc.ids, mine);
  expect([again.history.steps.length, again.history.position]).toEqual([3, 2]);
  expect(again.state).toBe("waiting");
  await again.saveNow();
  expectSame(server.ids, mine);
  again.redo();
  again.goTo(0);
  expect(again.doc.ids.some(Boolean)).toBe(false);
  await crash(again);
});

test("a step that was undone and painted over does not come back", async () => {
  clips++;
  const server = new Server(),
    file = await openOn(server);
  paint(file, 1, 20, 20);
  paint(file, 2, 24, 24);
  await file.saveNow();
  file.undo();
  paint(file, 3, 60, 60);
  const mine = file.doc.ids.slice();
  await crash(file);
  const again = await openOn(server);
  expectSame(again.doc.ids, mine);
  again.goTo(0);
  expect(again.doc.ids.some(Boolean)).toBe(false);
  await crash(again);
});

test("saves whose answers were lost are known again, after a reload and without", async () => {
  for (const reload of [true, false]) {
    clips++;
    const conflicts: ServerMask[] = [];
    const server = new Server(),
      file = await openOn(server, { conflict: (theirs) => conflicts.push(theirs) });
    server.answers = false;
    paint(file, 1, 20, 20);
    expect(await file.saveNow()).toBe(false);
    expect(file.why).toContain("does not answer");
    paint(file, 2, 60, 60);
    server.hears = false;
    await file.saveNow();
    paint(file, 3, 90, 90);
    const mine = file.doc.ids.slice();
    server.answers = server.hears = true;
    if (reload) await crash(file);
    const again = reload ? await openOn(server) : file;
    expect(again.lost).toEqual([]);
    await again.saveNow();
    await again.saveNow();
    await settled(() => again.state !== "conflict");
    await again.saveNow();
    expect(again.state).toBe("saved");
    expect(conflicts).toEqual([]);
    expectSame(server.ids, mine);
    expect(again.history.position).toBe(3);
    if (!reload) expect(server.log.map(({ op }) => op)).toEqual(["stroke", "stroke", "stroke"]);
    await crash(again);
  }
});

test("a server that is away is asked again, and nothing is lost meanwhile", async () => {
  clips++;
  const states: string[] = [];
  const server = new Server(),
    file = await openOn(server, { state: (state) => states.push(state) });
  server.hears = false;
  paint(file, 1, 20, 20);
  await file.saveNow();
  expect(file.state).toBe("failed");
  server.hears = true;
  await settled(() => file.state === "saved", 3000);
  expectSame(server.ids, file.doc.ids);
  expect(states).toEqual(["waiting", "saving", "failed", "saving", "saved"]);
  expect(server.log.length).toBe(1);
});

test("two windows: the second is told, and either mask or both can be kept", async () => {
  for (const how of ["mine", "theirs", "both"]) {
    clips++;
    const server = new Server(),
      conflicts: ServerMask[] = [];
    const one = await openOn(server);
    const other = await openOn(server, {
      clip: `other${clips}`,
      conflict: (theirs) => conflicts.push(theirs),
    });
    paint(one, 1, 20, 20);
    await one.saveNow();
    paint(other, 2, 60, 60);
    const mine = other.doc.ids.slice();
    await other.saveNow();
    await settled(() => conflicts.length === 1);
    expect(other.state).toBe("conflict");
    const theirs = conflicts[0]!;
    const both = mine.map((id, at) => id || theirs.ids[at]!);
    if (how === "mine") other.keepMine(theirs);
    else other.settle(theirs, how === "both" ? both : undefined);
    await other.saveNow();
    const expected = { mine, theirs: theirs.ids, both }[how];
    expectSame(server.ids, expected);
    expectSame(other.doc.ids, expected);
    expect(other.state).toBe("saved");
    if (how !== "mine") {
      other.undo();
      expectSame(other.doc.ids, mine);
      await other.saveNow();
      expectSame(server.ids, mine);
    }
    // What was logged draws the same mask.
    const doc = new MaskDoc(WIDTH, HEIGHT);
    for (const op of net(await Promise.all(server.log.map(unpack)))) drawAgain(doc, op);
    expectSame(doc.ids, server.ids);
    await crash(one);
    await crash(other);
  }
});

test("an idle window takes over what another saved; a busy one does not", async () => {
  clips++;
  const server = new Server(),
    one = await openOn(server),
    other = await openOn(server, { clip: `other${clips}` });
  paint(one, 1, 20, 20);
  await one.saveNow();
  await other.hear(one.revision);
  expectSame(other.doc.ids, one.doc.ids);
  expect(other.state).toBe("saved");
  paint(other, 2, 60, 60);
  const mine = other.doc.ids.slice();
  paint(one, 3, 90, 90);
  await one.saveNow();
  await other.hear(one.revision);
  expectSame(other.doc.ids, mine);
  await crash(one);
  await crash(other);
});

test("what a crash left of a mask that somebody changed can be laid over it", async () => {
  clips++;
  const server = new Server(),
    file = await openOn(server);
  paint(file, 1, 20, 20);
  await file.saveNow();
  paint(file, 2, 60, 60);
  await crash(file);
  server.ids.fill(4, 0, 100);
  server.number++;
  const again = await openOn(server);
  expectSame(again.doc.ids, server.ids);
  expect(again.lost.map(({ name }) => name)).toEqual(["Brush"]);
  expect(again.layLost()).toBe(1);
  expect(again.doc.ids[60 * WIDTH + 65]).toBe(2);
  expect(again.doc.ids[5]).toBe(4);
  await again.saveNow();
  expectSame(server.ids, again.doc.ids);
  await crash(again);
});

test("soft planes are saved as planes", async () => {
  clips++;
  const server = new Server("soft"),
    file = await openOn(server);
  paint(file, 1, 20, 20);
  await file.saveNow();
  expectSame(server.soft.get(1), file.doc.softPlane(1));
  expect(server.ids.some(Boolean)).toBe(false);
  paint(file, 1, 60, 60);
  const mine = file.doc.softPlane(1).slice();
  await crash(file);
  const again = await openOn(server);
  expectSame(again.doc.softPlane(1), mine);
  await crash(again);
  // Somebody else saved the same: what is left over is drawn again to the same plane.
  server.number++;
  const later = await openOn(server);
  expect(later.layLost()).toBe(1);
  expectSame(later.doc.softPlane(1), mine);
  await crash(later);
});

test("the browser keeps the undo of so many masks, and of all that is not saved", async () => {
  const server = new Server();
  clips++;
  const unsaved = await openOn(server, { clip: "unsaved" });
  paint(unsaved, 1, 20, 20);
  await crash(unsaved);
  const first = await openOn(server, { clip: "first" });
  paint(first, 2, 60, 60);
  await first.saveNow();
  await crash(first);
  const { journal } = first as unknown as {
    journal: { record(mask: object, step?: object): void; key: string; settle(): Promise<void> };
  };
  const { mask, steps } = (await (journal as unknown as Journal).load())!;
  const step = [...steps.values()][0];
  for (let count = 0; count < 400; count++) {
    journal.key = `other${count}/0`;
    journal.record({ ...mask, when: mask.when + 1 }, step);
  }
  await journal.settle();
  await crash(await openOn(server, { clip: "one more" }));
  expect((await openOn(server, { clip: "unsaved" })).lost.length).toBe(1);
  expect((await openOn(server, { clip: "other7" })).history.position).toBe(1);
  expect((await openOn(server, { clip: "first" })).history.position).toBe(0);
});

/** Much quicker than toEqual, which looks at every number by itself. */
function expectSame(found: Uint8Array | undefined, expected: Uint8Array): void {
  expect(found && checksum([found])).toBe(checksum([expected]));
}

/** The page ends without a word: nothing is flushed, the journal is as far as it got. */
async function crash(file: InkFile): Promise<void> {
  const inner = file as unknown as {
    sync: { close(): void };
    journal: { settle(): Promise<void> } | null;
  };
  inner.sync.close();
  await inner.journal?.settle();
}

async function settled(done: () => boolean, longest = 1000): Promise<void> {
  const end = Date.now() + longest;
  while (!done() && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 5));
  expect(done()).toBe(true);
}

async function inflate(bytes: Uint8Array): Promise<Uint8Array> {
  const stream = new Blob([bytes as BlobPart])
    .stream()
    .pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const decode = (text: string): Promise<Uint8Array> =>
  inflate(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)));

/** An entry of the log as it came over the wire. */
async function unpack(op: any): Promise<Op> {
  if (op.op !== "pixels") return op;
  const spans = await decode(op.spans);
  return {
    ...op,
    spans: new Int32Array(spans.buffer, 0, spans.length / 4),
    values: await decode(op.values),
  };
}

/** What holds of a log: as frisket.masks.painting.strokes.net. */
function net(ops: Op[]): Op[] {
  const done: Op[] = [],
    undone: Op[] = [];
  for (const op of ops) {
    if (op.op === "undo") undone.push(...done.splice(-1));
    else if (op.op === "redo") done.push(...undone.splice(-1));
    else done.push(op);
  }
  return done;
}
