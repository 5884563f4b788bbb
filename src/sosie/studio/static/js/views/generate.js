// Generate: one prompt box; images appear with verdict and reason as they come.
import { api, choice, decimal, effect, field, go, html, picture, remembered, say, signal, t, tell, told, useEffect, useState, worded } from "../core.js";
import { arrived, ask, jobs, previews } from "../live.js";
import { Cell } from "../grid.js";
import { Drop, load, names, Nobody } from "./characters.js";
import { look } from "./viewer.js";

export const form = remembered("generate", { character: "", prompt: "", n: "4", recipe: "", seed: "", size: "", negative: "", attempts: "8", engine: "diffusers", steps: "", cfg: "", sampler: "", schedule: "" });
const recipes = signal([]);
const shown = signal([]); // images of the job that is looked at, the newest first
const watched = remembered("watched", { job: 0 });

export async function show(job) {
  watched.value = { job };
  const found = await api(`/api/images?job=${job}&count=200`).catch(tell);
  if (found && watched.value.job === job) shown.value = found.images;
}

effect(() => {
  const news = arrived.value;
  if (news && news.job === watched.peek().job && news.told.sha256) {
    api(`/api/images/${news.told.sha256}`).then((image) => {
      if (watched.peek().job === news.job && !shown.peek().some((one) => one.render === image.render)) shown.value = [image, ...shown.peek()];
    }, tell);
  }
});

export const randomSeed = () => String(crypto.getRandomValues(new Uint32Array(1))[0]);

const CLEARED = { seed: "", size: "", negative: "", steps: "", cfg: "", sampler: "", schedule: "" };
const given = signal({}); // what a restored image asks for beside the form: the image that it works on
export const report = signal(null); // what was restored of an image, and what was not

// What is not here is not put into the form: it is said.
export function restore(settings, name) {
  const { source, stages, ...asked } = settings.asked;
  const left = [...(settings.unused || [])];
  const here = { character: names(), recipe: recipes.value.filter((one) => !one.error).map((one) => one.name) };
  for (const [key, all] of Object.entries(here)) {
    if (asked[key] && all.length && !all.includes(asked[key])) {
      left.push([key, asked[key]]);
      delete asked[key];
    }
  }
  form.value = { ...form.value, ...CLEARED, ...asked };
  given.value = source ? { source, stages } : {};
  report.value = name === undefined ? null : { name, how: settings.how, done: [...Object.keys(asked), ...(source ? ["source"] : [])], left };
}

export async function restoreFrom(file) {
  const taken = await api("/api/uploads", file).catch(tell);
  if (!taken) return;
  await Promise.all([load(), loadRecipes()]);
  if (taken.settings) restore(taken.settings, file.name);
  else report.value = { name: file.name, how: "", done: [], left: [] };
  say(t(taken.settings ? "restored" : "no settings", { name: file.name }));
  go("/generate");
}

const loadRecipes = () => api("/api/recipes").then((found) => { recipes.value = found; }, tell);
const whole = (text) => String(text).trim() === "" ? null : Number(text);

export async function run(more = {}) {
  const { n, attempts, seed, negative, steps, cfg, ...rest } = { ...form.value, ...given.value, ...more };
  const request = { ...rest, n: Number(n), attempts: Number(attempts), steps: whole(steps), cfg: decimal(String(cfg)), seed: JSON.rawJSON ? JSON.rawJSON(String(seed || randomSeed())) : Number(seed || randomSeed()), negative: negative || null };
  const job = await ask("generate", request);
  shown.value = [];
  await show(job.id);
  return job;
}

