// One run: the splat, as it forms or as it is, and all that can be done with it.
import { act, filePath, hasSplats, isActive, request, runPath, runs, splats } from "/page/api.js";
import { h, icon, plural, toast } from "/page/dom.js";
import { exportPanel } from "/page/exports.js";
import { throwAway } from "/page/gallery.js";
import { makeForm } from "/page/make.js";
import { SplatView } from "/page/splat_view.js";
import { counted, showProgress, statusOf } from "/page/status.js";

const CANVAS = "A 3D object. Drag or use the arrow keys to turn it, plus and minus to zoom, space to turn by itself.";

const WISH = "Each row is a view: the picture, its depth, its outline, the picture that the guidance would like, and how hard it pulls.";

export function showRun(main, [name], signal) {
  new RunPage(main, name, signal);
}

class RunPage {
  constructor(main, name, signal) {
    [this.name, this.signal] = [name, signal];
    this.title = h("h1", {}, name);
    this.status = h("p", { class: "status", role: "status" });
    this.progress = h("div", { class: "progress" });
    this.facts = h("p", { class: "facts" });
    this.buttons = h("div", { class: "buttons" });
    this.notes = h("div", { class: "notes" });
    this.slider = h("div", { class: "slider" });
    this.wish = h("div", { class: "wish" });
    this.links = h("p", { class: "links" });
    this.after = h("div", {});
    const canvas = h("canvas", { tabindex: "0", role: "application", "aria-label": CANVAS });
    this.message = h("p", { class: "waiting" });
    this.picture = h("div", { class: "stand-in" });
    const stage = h("div", { class: "stage" }, this.picture, canvas, this.message);
    const panel = h(
      "div",
      { class: "panel" },
      h("a", { class: "back", href: "#/" }, icon("back"), "All runs"),
      this.title,
      this.status,
      this.progress,
      this.facts,
      this.buttons,
      this.notes,
      this.slider,
      this.wish,
      this.after,
      this.links,
    );
    main.append(h("div", { class: "studio" }, stage, panel));
    this.view = new SplatView(canvas, { onfail: (text) => (this.message.textContent = text) });
    signal.addEventListener("abort", () => this.view.close());
    runs.listen((changed) => (changed === name || !changed) && this.update(), signal);
    this.update();
    this.watch();
  }

  get run() {
    return runs.all.get(this.name);
  }

  update() {
    const { run } = this;
    if (!run) {
      if (runs.known) this.status.textContent = "There is no such run.";
      return;
    }
    const share = isActive(run) && run.num_steps ? `${Math.floor((100 * run.completed) / run.num_steps)} % · ` : "";
    document.title = `${share}${run.prompt} · GS-SSD Studio`;
    this.title.textContent = run.prompt;
    this.status.textContent = statusOf(run);
    this.status.classList.toggle("bad", run.state === "failed");
    showProgress(this.progress, run);
    this.showOnce(`${run.state} ${run.starred}`, "buttonsFor", this.buttons, () => this.verbs(run));
    this.showOnce(`${run.estimator} ${run.seed} ${run.completed * !isActive(run)}`, "factsFor", this.facts, () => factsOf(run));
    const notes = run.notes.map((note) => h("p", {}, note));
    this.showOnce(String(run.notes), "notesFor", this.notes, () => notes);
    this.showWish(run);
    this.showOnce(`${run.checkpoints} ${run.state}`, "sliderFor", this.slider, () => this.through(run));
    this.showOnce(String(run.files), "linksFor", this.links, () => this.downloads(run));
    const whole = run.checkpoints.length > 0 || run.state === "done" || run.frame > 0;
    this.showOnce(String(whole), "afterFor", this.after, () => (whole ? this.whatNext() : []));
    const shown = isActive(run) ? "live" : `${run.state === "done"} ${run.checkpoints}`;
    if (shown !== "live" && shown !== this.shown) this.showSaved(run);
    this.shown = shown;
  }

  showOnce(stamp, key, holder, make) {
    if (this[key] === stamp) return;
    this[key] = stamp;
    holder.replaceChildren(...make());
  }

  verbs(run) {
    const button = (verb, symbol, label, kind = "") => {
      const press = () => act(this.run, verb).catch((error) => toast(error.message));
      return h("button", { type: "button", class: kind, onclick: press }, symbol && icon(symbol), label);
    };
    const found = [];
    if (run.state === "running") found.push(button("pause", "pause", "Pause"));
    if (run.state === "paused") found.push(button("continue", "play", "Continue", "primary"));
    if (["running", "paused", "starting"].includes(run.state)) found.push(button("stop", "stop", "Stop and save"));
    if (run.state === "queued") found.push(button("stop", "stop", "Take out of the queue"));
    if (["stopped", "interrupted", "failed"].includes(run.state))
      found.push(button("continue", "play", run.completed ? "Continue" : "Begin", "primary"));
    const star = button("star", "star", h("span", { class: isActive(run) ? "sr" : "" }, run.starred ? "Starred" : "Star"), "quiet");
    star.setAttribute("aria-pressed", String(run.starred));
    found.push(star);
    if (!isActive(run)) found.push(h("button", { type: "button", class: "quiet", onclick: () => this.discard() }, icon("trash"), "Trash"));
    return found;
  }

  async discard() {
    try {
      await throwAway(this.run);
      location.hash = "#/";
    } catch (error) {
      toast(error.message);
    }
  }

