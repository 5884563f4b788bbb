// What everything shares: components without a build, the server, words, and what is announced.
import { h, render } from "../vendor/preact.js";
import htm from "../vendor/htm.js";
import { signal, computed, effect, batch } from "../vendor/signals-core.js";
import "../vendor/signals.js";

export const html = htm.bind(h);
export { render, signal, computed, effect, batch };
export { useEffect, useRef, useState } from "../vendor/hooks.js";

// ---- the server

const TOKEN = "x-sosie-token";
let header = "";
// Taken at once: who goes to another screen while words are on their way keeps the key.
const secret = location.hash.startsWith("#/") ? "" : location.hash.slice(1);
if (secret) history.replaceState(null, "", "#/characters");

export async function enter() {
  const given = secret ? await fetch("/session", { method: "POST", headers: { [TOKEN]: secret } }) : null;
  const answer = given && given.ok ? given : await fetch("/session");
  if (!answer.ok) throw new Error(t("locked"));
  header = await answer.text();
}

export async function api(path, body, more = {}) {
  const options = body === undefined ? more : {
    method: "POST", body: body instanceof Blob ? body : JSON.stringify(body),
    headers: { [TOKEN]: header, "content-type": body instanceof Blob ? "application/octet-stream" : "application/json" }, ...more,
  };
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    throw error.name === "AbortError" ? error : new Error(t("lost"));
  }
  const found = await answer.json().catch(() => ({ error: answer.statusText, hint: "" }));
  if (!answer.ok) throw Object.assign(new Error(worded(found, "error") || answer.statusText), { hint: worded(found, "hint") || "" });
  return found;
}

export const query = (asked) => new URLSearchParams(Object.entries(asked).filter(([, value]) => value !== "" && value !== null && value !== false && value !== undefined));
export const picture = (sha256, width, face) => `/i/${sha256}?w=${width}${face ? "&face=true" : ""}`;

// ---- words

export const language = signal("");
const words = signal({});

export async function speak(name) {
  words.value = await (await fetch(`/static/${name}.json`)).json();
  language.value = name;
  document.documentElement.lang = name;
  localStorage.setItem("language", name);
}

// Where `n` is one (in French 0 too), the words of `KEY one` if there are any.
export function t(key, values = {}) {
  const alone = new Intl.PluralRules(language.value || "en").select(Number(values.n)) === "one";
  const text = (alone && words.value[`${key} one`]) || (words.value[key] ?? key);
  return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
}

// What the library says: the server gives it in French too, and what has no French is marked as English.
export const worded = (one, key) => (language.value === "fr" && one.fr && one.fr[key]) || one[key];
export const told = (one, key = "message") => language.value === "fr" && one[key] && !(one.fr && one.fr[key]) ? html`<span lang="en">${one[key]}</span>` : worded(one, key);
export const exact = (one) => language.value === "fr" && one.fr && html`<details class="small faint"><summary>${t("exact words")}</summary><span lang="en">${one.message} ${one.hint}</span></details>`;

export const number = (value, digits = 3) => value === null || value === undefined ? "–" : value.toLocaleString(language.value || "en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
export const count = (value) => value.toLocaleString(language.value || "en");
export const time = (seconds) => seconds < 90 ? t("seconds", { n: Math.round(seconds) }) : seconds < 5400 ? t("minutes", { n: Math.round(seconds / 60) }) : t("hours", { n: number(seconds / 3600, 1) });
// A decimal comma is a decimal point.
export const decimal = (text) => text.trim() === "" ? null : Number(text.replace(",", "."));

// ---- what is announced

export const said = signal("");
let quiet = 0;
export function say(text) {
  said.value = text;
  clearTimeout(quiet);
  quiet = setTimeout(() => { said.value = ""; }, 6000);
}
export const tell = (error) => { if (error.name !== "AbortError") say(error.hint ? `${error.message} – ${error.hint}` : error.message); };

// ---- where we are, and what is remembered

export const route = signal("/characters");
const follow = () => { route.value = location.hash.startsWith("#/") ? decodeURI(location.hash.slice(1)) : "/characters"; };
addEventListener("hashchange", follow);
export const go = (path) => { location.hash = path; };
export const start = follow;

export function remembered(name, initial) {
  let value = initial;
  try { value = { ...initial, ...JSON.parse(localStorage.getItem(name) || "{}") }; } catch { /* as if nothing was kept */ }
  const kept = signal(value);
  effect(() => localStorage.setItem(name, JSON.stringify(kept.value)));
  return kept;
}

// ---- small components

export const Verdict = ({ image }) => html`<span class="marks">
  ${image.verdict ? html`<span class="tag ${image.verdict === "keep" ? "good" : "bad"}">${t(`machine ${image.verdict}`)}</span>` : html`<span class="tag" title=${t("not judged why")}>– ${t("not judged")}</span>`}
  ${image.human && html`<span class="tag ${image.human === "keep" ? "good" : "bad"}">${image.human === "keep" ? "✓" : "✗"} ${t("you")}</span>`}
  ${image.stars && html`<span class="tag warn" aria-label=${t("stars", { n: image.stars })}>${"★".repeat(image.stars)}</span>`}</span>`;

export const Findings = ({ findings }) => findings.map((one) => html`<div class="finding ${one.severity}"><strong>${t(`severity ${one.severity}`)}</strong> ${one.code && html`<code>${one.code}</code>`}<br />${told(one)}${one.hint && html`<div class="small faint">${told(one, "hint")}</div>`}${exact(one)}</div>`);
export const identity = (image) => image.scores.filter((score) => score.kind === "identity");

export function field(form, name, rest = {}) {
  return html`<label>${t(`field ${name}`)}<input name=${name} value=${form.value[name]} onInput=${(event) => { form.value = { ...form.value, [name]: event.target.value }; }} ...${rest} /></label>`;
}

export function choice(form, name, options, label = (one) => one || t("any")) {
  return html`<label>${t(`field ${name}`)}<select name=${name} value=${form.value[name]} onChange=${(event) => { form.value = { ...form.value, [name]: event.target.value }; }}>
    ${options.map((one) => html`<option value=${one} selected=${one === form.value[name]}>${label(one)}</option>`)}</select></label>`;
}

export const files = (event) => { event.preventDefault(); return [...(event.dataTransfer || event.clipboardData || event.target).files]; };
