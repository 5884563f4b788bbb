// One image, large: its face beside a reference's, every score with its reason, and what can be done with it.
import { api, go, html, number, picture, signal, t, tell, told, useEffect, useRef, useState, Verdict, worded } from "../core.js";
import { form, randomSeed, restore, run } from "./generate.js";

const open = signal(null);
let before = null;
export const changed = signal(null);
export const look = (image) => { before = document.activeElement; open.value = image; };

const storing = new Map(); // of an image, what was said of it last: an undo never overtakes what it undoes
export const stored = () => Promise.allSettled(storing.values());
function store(sha256, said) {
  const after = (storing.get(sha256) ?? Promise.resolve()).catch(() => {}).then(() => api("/api/opinions", { images: [sha256], ...said }));
  storing.set(sha256, after);
  return after.finally(() => { if (storing.get(sha256) === after) storing.delete(sha256); });
}

export async function mark(image, verdict, stars) {
  const old = { human: image.human, stars: image.stars };
  const now = { human: verdict === undefined ? image.human : verdict || null, stars: stars === undefined ? image.stars : stars || null };
  changed.value = { sha256: image.sha256, now }; // shown at once, and taken back if it could not be stored
  try {
    await store(image.sha256, { verdict: verdict ?? null, stars: stars ?? null });
  } catch (error) {
    changed.value = { sha256: image.sha256, now: old };
    tell(error);
  }
  return old;
}

export function Viewer() {
  const box = useRef(null);
  const [whole, set] = useState(null);
  const [who, know] = useState(null);
  const image = open.value;
  useEffect(() => {
    if (!image) return;
    if (!box.current.open) box.current.showModal();
    set(null);
    api(`/api/images/${image.sha256}`).then(set, tell);
    api(`/api/characters/${encodeURIComponent(image.character)}`).then(know, () => know(null));
  }, [image && image.sha256]);
  const shut = () => { open.value = null; if (before && before.isConnected) before.focus(); };
  const one = whole && image && whole.sha256 === image.sha256 ? whole : image;
  const close = () => box.current.close();
  async function act(verdict, stars) {
    await mark(one, verdict, stars);
    set({ ...one, ...changed.value.now });
  }
  async function again(more) {
    restore(whole.settings);
    close();
    go("/generate");
    if (more) await run(more).catch(tell);
  }
  const edited = (stages) => again({ source: one.sha256, stages, n: 1, size: "" });
  const seed = () => { form.value = { ...form.value, seed: whole.settings.asked.seed }; close(); go("/generate"); };
  return html`<dialog ref=${box} onClose=${shut} aria-label=${one ? t("image of", { name: one.character }) : ""}>${one && html`<div class="view">
    <header><${Verdict} image=${one} /><button onClick=${() => act(one.human === "keep" ? "" : "keep")} aria-pressed=${one.human === "keep"}>✓ ${t("keep")}</button>
      <button onClick=${() => act(one.human === "reject" ? "" : "reject")} aria-pressed=${one.human === "reject"}>✗ ${t("reject")}</button>
      <span style="margin-left:auto"></span><button onClick=${close}>${t("close")}</button></header>
    <div class="pic"><img src=${picture(one.sha256, 1280)} alt=${`${one.character}, ${one.prompt}`} /></div>
    <aside class="stack">
      <div class="pair"><figure><img src=${picture(one.sha256, 320, true)} alt=${t("face here")} /><figcaption>${t("face here")}</figcaption></figure>
        ${who && who.references[0] && html`<figure><img src=${`/api/characters/${encodeURIComponent(one.character)}/references/${who.references[0]}?w=320&face=true`} alt=${t("reference")} /><figcaption>${t("reference")}</figcaption></figure>`}</div>
      ${one.reasons.length > 0 && html`<ul class="small">${worded(one, "reasons").map((reason) => html`<li>${reason}</li>`)}</ul>`}
      <${Scores} scores=${one.scores} />
      <div><h2>${t("made with")}</h2><p>${one.prompt || t("recipe prompt")}</p><p class="small faint num">${one.recipe} · ${one.width}×${one.height} · ${t("field seed")} ${one.seed} · ${one.engine}</p></div>
      ${whole && html`<div class="row"><button onClick=${() => again({ seed: randomSeed() })}>${t("same again")}</button><button onClick=${() => again(null)}>${t("edit and run")}</button>
        <button onClick=${seed}>${t("only the seed")}</button><button onClick=${() => edited(["detail"])}>${t("repair face")}</button><button onClick=${() => edited(["upscale"])}>${t("upscale")}</button></div>
        <div class="row"><a class="button" href=${`/api/images/${one.sha256}/file`} download>${t("export image")}</a><a class="button" href=${`/api/images/${one.sha256}/file?metadata=true`} download>${t("export with settings")}</a>
          <a href=${`/i/${one.sha256}`} download=${`${one.character}-${one.sha256.slice(0, 8)}.png`}>${t("download")}</a></div>
        <details><summary>${t("whole plan")}</summary><pre>${JSON.stringify(whole.made_by, null, 1)}</pre></details>`}
    </aside></div>`}</dialog>`;
}

export function Scores({ scores }) {
  const tone = (score) => score.pass === null ? "" : score.pass ? "good" : "bad";
  return html`<table><thead><tr><th>${t("score")}</th><th>${t("value")}</th><th>${t("limit")}</th><th>${t("passes")}</th></tr></thead><tbody>
    ${scores.filter((score) => score.kind !== "look").map((score) => html`<tr key=${score.name}><td>${score.name}${score.rate && html`<div class="small faint">${t("rate", { p: number(100 * score.rate.fmr, 1), n: score.rate.n })}</div>`}</td>
      <td class="num">${number(score.value)}${score.value === null && html`<div class="small faint">${told(score, "reason")}</div>`}</td>
      <td class="num limit">${score.threshold === null ? "–" : `${score.higher_is_better ? "≥" : "≤"} ${number(score.threshold)}`}</td>
      <td><span class="tag ${tone(score)}">${score.pass === null ? "–" : score.pass ? "✓" : "✗"}</span></td></tr>`)}</tbody></table>`;
}

