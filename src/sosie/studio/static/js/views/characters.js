// Characters: all of them, one of them, and a new one of pictures that are dropped, pasted or chosen.
import { api, files, go, html, number, query, say, signal, t, tell, told, useEffect, useState, worded } from "../core.js";
import { arrived, ask } from "../live.js";
import { Calibration, outliers } from "./calibration.js";

const known = signal(null);
export const load = async () => { known.value = await api("/api/characters").catch(tell) ?? known.value; };
export const names = () => (known.value || []).filter((one) => !one.error).map((one) => one.name);

const face = (name, sha256, width = 320) => `/api/characters/${encodeURIComponent(name)}/references/${sha256}?w=${width}&face=true`;

export function Characters({ rest }) {
  useEffect(() => { load(); }, []);
  if (rest[0] === "new") return html`<${New} />`;
  if (rest[0]) return html`<${One} name=${decodeURIComponent(rest[0])} key=${rest[0]} />`;
  return html`<${All} />`;
}

function All() {
  const [char, ask] = useState(null); // a .char file that waits for its declarations
  if (!known.value) return html`<p>${t("loading")}</p>`;
  const take = ([file]) => /\.char$/i.test(file.name) ? ask(file) : takeIn(file);
  const declare = (event) => {
    event.preventDefault();
    const { likeness, adult } = event.target.elements;
    takeIn(char, { likeness: likeness.value, adult: adult.checked });
    ask(null);
  };
  return html`<div class="head"><h1>${t("view characters")}</h1>
      <button class="strong" onClick=${() => go("/characters/new")}>${t("new character")}</button></div>
    <${Drop} take=${take} accept=".sosie,.char" text=${t("import character")} />
    ${char && html`<form class="card stack" onSubmit=${declare} aria-label=${char.name}><p>${t("char declares nothing", { name: char.name })}</p>
      <${Declarations} /><div class="row"><button class="strong">${t("import")}</button><button type="button" onClick=${() => ask(null)}>${t("cancel")}</button></div></form>`}
    ${!known.value.length && html`<div class="card"><p>${t("no characters")}</p></div>`}
    <div class="tiles">${known.value.map((one) => html`<a class="card tile" key=${one.name} href=${`#/characters/${encodeURIComponent(one.name)}`}>
      ${one.references[0] && html`<img src=${face(one.name, one.references[0])} alt=${t("face of", { name: one.name })} />`}
      <div><h2>${one.name}</h2><div class="small faint">${one.error ? told(one, "error") : one.description || t("no description")}</div>
      ${!one.error && html`<div class="small faint">${t("references count", { n: one.references.length })} · ${t("loras count", { n: one.loras })}</div>`}</div></a>`)}</div>`;
}

const Declarations = ({ likeness, adult, change }) => html`<fieldset class="stack"><legend class="small faint">${t("likeness")}</legend>
    ${["fictional", "consented"].map((one) => html`<label class="check"><input type="radio" name="likeness" required value=${one} checked=${likeness === one} onChange=${change} />${t(`${one} means`)}</label>`)}</fieldset>
  <label class="check"><input type="checkbox" name="adult" required checked=${adult} onChange=${change} />${t("adult means")}</label>`;

async function takeIn(file, declared = {}) {
  try {
    say(t("looking at pictures"));
    const made = await api(`/api/characters/file?${query(declared)}`, file);
    await load();
    say([t("character made", { name: made.character, n: made.references }), ...made.left.map(([path]) => t("not here", { path }))].join(" "));
    go(`/characters/${encodeURIComponent(made.character)}`);
  } catch (error) {
    tell(error);
  }
}

function Reference({ name, sha256, place }) {
  const judged = (outliers.value[name] || {})[sha256] || [];
  const odd = judged.some((one) => one.pass === false);
  return html`<figure><img loading="lazy" src=${face(name, sha256)} alt=${t("reference of", { name, n: place + 1 })} />
    <figcaption class="num">${judged.map((one) => `${one.judge} ${number(one.value, 2)}`).join(" · ")}${odd && html` <span class="tag warn" title=${t("outlier why")}>${t("outlier")}</span>`}</figcaption></figure>`;
}

