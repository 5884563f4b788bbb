// Training: the set with captions that are edited in place, what was trained, and the curve while it is.
import { api, go, html, number, say, signal, t, tell, told, useEffect, useState } from "../core.js";
import { arrived, ask, jobs, refresh } from "../live.js";
import { load, names, Nobody } from "./characters.js";

const trainers = signal([]);

export function Training({ rest }) {
  const [runs, set] = useState([]);
  const [recipe, choose] = useState("");
  useEffect(() => {
    load();
    api("/api/recipes").then((found) => { trainers.value = found.filter((one) => one.trains).map((one) => one.name); choose(trainers.value[0] || ""); }, tell);
  }, []);
  const state = jobs.value.filter((job) => job.kind === "train").map((job) => job.state).join();
  const begun = jobs.value.some((job) => job.kind === "train" && job.done > 0);
  useEffect(() => { api("/api/training").then(set, tell); }, [state, begun]);
  const name = rest[0] ? decodeURIComponent(rest[0]) : names()[0] || "";
  return html`<div class="head"><h1>${t("view training")}</h1>
      <div class="row"><label>${t("field character")}<select value=${name} onChange=${(event) => go(`/training/${encodeURIComponent(event.target.value)}`)}>${names().map((one) => html`<option value=${one} selected=${one === name}>${one}</option>`)}</select></label>
      <label>${t("field recipe")}<select value=${recipe} onChange=${(event) => choose(event.target.value)}>${trainers.value.map((one) => html`<option selected=${one === recipe}>${one}</option>`)}</select></label>
      <button class="strong" disabled=${!name || !recipe} onClick=${() => ask("train", { characters: [name], recipe }).catch(tell)}>${t("train")}</button></div></div>
    <${Nobody} /><section class="card"><h2>${t("runs")}</h2>${!runs.length && html`<p class="faint">${t("no runs")}</p>`}
      ${runs.map((run) => html`<${Run} run=${run} key=${run.id} />`)}</section>
    ${name && html`<${Set_} name=${name} key=${name} recipe=${recipe} />`}`;
}

function Set_({ name, recipe }) {
  const [members, set] = useState(null);
  useEffect(() => { api(`/api/characters/${encodeURIComponent(name)}/dataset`).then(set, tell); }, [name]);
  const news = arrived.value;
  useEffect(() => { if (news && news.told.noun === "BuiltSet") api(`/api/characters/${encodeURIComponent(name)}/dataset`).then(set, tell); }, [news]);
  async function write(member, event) {
    if (event.target.value.trim() === member.caption) return;
    try {
      const new_ = await api(`/api/characters/${encodeURIComponent(name)}/dataset/${member.sha256}/caption`, { caption: event.target.value });
      set((old) => old.map((one) => one.sha256 === new_.sha256 ? new_ : one));
      say(t("caption kept"));
    } catch (error) {
      tell(error);
      event.target.value = member.caption;
    }
  }
  if (!members) return html`<p>${t("loading")}</p>`;
  return html`<section class="card"><div class="head"><h2>${t("training set", { n: members.length })}</h2><button onClick=${() => ask("dataset", { character: name, n: 24, recipe }).catch(tell)}>${t("draw set")}</button></div>
    ${!members.length && html`<p class="faint">${t("no set")}</p>`}
    <div class="tiles">${members.map((member) => html`<figure key=${member.sha256}><img style="width:100%;aspect-ratio:1;object-fit:cover;border-radius:8px" loading="lazy" src=${`/api/characters/${encodeURIComponent(name)}/dataset/${member.sha256}?w=320`} alt=${member.caption} />
      <textarea class="small" aria-label=${t("caption of", { n: member.sha256.slice(0, 8) })} defaultValue=${member.caption} onBlur=${(event) => write(member, event)} onKeyDown=${(event) => { if (event.key === "Enter") { event.preventDefault(); event.target.blur(); } }}></textarea>
      <figcaption>${t(`by ${member.by === "given" ? "given" : "program"}`)}</figcaption></figure>`)}</div></section>`;
}

