// The queue, live: one stream a tab, which is closed while the tab is hidden and goes on where it was.
import { api, html, say, signal, t, tell, time, told as words, useState, worded } from "./core.js";

export const jobs = signal([]);
export const previews = signal({}); // of each job that draws: its picture as it looks now
export const arrived = signal(null); // the last result of any job
let last = null;
let source = null;
let asking = 0;

export async function refresh() {
  const mine = ++asking;
  const found = await api("/api/jobs?every=true").catch(tell);
  if (found && mine === asking) jobs.value = found;
}

function hear(event) {
  last = event.lastEventId;
  const { job, kind, told } = JSON.parse(event.data);
  if (kind === "progress") {
    jobs.value = jobs.value.map((one) => one.id === job ? { ...one, fr: undefined, ...told } : one);
  } else if (kind === "preview") {
    previews.value = { ...previews.value, [job]: told.picture };
  } else if (kind === "state") {
    refresh();
    if (told.state !== "running") previews.value = { ...previews.value, [job]: undefined };
    if (told.state === "failed") say(`${t("state failed")}: ${worded(told, "message")}`);
    if (told.state === "done") say(t("job done", { n: job }));
  } else {
    arrived.value = { job, kind, told };
    if (told.sha256) previews.value = { ...previews.value, [job]: undefined };
  }
}

function open() {
  if (source || document.hidden) return;
  source = new EventSource(last === null ? "/api/events" : `/api/events?after=${last}`);
  source.onmessage = hear;
  source.addEventListener("hello", (event) => { last = event.lastEventId; refresh(); });
}

export function listen() {
  open();
  document.addEventListener("visibilitychange", () => {
    if (document.hidden && source) {
      source.close();
      source = null;
    } else {
      open();
    }
  });
}

export async function ask(kind, request) {
  const job = await api("/api/jobs", { kind, request });
  await refresh();
  say(t("job queued", { n: job.id }));
  return job;
}

const act = (job, what, body = {}) => api(`/api/jobs/${job.id}/${what}`, body).then(refresh, tell);

export const title = (job) => {
  const asked = job.request;
  const who = asked.character || (asked.characters || []).join(", ") || asked.name || asked.recipe || "";
  return `${t(`kind ${job.kind}`)} ${who}${asked.prompt ? `: ${asked.prompt}` : ""}`;
};

function Job({ job, before }) {
  const open = ["running", "queued", "stopped"].includes(job.state);
  const tone = { done: "good", failed: "bad", stopped: "warn", running: "good" }[job.state] || "";
  return html`<div class="job" data-job=${job.id} data-state=${job.state}>
    <span class="tag ${tone}">${job.ending ? t("state ending") : t(`state ${job.state}`)}</span>
    <div class="grow"><div>${title(job)}</div>
      ${job.state === "running" && html`<progress max="1" value=${job.total ? job.done / job.total : undefined} aria-label=${title(job)}></progress>
        <div class="small faint num">${words(job, "what")}${job.remaining !== null && job.total ? ` · ${t("left", { time: time(job.remaining) })}` : ""}</div>`}
      ${job.message && html`<div class="small faint">${words(job)}</div>`}</div>
    ${before && html`<button onClick=${() => act(job, "move", { before: before.id })} aria-label=${t("earlier")} title=${t("earlier")}>↑</button>`}
    ${["stopped", "failed", "cancelled"].includes(job.state) && html`<button class=${job.state === "stopped" ? "strong" : ""} onClick=${() => act(job, "continue")}>${t("continue")}</button>`}
    ${open && html`<button onClick=${() => act(job, "cancel")} disabled=${job.ending}>${t("cancel")}</button>`}
  </div>`;
}

export function Bar() {
  const [whole, show] = useState(false);
  const open = jobs.value.filter((job) => ["running", "queued", "stopped"].includes(job.state));
  const queued = open.filter((job) => job.state === "queued");
  const shown = whole ? jobs.value.slice(0, 50) : open.slice(0, 1);
  return html`<section class="bar" aria-label=${t("queue")}>
    ${shown.map((job) => html`<${Job} key=${job.id} job=${job} before=${queued[queued.indexOf(job) - 1]} />`)}
    <div class="row small"><span class="faint">${open.length ? t("open jobs", { n: open.length }) : t("no jobs")}</span>
      <button class="quiet" aria-expanded=${whole} onClick=${() => show(!whole)}>${whole ? t("less") : t("all jobs")}</button></div>
  </section>`;
}
