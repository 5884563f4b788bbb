// The page: where we are, and what is shown there.
import { enter, html, language, render, route, said, signal, speak, start, t, tell, useEffect, useRef } from "./core.js";
import { Bar, listen, refresh } from "./live.js";
import { Characters } from "./views/characters.js";
import { Generate, restoreFrom } from "./views/generate.js";
import { Review } from "./views/review.js";
import { Viewer } from "./views/viewer.js";
import { Compare } from "./views/compare.js";
import { Experiments } from "./views/experiments.js";
import { Training } from "./views/training.js";
import { Machines } from "./views/machines.js";
import { Doctor } from "./views/doctor.js";

const VIEWS = { characters: Characters, generate: Generate, review: Review, experiments: Experiments, training: Training, doctor: Doctor, machines: Machines };
const locked = signal("");
const ready = signal(false);

function App() {
  const [, name, ...rest] = route.value.split("/");
  const View = VIEWS[name] || Characters;
  const main = useRef(null);
  const other = language.value === "fr" ? "en" : "fr";
  useEffect(() => { document.title = `${t(`view ${name}`)} – Sosie`; }, [name, language.value]);
  return html`<nav aria-label=${t("views")}>
      <div class="brand"><img src="/static/icon.svg" alt="" />Sosie</div>
      ${Object.keys(VIEWS).map((one) => html`<a href=${`#/${one}`} aria-current=${one === name ? "page" : undefined} onClick=${() => main.current.focus()}>${t(`view ${one}`)}</a>`)}
      <div class="foot"><button class="quiet" lang=${other} onClick=${() => speak(other)}>${t("other language")}</button></div></nav>
    <main tabindex="-1" ref=${main}>${locked.value ? html`<h1>Sosie</h1><p role="alert">${locked.value}</p>` : ready.value ? html`<${View} rest=${rest} key=${name} />` : html`<p class="faint">${t("loading")}</p>`}</main>
    ${ready.value && html`<${Bar} /><${Viewer} /><${Compare} />`}
    <div role="status" aria-live="polite" class=${said.value ? "toast" : "hide"}>${said.value}</div>`;
}

const wanted = localStorage.getItem("language") || navigator.language.slice(0, 2);
await speak(wanted === "fr" ? "fr" : "en");
render(html`<${App} />`, document.getElementById("app")); // the screens' names are there while the key is shown
try {
  await enter();
  start();
  listen();
  refresh();
  ready.value = true;
} catch (error) {
  locked.value = error.message;
}
// A file that is dropped beside a place for files must not take the page's place.
for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());
// A picture that is dropped anywhere else on the page brings its settings back.
addEventListener("drop", (event) => {
  const [file] = event.dataTransfer.files;
  const elsewhere = !event.target.closest(".drop, dialog") && !/^\/(doctor|characters\/new)/.test(route.value);
  if (file && elsewhere && !locked.value) restoreFrom(file).catch(tell);
});
addEventListener("unhandledrejection", (event) => tell(event.reason));
