// A person's word on a mask that was made, and a draft for a clip that has none.
import { get, post } from "../../../lib/api.ts";
import { on } from "../../../lib/events.svelte.ts";
import type { Clip } from "../../../lib/workspace.svelte.ts";
import type { Mark } from "./marks.ts";

interface JobAnswer {
  state: string;
  error?: string;
}

interface JudgeAnswer {
  judged: string[];
  refused: Record<string, string>;
}

/** Whether a verdict means anything: hand work counts as it is, and what is not there cannot be judged. */
export function canJudge(mark: Mark | undefined): boolean {
  return mark === "made" || mark === "accepted" || mark === "unsure" || mark === "nothing";
}

/** Accepted: training uses it. Rejected: it counts as unsure, and training leaves its clip out. */
export async function judge(clip: Clip, verdict: "accepted" | "rejected"): Promise<void> {
  const answer = await post<JudgeAnswer>(`/sets/${clip.set}/verdicts`, { ids: [clip.id], verdict });
  const reason = answer.refused[clip.id];
  if (reason) throw new Error(reason);
}

const POLL = 3000; // milliseconds after which a job is asked about, should its event be missed

/** Have `frisket masks` draft this one clip; answers when its job has ended. */
export async function draft(clip: Clip): Promise<void> {
  const { job } = await post<{ job: string }>(`/sets/${clip.set}/making`, { ids: [clip.id] });
  for (;;) {
    const { state, error } = await get<JobAnswer>(`/jobs/${job}`);
    if (state === "finished") return;
    if (state === "failed" || state === "stopped")
      throw new Error(error || `the draft ${state}; the jobs say why`);
    await waitForJob(job);
  }
}

async function waitForJob(job: string): Promise<void> {
  await new Promise<void>((resolve) => {
    const end = () => {
      clearTimeout(timer);
      deaf();
      resolve();
    };
    const timer = setTimeout(end, POLL);
    const deaf = on("job", (change) => change.id === job && end());
  });
}
