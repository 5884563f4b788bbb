// Compare two to four images: side by side, by a slider, by flicker, faces at one scale.
import { api, html, number, picture, signal, t, tell, useEffect, useRef, useState, identity } from "../core.js";

const open = signal([]);
let before = null;

export async function compare(digests) {
  if (digests.length < 2) return tell(new Error(t("choose two")));
  before = document.activeElement;
  const found = await Promise.all(digests.map((one) => api(`/api/images/${one}`))).catch(tell);
  if (found) open.value = found;
}

export function Compare() {
  const box = useRef(null);
  const [mode, set] = useState("side");
  const [at, slide] = useState(50);
  const [shown, flick] = useState(0);
  const images = open.value;
  useEffect(() => { if (images.length && !box.current.open) box.current.showModal(); }, [images]);
  const keys = (event) => {
    if (mode === "flicker" && (event.code === "Space" || event.code === "ArrowRight")) { event.preventDefault(); flick((shown + 1) % images.length); }
  };
  const shut = () => { open.value = []; flick(0); if (before && before.isConnected) before.focus(); };
  const modes = ["side", ...(images.length === 2 ? ["slider"] : []), "flicker", "faces"];
  const name = (image, place) => `${"ABCD"[place]}: ${identity(image).map((score) => `${score.name} ${number(score.value, 3)}`).join(", ")}`;
  const body = {
    side: () => html`<div class="many">${images.map((image, place) => html`<img key=${image.sha256} src=${picture(image.sha256, 1280)} alt=${name(image, place)} />`)}</div>`,
    faces: () => html`<div class="many">${images.map((image, place) => html`<img key=${image.sha256} src=${picture(image.sha256, 640, true)} alt=${name(image, place)} />`)}</div>`,
    slider: () => html`<div class="slider"><img src=${picture(images[1].sha256, 1280)} alt=${name(images[1], 1)} /><img style=${`clip-path: inset(0 ${100 - at}% 0 0)`} src=${picture(images[0].sha256, 1280)} alt=${name(images[0], 0)} /></div>`,
    flicker: () => html`<img src=${picture(images[shown % images.length].sha256, 1280)} alt=${name(images[shown % images.length], shown)} onClick=${() => flick((shown + 1) % images.length)} />`,
  };
  return html`<dialog ref=${box} onClose=${shut} onKeyDown=${keys} aria-label=${t("compare")}>${images.length > 0 && html`<div class="view" style="grid-template-columns:1fr 20rem">
    <header>${modes.map((one) => html`<button aria-pressed=${mode === one} onClick=${() => set(one)}>${t(`mode ${one}`)}</button>`)}
      <span style="margin-left:auto"></span><button onClick=${() => box.current.close()}>${t("close")}</button></header>
    <div class="pic">${(body[mode] || body.side)()}</div>
    <aside class="stack" tabindex="0" aria-label=${t("score")}>${mode === "slider" && html`<label>${t("mode slider")}<input class="range" type="range" min="0" max="100" value=${at} onInput=${(event) => slide(Number(event.target.value))} /></label>`}
      ${mode === "flicker" && html`<p>${"ABCD"[shown % images.length]} <button onClick=${() => flick((shown + 1) % images.length)}>${t("next")}</button></p>`}
      ${images.map((image, place) => html`<div key=${image.sha256}><h2>${"ABCD"[place]}</h2><p class="small">${image.prompt}</p><p class="small num">${identity(image).map((score) => html`${score.name} ${number(score.value)} <span class="faint">${score.value === null ? score.reason : ""}</span><br />`)}<span class="faint">${image.recipe} · ${t("field seed")} ${image.seed}</span></p></div>`)}</aside></div>`}</dialog>`;
}