function Lora({ lora }) {
  const whole = lora.matched !== null && lora.matched === lora.total;
  return html`<tr><td>${lora.family}${lora.model && html` <span class="faint">(${lora.model})</span>`}</td><td>${lora.file}</td><td class="num">${number(lora.weight, 2)}</td>
    <td>${lora.trigger || "–"}</td><td>${lora.matched === null ? html`– <span class="small faint">${told(lora, "why")}</span>` : html`<span class="tag ${whole ? "good" : "warn"}">${t("tensors match", { n: lora.matched, of: lora.total })}</span>`}</td></tr>`;
}

function One({ name }) {
  const [one, set] = useState(null);
  const [recipes, know] = useState([]);
  const [done, again] = useState(0);
  const news = arrived.value;
  useEffect(() => { api("/api/recipes").then((found) => know(found.filter((each) => !each.error).map((each) => each.name)), tell); }, []);
  useEffect(() => { if (news && news.told.noun === "Calibration") again((n) => n + 1); }, [news]);
  useEffect(() => { api(`/api/characters/${encodeURIComponent(name)}`).then(set, tell); }, [name, done]);
  if (!one) return html`<h1>${name}</h1><p>${t("loading")}</p>`;
  const calibrate = () => ask("calibrate", { character: name }).catch(tell);
  return html`<div class="head"><h1>${name}</h1><span class="tag">${t(one.likeness)}</span><span class="tag">${t("adult")}</span>
      <div class="row"><button class="strong" onClick=${() => go(`/generate/${encodeURIComponent(name)}`)}>${t("view generate")}</button>
      <button onClick=${() => go(`/training/${encodeURIComponent(name)}`)}>${t("view training")}</button></div></div>
    <${Words} one=${one} set=${set} key=${name} />
    <section class="card"><h2>${t("references count", { n: one.references.length })}</h2>
      <div class="faces">${one.references.map((sha256, place) => html`<${Reference} key=${sha256} name=${name} sha256=${sha256} place=${place} />`)}</div></section>
    <section class="card"><h2>${t("made")}</h2>
      ${one.made.length ? html`<table><thead><tr><th>${t("field recipe")}</th><th class="num">${t("kept")}</th><th class="num">${t("judged")}</th></tr></thead><tbody>
        ${one.made.map((row) => html`<tr><td>${row.recipe}</td><td class="num">${row.kept}</td><td class="num">${row.judged} <span class="faint">(${number(100 * row.kept / row.judged, 0)} %)</span></td></tr>`)}</tbody></table>` : html`<p class="faint">${t("nothing made")}</p>`}</section>
    <section class="card"><h2>LoRA</h2>${one.loras.length ? html`<table><thead><tr>${["family", "file", "weight", "trigger", "coverage"].map((head) => html`<th scope="col">${t(`lora ${head}`)}</th>`)}</tr></thead><tbody>${one.loras.map((lora) => html`<${Lora} key=${lora.file} lora=${lora} />`)}</tbody></table>` : html`<p class="faint">${t("no loras")}</p>`}</section>
    <section class="card"><h2>${t("calibration")}</h2><p>${one.calibrations.length ? t("calibrated for", { recipes: one.calibrations.join(", ") }) : t("not calibrated")}</p>
      <${Calibration} name=${name} recipes=${recipes} again=${done} /><button onClick=${calibrate}>${t("calibrate")}</button></section>
    <section class="card"><h2>${t("take along")}</h2><p class="faint">${t("take along means")}</p><div class="row"><a class="button" href=${`/api/characters/${encodeURIComponent(name)}/file`} download>${t("export character")}</a>
      ${one.loras.length > 0 && html`<a class="button" href=${`/api/characters/${encodeURIComponent(name)}/file?loras=true`} download>${t("export with loras")}</a>`}</div></section>`;
}

const listed = (text) => text.split(",").map((one) => one.trim()).filter(Boolean);