  // The newest picture of what guidance saw and wished; it changes in place, as a press may be on
  // it.
  showWish(run) {
    const last = run.previews.filter((file) => file.startsWith("guidance_")).at(-1);
    if (!last) return this.wish.replaceChildren();
    if (!this.wish.firstChild) {
      const image = h("img", { alt: "Rows of small pictures: the views of one step, and what the guidance would change in them" });
      const link = h("a", { target: "_blank" }, image);
      this.wish.append(h("details", { open: isActive(run) }, h("summary", {}, "Renderings and guidance"), link, h("p", {}, WISH)));
    }
    const source = filePath(run, `previews/${last}`);
    const link = this.wish.querySelector("a");
    if (link.getAttribute("href") !== source) link.href = link.firstChild.src = source;
  }

  // A slider through the checkpoints; its right end is now.
  through(run) {
    if (isActive(run) || run.checkpoints.length < 2) return [];
    const last = run.checkpoints.length - (run.state === "done" ? 0 : 1);
    const output = h("output", { for: "checkpoint" }, "now");
    const input = h("input", { id: "checkpoint", type: "range", min: "0", max: String(last), value: String(last) });
    input.addEventListener("input", () => {
      const completed = Number(input.value) === last ? null : run.checkpoints[input.value];
      output.textContent = completed === null ? "now" : `step ${completed}`;
      this.goBack(completed ?? run.checkpoints.at(-1));
      this.showSaved(run, completed);
    });
    return [h("label", { for: "checkpoint" }, "Checkpoint"), input, output];
  }

  // A fork begins from the checkpoint that is shown.
  goBack(completed) {
    if (!this.fork) return;
    this.fork.completed = completed;
    this.forkAbout.textContent = aboutFork(completed);
  }

  downloads(run) {
    const page = run.files.includes("index.html") && h("a", { href: filePath(run, "index.html"), target: "_blank", rel: "noopener" }, "Page of its own");
    const named = { "turntable.mp4": "Video", "process.mp4": "Video of the making", "views.png": "Pictures", "point_cloud.ply": "PLY", "config.yaml": "Settings" };
    const files = Object.entries(named).filter(([file]) => run.files.includes(file));
    const links = files.map(([file, label]) => h("a", { href: `${filePath(run, file)}?download=1`, download: "" }, label));
    return [page, ...links].filter(Boolean);
  }

  whatNext() {
    const fork = h("details", { class: "fork" }, h("summary", {}, "Fork from this checkpoint"));
    fork.addEventListener("toggle", () => this.forkForm(fork), { once: true });
    return [exportPanel(runPath(this.name), this.signal), fork];
  }

  async forkForm(holder) {
    const { run } = this;
    const slider = this.slider.querySelector("input");
    const completed = run.checkpoints[slider?.value] ?? run.checkpoints.at(-1);
    if (completed === undefined) {
      holder.append(h("p", {}, "It has no checkpoint yet; stop it first."));
      return;
    }
    const settings = await request("GET", `${runPath(run.name)}/settings`).catch(() => ({}));
    const more = completed + run.num_steps;
    this.fork = { run: run.name, completed };
    this.forkAbout = h("p", {}, aboutFork(completed));
    holder.append(
      this.forkAbout,
      makeForm(this.signal, {
        fixed: { fork: this.fork },
        prompt: run.prompt,
        settings: { "guidance.estimator": settings.guidance?.estimator, seed: settings.seed, num_steps: run.num_steps },
        given: { num_steps: String(more) },
        label: "New prompt",
        button: "Go on",
      }),
    );
  }

  async showSaved(run, completed = null) {
    if (!hasSplats(run)) {
      this.message.textContent = run.state === "queued" ? "Waiting in the queue." : "";
      return;
    }
    const query = completed === null ? "" : `?completed=${completed}`;
    try {
      this.draw(await splats(`${runPath(run.name)}/splats${query}`, { signal: this.signal }));
    } catch (error) {
      if (!this.signal.aborted && !this.view.renderer) this.message.textContent = error.message;
    }
  }

  draw(buffer) {
    const scene = this.view.show(buffer);
    this.seen = true;
    this.message.textContent = "";
    const part = scene.count < 0.9 * scene.total ? " · the most visible are shown while it forms" : "";
    this.progress.title = `${counted(this.run ?? {})}${part}`;
  }

  // Frames as they come, while the run goes on and somebody can see them.
  async watch() {
    let after = 0;
    while (!this.signal.aborted) {
      const { run } = this;
      if (!run || !isActive(run) || document.hidden) {
        await pause(300, this.signal);
        continue;
      }
      if (!this.seen) this.message.textContent = "Getting ready…";
      try {
        const response = await fetch(`/api/${runPath(run.name)}/frame?after=${after}`, { signal: this.signal });
        if (response.status === 200) {
          after = Number(response.headers.get("X-Frame"));
          this.draw(await response.arrayBuffer());
        } else await pause(500, this.signal);
      } catch {
        await pause(1000, this.signal);
      }
    }
  }
}

// How it was made, and from what.
function factsOf(run) {
  const { source } = run;
  const from = source && [" · from ", h("a", { href: `#/run/${encodeURIComponent(source.run)}` }, source.run), ` at step ${source.completed}`];
  const steps = !isActive(run) && run.completed > 0 && run.state === "done" ? plural(run.completed, "step") : "";
  const words = [steps, run.asset !== "splat" && run.asset, run.estimator, `seed ${run.seed}`];
  return [words.filter(Boolean).join(" · "), from].flat().filter(Boolean);
}

const aboutFork = (completed) => `A new run begins from this one's splat after ${plural(completed, "step")}; this one stays as it is.`;

function pause(milliseconds, signal) {
  return new Promise((done) => {
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), done()), { once: true });
  });
}
