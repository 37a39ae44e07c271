// What a run is at, in words.
import { isActive } from "/page/api.js";
import { duration, h, plural } from "/page/dom.js";

const SIMPLE = {
  starting: "Getting ready…",
  stopping: "Saving…",
  finishing: "Finishing: clean outlines, then pictures and a video…",
  interrupted: "Interrupted; it can continue from its last checkpoint.",
  elsewhere: "Made by another program at the moment.",
};

export function statusOf(run) {
  const steps = run.num_steps ? `step ${run.completed} of ${run.num_steps}` : `step ${run.completed}`;
  switch (run.state) {
    case "queued":
      return run.position ? `Waiting; ${plural(run.position, "run")} before it` : "Next in the queue";
    case "running": {
      const left = run.seconds_left ? ` · ${duration(run.seconds_left)} left` : "";
      return `${steps}${left}`.replace(/^s/, "S");
    }
    case "paused":
      return `Paused at ${steps}`;
    case "stopped":
      return run.completed ? `Stopped at ${steps}` : "Not begun";
    case "failed":
      return run.message ? `Failed: ${run.message}` : "Failed";
    case "done":
      return counted(run) || "Done";
    default:
      return SIMPLE[run.state] ?? run.state;
  }
}

export function counted(run) {
  const count = run.counts?.num_splats;
  return count ? plural(count, "splat") : "";
}

// A bar while the run is active. It is moved, not made anew: a press may be on it.
export function showProgress(holder, run) {
  if (!isActive(run)) return holder.replaceChildren();
  if (!holder.firstChild) holder.append(h("progress", { max: 1, "aria-label": "Steps taken" }));
  holder.firstChild.value = run.num_steps ? run.completed / run.num_steps : 0;
}