export function Generate({ rest }) {
  const [busy, work] = useState(false);
  useEffect(() => {
    load().then(() => {
      const wanted = rest[0] ? decodeURIComponent(rest[0]) : form.value.character;
      form.value = { ...form.value, character: names().includes(wanted) ? wanted : names()[0] || "" };
    });
    loadRecipes();
    if (watched.value.job) show(watched.value.job);
  }, []);
  async function submit(event) {
    event.preventDefault();
    work(true);
    await run().catch(tell);
    work(false);
  }
  const job = jobs.value.find((one) => one.id === watched.value.job);
  const kept = shown.value.filter((one) => one.verdict === "keep").length;
  const set = (event) => { form.value = { ...form.value, prompt: event.target.value }; };
  return html`<h1>${t("view generate")}</h1><div class="cols">
    <form class="card stack" onSubmit=${submit}>
      ${report.value && html`<${Restored} report=${report.value} />`}
      ${given.value.source && html`<div class="row"><img class="thumb" src=${picture(given.value.source, 160)} alt=${t("works on")} /><span>${t("works on")}</span><button type="button" class="quiet" onClick=${() => { given.value = {}; }}>${t("from nothing")}</button></div>`}
      <${Nobody} />${choice(form, "character", names())}
      <label>${t("field prompt")}<textarea name="prompt" value=${form.value.prompt} onInput=${set} placeholder=${t("prompt example")}
        onKeyDown=${(event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) event.target.form.requestSubmit(); }}></textarea></label>
      <div class="fields">${choice(form, "recipe", ["", ...recipes.value.filter((one) => !one.error).map((one) => one.name)], (one) => one || t("the usual"))}
        ${field(form, "n", { type: "number", min: 1, max: 1000, required: true })}</div>
      ${form.value.recipe && html`<${Fetch} recipe=${form.value.recipe} key=${form.value.recipe} />`}
      <details><summary>${t("advanced")}</summary><div class="stack">
        <div class="fields">${field(form, "seed", { inputmode: "numeric", pattern: "[0-9]*", placeholder: t("random") })}${field(form, "size", { placeholder: "512x768" })}</div>
        ${field(form, "negative")}
        <div class="fields">${field(form, "steps", { inputmode: "numeric", pattern: "[0-9]*", placeholder: t("the usual") })}${field(form, "cfg", { inputmode: "decimal", placeholder: t("the usual") })}</div>
        <div class="fields">${field(form, "sampler", { placeholder: t("the usual") })}${field(form, "schedule", { placeholder: t("the usual") })}</div>
        <div class="fields">${field(form, "attempts", { type: "number", min: 1, max: 100 })}${field(form, "engine")}</div></div></details>
      <button class="strong" disabled=${busy || !form.value.character}>${t("view generate")} <span class="small">Ctrl+↵</span></button>
      <${Drop} take=${(list) => restoreFrom(list[0])} accept="image/*" text=${t("drop settings")} />
    </form>
    <section class="stack" aria-label=${t("results")}>
      ${job && html`<div class="row"><span class="tag">${t(`state ${job.state}`)}</span><span>${job.request.prompt || t("recipe prompt")}</span><span class="faint num">${t("kept of", { kept, n: job.request.n })}</span></div>`}
      ${!shown.value.length && html`<p class="faint">${job && job.state !== "done" ? t("images come") : t("nothing yet")}</p>`}
      <div class="results">${job && previews.value[job.id] && html`<figure class="cell drawing"><img src=${`data:image/jpeg;base64,${previews.value[job.id]}`} alt=${t("drawn now")} />
          <figcaption class="under"><span class="tag">${t("drawing")}</span><span class="why">${told(job, "what")}</span></figcaption></figure>`}${shown.value.map((image) => html`<div key=${image.render}><button class="cell" onClick=${() => look(image)} aria-label=${t("look at", { n: image.seed })}><${Inside} image=${image} /></button></div>`)}</div>
    </section></div>`;
}

// A download of many gigabytes is asked for twice.
function Fetch({ recipe }) {
  const [sure, ask_] = useState(false);
  const begin = () => { ask_(false); ask("fetch", { recipe }).catch(tell); };
  return html`<div class="row">${sure ? html`<span class="small">${t("fetch means", { recipe })}</span><button type="button" class="strong" onClick=${begin}>${t("fetch")}</button><button type="button" onClick=${() => ask_(false)}>${t("cancel")}</button>`
    : html`<button type="button" class="quiet" onClick=${() => ask_(true)}>${t("fetch files", { recipe })}</button>`}</div>`;
}

function Restored({ report: { name, how, done, left } }) {
  const called = (key) => { const text = t(`field ${key}`); return text === `field ${key}` ? key : text; };
  return html`<section class="finding ${left.length || !how ? "warning" : ""}" aria-label=${t("restored", { name })}>
    <div class="told"><strong>${how ? t(`how ${how}`, { name }) : t("no settings", { name })}</strong><button type="button" class="quiet" aria-label=${t("close")} onClick=${() => { report.value = null; }}>✕</button></div>
    ${done.length > 0 && html`<p class="small">${t("brought back", { what: done.map(called).join(", ") })}</p>`}
    ${left.length > 0 && html`<details open=${left.length < 6}><summary class="small">${t("not brought back", { n: left.length })}</summary>
      <ul class="small">${left.map(([key, value]) => html`<li>${called(key)}: ${value}</li>`)}</ul></details>`}</section>`;
}

function Inside({ image }) {
  const cell = Cell({ image, style: "", place: image.render });
  return html`${cell.props.children}${image.verdict !== "keep" && html`<div class="under"><span class="why">${worded(image, "reasons").join("; ")}</span></div>`}`;
}
