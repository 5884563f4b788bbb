// Experiments: put together with cost and power in sight, watched while the table fills, read, and decided on.
import { api, choice, count, decimal, field, go, html, number, picture, remembered, say, signal, t, tell, time, told, useEffect, useState, worded } from "../core.js";
import { arrived, ask, jobs } from "../live.js";
import { load, names, Nobody } from "./characters.js";

const begun = signal([]);
const recipes = signal([]);
const look = async () => { begun.value = await api("/api/experiments").catch(tell) ?? begun.value; };
const at = (name) => `/api/experiments/${encodeURIComponent(name)}`;

export const form = remembered("experiment", { name: "", character: "", recipe: "", question: "", prompts: "", seeds: "12", axes: [], baseline: "", endpoint: "identity", stopping: "anytime", compare: "arms", margin: "", price: "", engine: "diffusers" });

export function Experiments({ rest }) {
  useEffect(() => {
    load();
    look();
    api("/api/recipes").then((found) => { recipes.value = found.filter((one) => !one.error).map((one) => one.name); }, tell);
  }, []);
  if (rest[0] === "new") return html`<${New} />`;
  if (rest[0]) return html`<${One} name=${decodeURIComponent(rest[0])} key=${rest[0]} />`;
  return html`<div class="head"><h1>${t("view experiments")}</h1><button class="strong" onClick=${() => go("/experiments/new")}>${t("new experiment")}</button></div>
    <section class="card">${begun.value.length ? html`<table><thead><tr><th>${t("field question")}</th><th>${t("state")}</th><th>${t("found")}</th></tr></thead><tbody>${begun.value.map((one) => html`<tr key=${one.id}>
      <td><a href=${`#/experiments/${encodeURIComponent(one.id)}`}>${one.question || one.id}</a><div class="small faint">${one.id}${one.arms ? ` · ${t("arms", { n: one.arms })}` : ""}</div></td>
      <td>${t(`experiment ${one.state || "waiting"}`)}</td><td>${summary(one)}</td></tr>`)}</tbody></table>` : html`<p class="faint">${t("no experiments")}</p>`}</section>
    <${Decisions} />`;
}

const summary = (one) => {
  if (one.winner) return html`<span class="tag ${one.winner.is_confirmed ? "good" : "warn"}">${one.winner.arm}</span> ${one.winner.is_confirmed ? t("confirmed") : t("not confirmed")}`;
  const decided = (one.contrasts || []).filter((each) => each.verdict !== "undecided");
  return decided.length ? decided.map((each) => `${each.name}: ${t(`verdict ${each.verdict}`)}`).join("; ") : html`<span class="faint">– ${t("nothing decided")}</span>`;
};

// ---- a new one

const words = (text, numbers) => text.split(numbers ? /[;\s]+/ : /;/).map((one) => one.trim()).filter(Boolean);
function valuesOf(axis) {
  const kind = typeof axis.value;
  const found = words(axis.text, kind === "number");
  return kind === "number" ? found.map(decimal) : kind === "boolean" ? found.map((one) => one === "true") : found;
}
const slug = (text) => text.toLowerCase().normalize("NFD").replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 40);

function request() {
  const { prompts, seeds, axes, margin, price, engine, name, question, ...rest } = form.value;
  const lines = prompts.split("\n").map((one) => one.trim()).filter(Boolean);
  return { ...rest, question, name: name || slug(question), prompts: lines.length ? lines : [""], seeds: Number(seeds), margin: decimal(margin), axes: axes.map((axis) => ({ field: axis.field, values: valuesOf(axis) })) };
}

function New() {
  const [fields, know] = useState([]);
  const [forecast, foretell] = useState(null);
  const [wrong, complain] = useState("");
  const [busy, work] = useState(false);
  const asked = form.value;
  useEffect(() => {
    load().then(() => {
      const { character, recipe } = form.value;
      form.value = { ...form.value, character: names().includes(character) ? character : names()[0] || "", recipe: recipe || "mini" };
    });
  }, []);
  useEffect(() => {
    if (asked.recipe) api(`/api/recipes/${encodeURIComponent(asked.recipe)}/fields`).then(know, tell);
  }, [asked.recipe]);
  const key = JSON.stringify(asked);
  useEffect(() => {
    const { price, engine } = asked;
    const body = { ...request(), price: decimal(price) || 0, engine };
    if (!asked.character || !body.name || !body.axes.length || body.axes.some((axis) => !axis.values.length)) { foretell(null); complain(""); return undefined; }
    const stop = new AbortController();
    const later = setTimeout(() => api("/api/experiments/forecast", body, { signal: stop.signal }).then((found) => { foretell(found); complain(""); }, (error) => { if (error.name !== "AbortError") { foretell(null); complain(error.message); } }), 250);
    return () => { clearTimeout(later); stop.abort(); };
  }, [key]);
  const change = (axes) => { form.value = { ...form.value, axes }; };
  async function run(event) {
    event.preventDefault();
    work(true);
    try {
      const { name } = await api("/api/experiments", request());
      await ask("experiment", { name, engine: form.value.engine });
      form.value = { ...form.value, name: "", question: "", baseline: "" };
      go(`/experiments/${encodeURIComponent(name)}`);
    } catch (error) {
      tell(error);
    }
    work(false);
  }
  const set = (event) => { form.value = { ...form.value, [event.target.name]: event.target.value }; };
  return html`<h1>${t("new experiment")}</h1><form class="cols even" onSubmit=${run}><div class="card stack">
      ${field(form, "question", { required: true, placeholder: t("question example") })}
      ${field(form, "name", { placeholder: slug(asked.question), maxlength: 64, pattern: "[\\p{L}\\p{N}_\\-]+" })}
      <${Nobody} /><div class="fields">${choice(form, "character", names())}${choice(form, "recipe", recipes.value)}</div>
      <fieldset class="stack"><legend>${t("axes")}</legend>
        ${asked.axes.map((axis, place) => html`<div class="axis" key=${axis.field}><label>${axis.field}<input value=${axis.text} required aria-label=${t("values of", { field: axis.field })} onInput=${(event) => change(asked.axes.map((one, other) => other === place ? { ...one, text: event.target.value } : one))} /></label>
          <button type="button" class="quiet" aria-label=${t("remove", { name: axis.field })} onClick=${() => change(asked.axes.filter((one) => one !== axis))}>✕</button></div>`)}
        <label>${t("add axis")}<select value="" onChange=${(event) => { const found = fields.find((one) => one.field === event.target.value); event.target.value = ""; if (found) change([...asked.axes, { ...found, text: String(found.value) }]); }}><option value="">${t("choose field")}</option>
          ${fields.filter((one) => !asked.axes.some((axis) => axis.field === one.field)).map((one) => html`<option value=${one.field}>${one.field} = ${String(one.value)}</option>`)}</select></label>
        <p class="small faint">${t("values how")}</p></fieldset>
      <label>${t("field prompts")}<textarea name="prompts" value=${asked.prompts} onInput=${set} placeholder=${t("prompts example")}></textarea></label>
      ${field(form, "seeds", { type: "number", min: 1, max: 10000, required: true })}
      <details><summary>${t("advanced")}</summary><div class="stack"><div class="fields">
        ${choice(form, "stopping", ["anytime", "none"], (one) => t(`stopping ${one}`))}${choice(form, "compare", ["arms", "axes"], (one) => t(`compare ${one}`))}
        ${field(form, "margin", { inputmode: "decimal", placeholder: t("the usual") })}${field(form, "endpoint", { required: true })}
        ${field(form, "price", { inputmode: "decimal", placeholder: "0" })}${field(form, "engine", { required: true })}</div></div></details>
    </div><section class="stack" aria-live="polite" aria-label=${t("forecast")}>
      ${wrong && html`<div class="finding error">${wrong}</div>`}
      ${forecast ? html`<${Forecast} found=${forecast} />` : !wrong && html`<p class="faint">${t("choose axes")}</p>`}
      <button class="strong" disabled=${busy || !forecast}>${forecast ? t("declare and run", { n: count(forecast.images) }) : t("declare")}</button></section></form>`;
}

function Forecast({ found }) {
  const { design } = found;
  const rows = [
    ["cells", t("cells are", { cells: count(found.cells), arms: count(found.arms), blocks: count(found.blocks) })],
    ["images", t("images are", { n: count(found.images), fresh: count(found.fresh) })],
    ["duration", found.hours === null ? t("not known why", { why: worded(found, "basis") }) : `${time(found.hours * 3600)} (${worded(found, "basis")})`],
    ["money", found.money === null ? t("not known why", { why: worded(found, "basis") }) : number(found.money, 2)],
    ["disk", `${number(found.bytes / 1e6, 1)} MB`],
    ["smallest", found.smallest === null ? t("shows nothing", { clip: number(design.clip, 2) }) : t("shows from", { smallest: number(found.smallest, 2), margin: number(design.margin, 2) })],
  ];
  return html`<div class="card"><h2>${t("forecast")}</h2><table><tbody>${rows.map(([key, text]) => html`<tr class=${key === "smallest" ? "strong" : ""}><th scope="row">${t(`foreseen ${key}`)}</th><td>${text}</td></tr>`)}</tbody></table>
      ${found.longer !== null && html`<p class="small faint">${t("four times", { n: number(found.longer, 2) })}</p>`}</div>
    <div class="card">${choice(form, "baseline", ["", ...found.names], (one) => one || found.names[0])}
      <ol class="small arms">${found.names.map((arm) => html`<li key=${arm}>${arm}</li>`)}</ol></div>`;
}

// ---- one experiment

function One({ name }) {
  const [found, set] = useState(null);
  const [cells, fill] = useState([]);
  const base = name.replace(/-[0-9a-f]{8,}$/, "");
  const job = jobs.value.filter((one) => one.kind === "experiment" && [name, base].includes(one.request.name)).sort((a, b) => b.id - a.id)[0];
  const live = job && ["running", "queued", "stopped"].includes(job.state);
  useEffect(() => { api(at(name)).then(set, tell); if (!live) look(); }, [name, live]);
  useEffect(() => {
    if (live) api(`/api/jobs/${job.id}/events`).then((told) => fill((now) => merged([...told.map((one) => one.told), ...now])), tell);
  }, [live, job?.id]);
  const news = arrived.value;
  useEffect(() => { if (live && news && news.job === job.id) fill((now) => merged([...now, news.told])); }, [news]);
  const shown = live ? { ...found, cells } : found;
  if (!shown) return html`<h1>${name}</h1><p>${t("loading")}</p>`;
  const run = () => ask("experiment", { name: base, engine: job?.request.engine || "diffusers" }).catch(tell);
  return html`<div class="head"><h1>${shown.question || name}</h1><span class="tag">${live ? t(`state ${job.state}`) : t(`experiment ${shown.state || "waiting"}`)}</span>
      <div class="row">${!live && shown.state !== "finished" && html`<button class="strong" onClick=${run}>${t(shown.state ? "continue" : "run")}</button>`}
      ${!live && shown.digest && html`<a class="button" target="_blank" rel="noopener" href=${`${at(shown.id)}/report/${document.documentElement.lang}`}>${t("open report")}</a>`}</div></div>
    ${live && html`<p class="num" role="status">${t("cells so far", { n: count(cells.length), of: count(cells[cells.length - 1]?.total || 0) })}${job.remaining !== null && job.total ? ` · ${t("left", { time: time(job.remaining) })}` : ""}</p>`}
    ${!live && shown.contrasts.length > 0 && html`<${Contrasts} found=${shown} />`}
    <${Table} cells=${shown.cells} prompts=${shown.prompts || []} />
    ${!live && shown.digest && html`<${Decide} found=${shown} />`}`;
}

// The newest word on a cell counts; what is no cell is left out.
function merged(told) {
  const found = new Map();
  for (const one of told) if (one.noun === "CellDone" || (one.arm && !one.noun)) found.set(`${one.arm}|${one.prompt}|${one.seed}`, one);
  return [...found.values()];
}

const signed = (value) => `${value > 0 ? "+" : ""}${number(value)}`;
const interval = (one) => one.estimate === null ? "–" : `${signed(one.estimate)}${one.low === null || one.high === null ? "" : ` (${signed(one.low)} … ${signed(one.high)})`}`;
const TONE = { better: "good", worse: "bad", same: "", undecided: "warn" };

function Contrasts({ found }) {
  return html`<section class="card"><h2>${t("answers")}</h2>
    ${found.winner && html`<p><strong>${t("won", { arm: found.winner.arm })}</strong> ${found.winner.fresh ? `${t("on fresh seeds")} ${interval(found.winner.fresh)}: ` : ""}${found.winner.is_confirmed ? t("confirmed") : t("not confirmed")}</p>`}
    <div class="wide"><table><thead><tr><th>${t("contrast")}</th><th>${t("verdict")}</th><th class="num">${t("difference")}</th><th class="num">${t("blocks")}</th></tr></thead><tbody>
    ${found.contrasts.map((one) => html`<tr key=${one.name}><td>${one.name}${one.note && html`<div class="small faint">${told(one, "note")}</div>`}</td><td><span class="tag ${TONE[one.verdict]}">${t(`verdict ${one.verdict}`)}</span></td><td class="num">${interval(one)}</td><td class="num">${one.n}</td></tr>`)}</tbody></table></div>
    ${(worded(found, "deviations") || []).map((one) => html`<p class="small faint">${one}</p>`)}</section>`;
}

const mean = (cells) => {
  const values = cells.map((one) => one.score).filter((one) => one !== null && one !== undefined);
  return values.length ? values.reduce((sum, one) => sum + one, 0) / values.length : null;
};

function Table({ cells, prompts }) {
  const [pictures, show] = useState(true);
  const own = cells.filter((one) => !one.fresh);
  const arms = [...new Set(own.map((one) => one.arm))].slice(0, 100);
  const places = [...new Set(own.map((one) => one.prompt))].sort((a, b) => a - b).slice(0, 12);
  if (!own.length) return html`<p class="faint">${t("table fills")}</p>`;
  return html`<section class="card"><div class="head"><h2>${t("table")}</h2><label class="check"><input type="checkbox" checked=${pictures} onChange=${(event) => show(event.target.checked)} />${t("show pictures")}</label></div>
    <div class="wide"><table class="cells"><thead><tr><th>${t("arm")}</th>${places.map((place) => html`<th key=${place} title=${prompts[place]}>${prompts[place] || t("prompt n", { n: place + 1 })}</th>`)}<th class="num">${t("all")}</th></tr></thead><tbody>
    ${arms.map((arm) => {
      const mine = own.filter((one) => one.arm === arm);
      const kept = mine.filter((one) => one.kept).length;
      return html`<tr key=${arm} data-arm=${arm}><th scope="row">${arm}</th>${places.map((place) => {
        const here = mine.filter((one) => one.prompt === place);
        const failed = here.filter((one) => one.error);
        return html`<td key=${place}><span class="num" title=${mean(here) === null ? t("no score why") : ""}>${number(mean(here), 2)} <span class="faint small">×${here.length}</span></span>
          ${failed.length > 0 && html`<span class="tag bad" title=${worded(failed[0], "error")}>${t("failed n", { n: failed.length })}</span>`}
          ${pictures && html`<div class="thumbs">${here.filter((one) => one.image).slice(0, 6).map((one) => html`<img key=${one.seed} loading="lazy" src=${picture(one.image, 160)} alt=${t("cell of", { arm, seed: one.seed })} />`)}</div>`}</td>`;
      })}<td class="num"><strong>${number(mean(mine), 2)}</strong><div class="small faint">${t("kept of", { kept, n: mine.length })}</div></td></tr>`;
    })}</tbody></table></div></section>`;
}

// ---- decisions

const decisions = signal([]);
const recall = () => api("/api/decisions").then((found) => { decisions.value = found; }, tell);

function Decide({ found }) {
  const first = found.contrasts.find((one) => one.verdict !== "undecided") || found.contrasts[0];
  const own = useState(() => signal({ title: found.winner ? t("in place of", { one: found.winner.arm, other: found.baseline }) : "", contrast: first?.name || "", why: "", would_change: "", without_evidence: "" }))[0];
  const [wrong, complain] = useState("");
  async function put(event) {
    event.preventDefault();
    complain("");
    try {
      const made = await api("/api/decisions", { ...own.value, because: found.id, character: found.character, proposed: event.submitter.name === "proposed" });
      say(t("decided", { id: made.id }));
      recall();
    } catch (error) {
      complain(error.hint ? `${error.message} – ${error.hint}` : error.message);
    }
  }
  return html`<section class="card"><h2>${t("decide")}</h2><form class="stack" onSubmit=${put}>
      ${field(own, "title", { required: true, maxlength: 300 })}
      ${choice(own, "contrast", found.contrasts.map((one) => one.name))}
      ${field(own, "why")}${field(own, "would_change")}
      ${wrong && html`<div class="finding error" role="alert">${wrong}</div>`}
      <div class="row"><button class="strong" name="accepted">${t("accept decision")}</button><button name="proposed">${t("propose decision")}</button></div></form></section><${Decisions} />`;
}

function Decisions() {
  useEffect(() => { recall(); }, []);
  if (!decisions.value.length) return null;
  return html`<section class="card"><h2>${t("decisions")}</h2><table><tbody>${decisions.value.map((one) => html`<tr key=${one.id}><td><strong>${one.title}</strong><div class="small faint">${one.id} · ${one.date}${one.why ? ` · ${one.why}` : ""}</div></td>
    <td><span class="tag ${{ accepted: "good", doubted: "warn" }[one.status] || ""}">${t(`decision ${one.status}`)}</span></td>
    <td>${one.status === "proposed" && html`<button onClick=${() => api(`/api/decisions/${one.id}/accept`, {}).then(recall, tell)}>${t("accept decision")}</button>`}</td></tr>`)}</tbody></table></section>`;
}
