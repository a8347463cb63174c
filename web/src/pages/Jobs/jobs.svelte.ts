/** The jobs of the opened folder, as the server tells them: it knows, the page only shows. */

import { del, get, post } from "../../lib/api.ts";
import { on } from "../../lib/events.svelte.ts";
import { toast, toastError } from "../../lib/toasts.svelte.ts";
import { describeEnd, isEnded, sortJobs, type Job, type JobState } from "./job.ts";

class JobsStore {
  list = $state<Job[]>([]);
  /** Whether the drawer is open: then nobody needs a toast. */
  watched = $state(false);
  /** Jobs that failed since the drawer was last open. */
  unseen = $state<string[]>([]);
  loaded = $state(false);

  readonly running = $derived(this.list.filter((job) => /running|stopping/.test(job.state)));
  readonly waiting = $derived(this.list.filter((job) => job.state === "queued"));
  readonly ended = $derived(this.list.filter((job) => isEnded(job.state)));

  /** Follow the server's jobs; the result ends it. */
  follow(): () => void {
    void this.load();
    const stops = [
      on("job", (data) => this.take(data as unknown as Job | { id: string; removed: true })),
      on("refetch", () => void this.load()),
    ];
    return () => stops.forEach((stop) => stop());
  }

  async load(): Promise<void> {
    try {
      const answer = await get<{ jobs: Job[] }>("/jobs");
      const before = new Map(this.list.map((job) => [job.id, job.state]));
      this.list = sortJobs(answer.jobs.map((job) => ({ ...job, received: Date.now() / 1000 })));
      for (const job of this.list) this.tell(job, before.get(job.id));
      this.loaded = true;
    } catch (error) {
      toastError(error);
    }
  }

  take(data: Job | { id: string; removed: true }): void {
    const before = this.list.find((job) => job.id === data.id);
    const others = this.list.filter((job) => job.id !== data.id);
    if ("removed" in data) {
      this.list = others;
      return;
    }
    const job: Job = { ...data, received: Date.now() / 1000 };
    // What has ended stays ended: answers and events may overtake each other.
    if (before && isEnded(before.state) && !isEnded(job.state)) return;
    this.list = sortJobs([...others, job]);
    this.tell(job, before?.state);
  }

  async stop(job: Job, hard = false): Promise<void> {
    await this.ask(async () => this.take(await post<Job>(`/jobs/${job.id}/stop`, { hard })));
  }

  async runAgain(job: Job): Promise<void> {
    await this.ask(async () => this.take(await post<Job>(`/jobs/${job.id}/again`)));
  }

  async remove(...jobs: Job[]): Promise<void> {
    await this.ask(async () => {
      for (const job of jobs)
        this.take(await del<{ id: string; removed: true }>(`/jobs/${job.id}`));
    });
  }

  /** Move a waiting job by so many places. */
  async move(job: Job, by: number): Promise<void> {
    const ids = this.waiting.map((each) => each.id);
    const at = ids.indexOf(job.id);
    ids.splice(at, 1);
    ids.splice(Math.max(0, at + by), 0, job.id);
    await this.ask(async () => void (await post("/jobs/order", { ids })));
  }

  markSeen(): void {
    this.unseen = [];
  }

  /** Say that a job has ended, to whoever is elsewhere. */
  private tell(job: Job, before: JobState | undefined): void {
    if (before === undefined || isEnded(before) || !isEnded(job.state)) return;
    if (this.watched) return;
    const { text, kind } = describeEnd(job);
    if (kind === "error") this.unseen = [...this.unseen, job.id];
    toast(text, kind, job.fix || undefined);
  }

  private async ask(request: () => Promise<void>): Promise<void> {
    try {
      await request();
    } catch (error) {
      toastError(error);
      await this.load();
    }
  }
}

export const jobs = new JobsStore();