function Run({ run }) {
  const [found, set] = useState(null);
  const [open, show] = useState(run.runs);
  const news = arrived.value;
  const drawn = news && ["Sampled", "Validated", "Trained"].includes(news.told.noun) ? news : null;
  useEffect(() => {
    if (!open) return undefined;
    let over = false;
    let later = 0;
    const look = () => api(`/api/training/${run.id}/curve`).then((one) => { if (!over) set(one); if (!over && one.runs) later = setTimeout(look, 3000); }, tell);
    look();
    return () => { over = true; clearTimeout(later); };
  }, [open, run.runs, run.id, drawn]);
  const one = found || run;
  const wish = (what, text) => api(`/api/training/${run.id}/ask`, { wish: what }).then(() => say(t(text)), tell);
  const again = () => ask("train", { characters: one.characters, recipe: one.recipe }).catch(tell);
  const job = jobs.value.find((each) => each.kind === "train" && each.state === "running" && each.request.characters.join() === one.characters.join());
  return html`<details class="run" open=${open} data-run=${run.id} onToggle=${(event) => show(event.target.open)}><summary>${one.characters.join(", ")} · ${one.recipe} · ${t("step of", { n: one.step, of: one.steps })} <span class="tag ${one.runs ? "good" : ""}">${t(`run ${one.runs ? "runs" : one.cause || "killed"}`)}</span></summary>
    ${one.message && html`<p class="small">${told(one)}</p>`}
    <div class="row">${one.runs && html`<button class="strong" onClick=${() => wish("sample", "samples asked")}>${t("sample now")}</button>`}
      ${one.runs && job && html`<button onClick=${() => api(`/api/jobs/${job.id}/cancel`, {}).then(refresh, tell)} disabled=${job.ending}>${t("stop")}</button>`}
      ${one.rests && html`<button class="strong" onClick=${again}>${t("resume")}</button>`}
      ${(one.runs || one.rests) && html`<button onClick=${() => wish("deliver", "delivery asked").then(() => one.rests && again())}>${t("deliver best")}</button>`}
      ${one.path && html`<span class="small">${t("delivered", { step: one.best ?? "–" })} <code>${one.path.split(/[\\/]/).pop()}</code></span>`}</div>
    ${found && html`<div class="cols even"><${Curve} points=${found.points} /><${Samples} run=${found} /></div>`}</details>`;
}

const score = (run, step) => {
  const one = run.judged.find((each) => each.step === step);
  return one && one.scores.likeness !== undefined ? `${t("likeness of step")} ${number(one.scores.likeness)}` : `– ${t("not judged")}`;
};

function Samples({ run }) {
  if (!run.samples.length) return html`<p class="faint">${t("no samples")}</p>`;
  return html`<div class="samples" role="list" aria-label=${t("samples")}>${run.samples.map((row) => html`<div role="listitem" key=${row.step} class=${row.step === run.best ? "best" : ""}>
    <div class="small"><strong>${t("step n", { n: row.step })}</strong> <span class="faint num">${score(run, row.step)}</span></div>
    <div class="strip">${Array.from({ length: row.count }, (_, place) => html`<img key=${place} loading="lazy" src=${`/api/training/${run.id}/samples/${row.step}/${place}?w=320`} alt=${t("sample of", { n: place + 1, step: row.step })} />`)}</div></div>`)}</div>`;
}

function Curve({ points }) {
  if (points.length < 2) return html`<p class="faint">${t("no curve")}</p>`;
  const [x, y] = [points.map((one) => one[0]), points.map((one) => one[1])];
  const top = Math.max(...y);
  const path = points.map(([step, loss], place) => `${place ? "L" : "M"}${(40 + 550 * (step - x[0]) / (x[x.length - 1] - x[0] || 1)).toFixed(1)},${(150 - 140 * loss / (top || 1)).toFixed(1)}`).join("");
  return html`<svg class="curve" viewBox="0 0 600 175" role="img" aria-label=${t("loss curve", { first: number(y[0]), last: number(y[y.length - 1]) })}><line x1="40" y1="150" x2="590" y2="150" /><line x1="40" y1="10" x2="40" y2="150" />
    <text x="0" y="16">${number(top, 3)}</text><text x="0" y="152">0</text><text x="40" y="168">${x[0]}</text><text x="560" y="168">${x[x.length - 1]}</text><path d=${path} /></svg>`;
}