function Words({ one, set }) {
  const [open, edit] = useState(false);
  async function save(event) {
    event.preventDefault();
    const { description, marks } = event.target.elements;
    try {
      set(await api(`/api/characters/${encodeURIComponent(one.name)}/words`, { description: description.value, marks: listed(marks.value) }));
      edit(false);
      load();
      say(t("words kept"));
    } catch (error) {
      tell(error);
    }
  }
  if (open) return html`<form class="card stack" onSubmit=${save}><label>${t("field description")}<textarea name="description" maxlength="4000">${one.description}</textarea></label>
    <label>${t("field marks")}<input name="marks" defaultValue=${one.marks.join(", ")} placeholder=${t("marks example")} /></label>
    <div class="row"><button class="strong">${t("keep words")}</button><button type="button" onClick=${() => edit(false)}>${t("cancel")}</button></div></form>`;
  return html`<div><p>${one.description || html`<span class="faint">${t("no description")}</span>`}</p>
    ${one.marks.length > 0 && html`<p class="faint">${t("field marks")}: ${one.marks.join(", ")}</p>`}
    <button onClick=${() => edit(true)}>${t("edit words")}</button></div>`;
}

// Said in the place of a list that has nothing to choose.
export const Nobody = () => known.value && !names().length && html`<p class="finding warning">${t("nobody yet")} <a href="#/characters/new">${t("new character")}</a></p>`;

function New() {
  const form = useState(() => signal({ name: "", description: "", marks: "", likeness: "", adult: false }))[0];
  const [pictures, set] = useState([]);
  const [busy, work] = useState(false);
  const change = (event) => { form.value = { ...form.value, [event.target.name]: event.target.type === "checkbox" ? event.target.checked : event.target.value }; };

  async function take(list) {
    for (const file of list) {
      try {
        const taken = await api("/api/uploads", file);
        set((old) => old.some((one) => one.sha256 === taken.sha256) ? old : [...old, { ...taken, name: file.name }]);
      } catch (error) {
        say(`${file.name}: ${error.message}`);
      }
    }
  }

  async function make(event) {
    event.preventDefault();
    work(true);
    const { name, description, marks, likeness, adult } = form.value;
    try {
      const made = await api("/api/characters", { name, description, likeness, adult, images: pictures.map((one) => one.sha256), marks: listed(marks) });
      await load();
      say([t("character made", { name, n: made.references }), ...made.findings.map((one) => worded(one, "message"))].join(" "));
      go(`/characters/${encodeURIComponent(made.character)}`);
    } catch (error) {
      tell(error);
    } finally {
      work(false);
    }
  }

  useEffect(() => {
    const paste = (event) => { if (event.clipboardData.files.length) take(files(event)); };
    addEventListener("paste", paste);
    return () => removeEventListener("paste", paste);
  }, []);
  const { name, description, marks, likeness, adult } = form.value;
  return html`<h1>${t("new character")}</h1><form class="cols" onSubmit=${make}>
    <div class="card stack">
      <label>${t("field name")}<input name="name" required maxlength="64" value=${name} onInput=${change} /></label>
      <label>${t("field description")}<textarea name="description" value=${description} onInput=${change}></textarea></label>
      <label>${t("field marks")}<input name="marks" value=${marks} placeholder=${t("marks example")} onInput=${change} /></label>
      <${Declarations} likeness=${likeness} adult=${adult} change=${change} />
      <button class="strong" disabled=${busy || !pictures.length}>${busy ? t("looking at pictures") : t("make character", { n: pictures.length })}</button>
    </div>
    <div class="stack"><${Drop} take=${take} accept="image/*" multiple text=${t("drop pictures")} />
      <div class="faces">${pictures.map((one) => html`<figure key=${one.sha256}><img src=${`/api/uploads/${one.sha256}?w=320`} alt=${one.name} /><figcaption>${one.name} <button type="button" class="quiet" onClick=${() => set(pictures.filter((other) => other !== one))} aria-label=${t("remove", { name: one.name })}>✕</button></figcaption></figure>`)}</div></div></form>`;
}

export function Drop({ take, text, accept, multiple }) {
  const [over, set] = useState(false);
  return html`<label class="drop ${over ? "over" : ""}" onDragOver=${(event) => { event.preventDefault(); set(true); }} onDragLeave=${() => set(false)}
    onDrop=${(event) => { set(false); take(files(event)); }}>${text}<br /><input type="file" class="small" accept=${accept} multiple=${multiple} onChange=${(event) => { take(files(event)); event.target.value = ""; }} /></label>`;
}
