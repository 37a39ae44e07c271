// The server, as the page sees it: requests that raise sentences, and the runs, kept current.

export async function request(method, path, body) {
  const options = { method };
  if (body instanceof Blob) options.body = body;
  else if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers = { "Content-Type": "application/json" };
  }
  let response;
  try {
    response = await fetch(`/api/${path}`, options);
  } catch {
    throw new Error("The server does not answer. Is it still running?");
  }
  const text = await response.text();
  let answer = text;
  try {
    answer = JSON.parse(text);
  } catch {
    // a sentence, then
  }
  if (!response.ok) throw new Error(answer.error ?? text.trim());
  return answer;
}

export async function splats(path, options) {
  const response = await fetch(`/api/${path}`, options);
  if (response.status === 204) return null;
  if (!response.ok) {
    const answer = await response.json().catch(() => ({}));
    throw new Error(answer.error ?? "This cannot be shown.");
  }
  return response.arrayBuffer();
}

export const runPath = (name) => `runs/${encodeURIComponent(name)}`;
export const filePath = (run, inside) => `/api/${runPath(run.name)}/files/${inside}`;

export const ACTIVE = ["starting", "running", "paused", "finishing", "stopping"];
export const isActive = (run) => ACTIVE.includes(run?.state);

export const hasSplats = (run) => run.checkpoints.length > 0 || run.files.includes("point_cloud.ply");

// All runs by name, in the server's order; `changed` events tell the name, or "" for the list.
class Runs extends EventTarget {
  constructor() {
    super();
    this.all = new Map();
    this.known = false;
  }

  start(onconnection) {
    const source = new EventSource("/api/events");
    source.addEventListener("open", () => onconnection(true));
    source.addEventListener("error", () => onconnection(false));
    source.addEventListener("runs", ({ data }) => {
      this.all = new Map(JSON.parse(data).map((run) => [run.name, run]));
      this.known = true;
      this.tell("");
    });
    source.addEventListener("run", ({ data }) => this.put(JSON.parse(data)));
  }

  put(run) {
    this.all.set(run.name, run);
    this.tell(run.name);
  }

  tell(name) {
    this.dispatchEvent(new CustomEvent("changed", { detail: name }));
  }

  // Calls `listener` with the name that changed, until `signal` ends it.
  listen(listener, signal) {
    this.addEventListener("changed", ({ detail }) => listener(detail), { signal });
  }
}

export const runs = new Runs();

let form;
export const getForm = () => (form ??= request("GET", "form"));

export async function act(run, verb) {
  const [method, path] =
    verb === "star" ? [run.starred ? "DELETE" : "PUT", "star"] : ["POST", verb];
  runs.put(await request(method, `${runPath(run.name)}/${path}`));
}
