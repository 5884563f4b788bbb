// Review: every image there is, by keys or touch; a person's verdict stands beside the machine's.
import { api, choice, count, decimal, effect, field, html, query, remembered, say, signal, t, tell, useEffect, useState } from "../core.js";
import { Grid, Source } from "../grid.js";
import { arrived } from "../live.js";
import { compare } from "./compare.js";
import { changed, look, mark, stored } from "./viewer.js";

const asked = remembered("filter", { character: "", recipe: "", machine: "", human: "", differs: false, failed: "", below: "", since: "", until: "", sort: "newest" });
const layout = remembered("layout", { size: 180, paged: false, filters: true });
const places = remembered("places", {});
const chosen = signal(new Set());
const options = signal({ characters: [], recipes: [], failed: [] });
const source = signal(null);
const undone = [];

const filter = () => {
  const below = decimal(String(asked.value.below));
  return { ...asked.value, below: Number.isNaN(below) ? null : below };
};
const key = () => query(filter()).toString();
const state = { // the place in each filter's images
  get value() { return places.value[key()] || { at: 0, top: 0 }; },
  set value(now) { places.value = Object.fromEntries([...Object.entries(places.value).filter(([name]) => name !== key()).slice(-20), [key(), now]]); },
};

effect(() => {
  const one = changed.value;
  if (one && source.peek()) source.peek().change(one.sha256, one.now);
});

async function range(from, to) {
  const [first, last] = [Math.min(from, to), Math.max(from, to)];
  if (last - first >= 10_000) {
    say(t("too many"));
    return;
  }
  const here = source.value.known(first, last);
  if (here) {
    chosen.value = new Set(here);
    return;
  }
  const next = new Set();
  for (let start = first; start <= last; start += 500) {
    const found = await api(`/api/images?${query({ ...filter(), start, count: Math.min(500, last - start + 1) })}`).catch(tell);
    for (const image of found ? found.images : []) next.add(image.sha256);
  }
  chosen.value = next;
}

async function one(image, verdict, stars) {
  undone.push({ image, was: { ...image } });
  say(t(verdict === undefined ? "said stars" : `said ${verdict || "none"}`, { n: stars }));
  await mark(image, verdict, stars);
}

async function undo() {
  const last = undone.pop();
  if (!last) return say(t("nothing to undo"));
  await mark(last.image, last.was.human || "", last.was.stars || 0);
  say(t("undone"));
}

async function many(verdict, all) {
  const body = all ? { filter: filter() } : { images: [...chosen.value] };
  if (all && !confirm(t("sure", { n: count(source.value.total.value) }))) return;
  await stored();
  const done = await api("/api/opinions", { ...body, verdict }).catch(tell);
  if (done) say(t("said of", { n: count(done.said) }));
  source.value.forget();
}

function onKey(event, image, next) {
  const stars = /^[1-5]$/.test(event.key) ? Number(event.key) : 0;
  const many_ = chosen.value.size > 1;
  if (event.code === "KeyU") undo();
  else if (event.code === "Escape") chosen.value = new Set();
  else if (!image) return false;
  else if (event.code === "KeyK" || event.code === "KeyX") {
    const verdict = event.code === "KeyK" ? "keep" : "reject";
    if (many_) many(verdict, false);
    else { one(image, verdict); next(); }
  } else if (stars) one(image, undefined, stars);
  else if (event.code === "Enter") look(image);
  else if (event.code === "Space") {
    const now = new Set(chosen.value);
    if (!now.delete(image.sha256)) now.add(image.sha256);
    chosen.value = now;
  } else if (event.code === "KeyC") compare([...(many_ ? chosen.value : [image.sha256])].slice(0, 4));
  else return false;
  return true;
}

export function Review() {
  const now = key();
  const [, again] = useState(0);
  useEffect(() => { api("/api/images/choices").then((found) => { options.value = found; }, tell); }, []);
  useEffect(() => {
    source.value = new Source(filter());
    chosen.value = new Set();
    again((n) => n + 1);
  }, [now]);
  useEffect(() => { // what is drawn meanwhile
    let late = 0;
    const stop = effect(() => {
      if (!arrived.value || !arrived.value.told.sha256) return;
      clearTimeout(late);
      late = setTimeout(() => source.peek() && (state.value.top || 0) < 50 && source.peek().forget(), 1500);
    });
    return () => { stop(); clearTimeout(late); };
  }, []);
  const { paged, size, filters } = layout.value;
  const total = source.value ? source.value.total.value : -1;
  const selected = chosen.value.size;
  return html`<div class="head"><h1>${t("view review")}</h1><span class="faint num" data-total=${total}>${total < 0 ? t("loading") : t("images count", { n: count(total) })}</span>
      <div class="row"><button aria-expanded=${filters} onClick=${() => { layout.value = { ...layout.value, filters: !filters }; }}>${t("filters")}</button>
      <button aria-pressed=${paged} onClick=${() => { layout.value = { ...layout.value, paged: !paged }; }}>${t("pages")}</button>
      <label class="small">${t("cell size")}<input class="range" type="range" min="110" max="420" value=${size} onInput=${(event) => { layout.value = { ...layout.value, size: Number(event.target.value) }; }} /></label></div></div>
    ${filters && html`<div class="filters">${choice(asked, "character", ["", ...options.value.characters])}${choice(asked, "recipe", ["", ...options.value.recipes])}
      ${choice(asked, "machine", ["", "keep", "retry", "repair", "reject", "none"], (one) => one ? t(one === "none" ? "not judged" : `machine ${one}`) : t("any"))}
      ${choice(asked, "human", ["", "keep", "reject", "none"], (one) => one ? t(`human ${one}`) : t("any"))}
      ${choice(asked, "failed", ["", ...options.value.failed])}${field(asked, "below", { inputmode: "decimal", placeholder: "0.40" })}
      ${field(asked, "since", { type: "date" })}${field(asked, "until", { type: "date" })}
      ${choice(asked, "sort", ["newest", "oldest", "-identity", "identity", "stars"], (one) => t(`sort ${one}`))}
      <label class="check"><input type="checkbox" checked=${asked.value.differs} onChange=${(event) => { asked.value = { ...asked.value, differs: event.target.checked }; }} />${t("differs")}</label></div>`}
    <div class="row"><span class="small faint keys">${t("keys before")} <kbd>K</kbd> ${t("keep")} <kbd>X</kbd> ${t("reject")} <kbd>U</kbd> ${t("undo")} <kbd>1</kbd>–<kbd>5</kbd> ★ <kbd>C</kbd> ${t("compare")} <kbd>↵</kbd> ${t("large")}</span>
      <button onClick=${undo}>${t("undo")}</button>
      ${selected > 0 && html`<span class="tag">${t("selected", { n: count(selected) })}</span>`}
      <button disabled=${!selected} onClick=${() => many("keep", false)}>✓ ${t("keep")}</button><button disabled=${!selected} onClick=${() => many("reject", false)}>✗ ${t("reject")}</button>
      <button disabled=${selected < 2 || selected > 4} onClick=${() => compare([...chosen.value])}>${t("compare")}</button>
      <button class="quiet" disabled=${total < 1} onClick=${() => many("reject", true)}>${t("reject all")}</button></div>
    ${source.value && html`<${Grid} key=${now} source=${source.value} state=${state} chosen=${chosen} size=${size} paged=${paged} onKey=${onKey} onOpen=${look} onRange=${range} />`}
    ${total === 0 && html`<p class="faint">${t("no images")}</p>`}`;
}
