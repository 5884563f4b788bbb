// Generate: one prompt box; images appear with verdict and reason as they come.
import { api, choice, effect, field, html, remembered, signal, t, tell, useEffect, useState } from "../core.js";
import { arrived, ask, jobs, previews } from "../live.js";
import { Cell } from "../grid.js";
import { Drop, load, names } from "./characters.js";
import { look } from "./viewer.js";

export const form = remembered("generate", { character: "", prompt: "", n: "4", recipe: "", seed: "", size: "", negative: "", attempts: "8", engine: "diffusers" });
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

export function restore(settings) {
  form.value = { ...form.value, seed: "", size: "", negative: "", ...settings.asked };
}

export async function run(more = {}) {
  const { n, attempts, seed, negative, ...rest } = { ...form.value, ...more };
  const request = { ...rest, n: Number(n), attempts: Number(attempts), seed: JSON.rawJSON ? JSON.rawJSON(String(seed || randomSeed())) : Number(seed || randomSeed()), negative: negative || null };
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
    api("/api/recipes").then((found) => { recipes.value = found; }, tell);
    if (watched.value.job) show(watched.value.job);
  }, []);
  async function submit(event) {
    event.preventDefault();
    work(true);
    await run().catch(tell);
    work(false);
  }
  async function drop(list) {
    const taken = await api("/api/uploads", list[0]).catch(tell);
    if (taken && taken.settings) restore(taken.settings);
    else if (taken) tell(new Error(t("no settings")));
  }
  const job = jobs.value.find((one) => one.id === watched.value.job);
  const kept = shown.value.filter((one) => one.verdict === "keep").length;
  const set = (event) => { form.value = { ...form.value, prompt: event.target.value }; };
  return html`<h1>${t("view generate")}</h1><div class="cols">
    <form class="card stack" onSubmit=${submit}>
      ${choice(form, "character", names())}
      <label>${t("field prompt")}<textarea name="prompt" value=${form.value.prompt} onInput=${set} placeholder=${t("prompt example")}
        onKeyDown=${(event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) event.target.form.requestSubmit(); }}></textarea></label>
      <div class="fields">${choice(form, "recipe", ["", ...recipes.value.filter((one) => !one.error).map((one) => one.name)], (one) => one || t("the usual"))}
        ${field(form, "n", { type: "number", min: 1, max: 1000, required: true })}</div>
      <details><summary>${t("advanced")}</summary><div class="stack">
        <div class="fields">${field(form, "seed", { inputmode: "numeric", pattern: "[0-9]*", placeholder: t("random") })}${field(form, "size", { placeholder: "512x768" })}</div>
        ${field(form, "negative")}
        <div class="fields">${field(form, "attempts", { type: "number", min: 1, max: 100 })}${field(form, "engine")}</div></div></details>
      <button class="strong" disabled=${busy || !form.value.character}>${t("view generate")} <span class="small">Ctrl+↵</span></button>
      <${Drop} take=${drop} accept="image/*" text=${t("drop settings")} />
    </form>
    <section class="stack" aria-label=${t("results")}>
      ${job && html`<div class="row"><span class="tag">${t(`state ${job.state}`)}</span><span>${job.request.prompt || t("recipe prompt")}</span><span class="faint num">${t("kept of", { kept, n: job.request.n })}</span></div>`}
      ${!shown.value.length && html`<p class="faint">${job && job.state !== "done" ? t("images come") : t("nothing yet")}</p>`}
      <div class="results">${job && previews.value[job.id] && html`<figure class="cell drawing"><img src=${`data:image/jpeg;base64,${previews.value[job.id]}`} alt=${t("drawn now")} />
          <figcaption class="under"><span class="tag">${t("drawing")}</span><span class="why">${job.what}</span></figcaption></figure>`}${shown.value.map((image) => html`<div key=${image.render}><button class="cell" onClick=${() => look(image)} aria-label=${t("look at", { n: image.seed })}><${Inside} image=${image} /></button></div>`)}</div>
    </section></div>`;
}

function Inside({ image }) {
  const cell = Cell({ image, style: "", place: image.render });
  return html`${cell.props.children}${image.verdict !== "keep" && html`<div class="under"><span class="why">${image.reasons.join("; ")}</span></div>`}`;
}
