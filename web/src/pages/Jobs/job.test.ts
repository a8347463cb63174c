import { describe, expect, it } from "vitest";
import {
  countLeft,
  countSeconds,
  describeEnd,
  describeState,
  describeValues,
  sortJobs,
} from "./job.ts";
import type { Job } from "./job.ts";

function make(changes: Partial<Job>): Job {
  return {
    ...{ id: "a", kind: "train", title: "Training", command: "frisket train", device: "cpu" },
    ...{ about: {}, state: "running", now: 100, received: 1000, created: 1, started: 40 },
    ...{ ended: null, pid: 1, position: null, waits_for: "", progress: null, log: "" },
    ...{ outputs: {}, code: null, message: "", fix: "", attention: false, lines: [] },
    ...changes,
  } as Job;
}

const progress = {
  ...{ stage: "training", done: 10, total: 100, at: 99, left: 90 },
  values: { loss: 0.70333, inside: "nan", lr: 1 },
};

describe("a job in words", () => {
  it("counts by the server's clock, whatever ours says", () => {
    expect(countSeconds(make({}), 1002)).toBe(62);
    expect(countSeconds(make({ ended: 70 }), 1002)).toBe(30);
    expect(countLeft(make({ progress }), 1002)).toBe(87);
    expect(countLeft(make({ progress: { ...progress, done: 100 } }), 1002)).toBeNull();
    expect(countLeft(make({}), 1002)).toBeNull();
  });

  it("names what one follows, and what is no number", () => {
    expect(describeValues(make({ progress }))).toBe("loss 0.703  inside nan");
  });

  it("says how it stands", () => {
    expect(describeState(make({}), 1000)).toBe("runs 60 s");
    const waiting = make({ state: "queued", position: 1, started: null });
    expect(describeState(waiting, 0)).toBe("next");
    expect(describeState(waiting, 0, "Training")).toBe("waits for Training");
    expect(describeState(make({ state: "finished", ended: 50 }), 0)).toBe("finished in 10 s");
    expect(describeEnd(make({ state: "failed", message: "a; b" }))).toEqual({
      text: "Training: a; b",
      kind: "error",
    });
  });

  it("lists what runs, what waits, what ended", () => {
    const ids = sortJobs([
      make({ id: "old", state: "failed", ended: 5 }),
      make({ id: "second", state: "queued", position: 1 }),
      make({ id: "new", state: "finished", ended: 9 }),
      make({ id: "first", state: "queued", position: 0, created: 9 }),
      make({ id: "runs" }),
    ]).map((job) => job.id);
    expect(ids).toEqual(["runs", "first", "second", "new", "old"]);
  });
});
