// How well a character can be told from others: the same person against impostors, by each judge, and what lies between.
import { api, html, number, signal, t, tell, told, useEffect, useState, worded } from "../core.js";

const BINS = 36;
const [WIDTH, HEIGHT, LEFT, BASE] = [600, 170, 10, 140];
const KINDS = [["impostors", "bars"], ["drawn", "line"], ["references", "dots"]];

export const outliers = signal({}); // of a character: the references that no judge lets pass, by digest

export function Calibration({ name, recipes, again }) {
  const [recipe, choose] = useState("");
  const [found, set] = useState(null);
  const [failed, fail] = useState("");
  useEffect(() => {
    let over = false;
    set(null);
    fail("");
    api(`/api/characters/${encodeURIComponent(name)}/calibration${recipe ? `?recipe=${encodeURIComponent(recipe)}` : ""}`).then((one) => {
      if (over) return;
      set(one);
      outliers.value = { ...outliers.value, [name]: apart(one) };
    }, (error) => { if (!over) { fail(error.message); tell(error); } });
    return () => { over = true; };
  }, [name, recipe, again]);
  return html`<div class="row"><label>${t("field recipe")}<select value=${recipe} onChange=${(event) => choose(event.target.value)}><option value="">${t("the usual")}</option>
      ${recipes.map((one) => html`<option value=${one} selected=${one === recipe}>${one}</option>`)}</select></label></div>
    ${failed && html`<p role="alert">${failed}</p>`}${!found && !failed && html`<p class="faint" role="status">${t("looking at faces")}</p>`}
    ${found && html`<div class="judges">${found.judges.map((judge) => html`<${Judge} judge=${judge} key=${judge.name} />`)}</div>
      <p class="small faint">${found.cohort ? t("cohort is", { name: found.cohort }) : t("no cohort")}${found.together ? ` ${t("pass together", { p: number(100 * found.together.fmr, 1), upper: number(100 * found.together.upper95, 1), n: found.together.n })}` : ""}</p>
      ${Object.entries(worded(found, "absent")).map(([judge, why]) => html`<p class="small">– ${judge}: ${why}</p>`)}
      ${found.findings.map((one) => html`<p class="small faint">${one.code} ${told(one)}</p>`)}`}`;
}

const passes = (judge, value) => judge.threshold === null ? null : judge.higher_is_better ? value >= judge.threshold : value <= judge.threshold;

// References whose value fails a judge: other pictures of the same person are less alike than an image may be.
function apart(found) {
  const all = {};
  for (const judge of found.judges) {
    for (const { sha256, value } of judge.references) (all[sha256] = all[sha256] || []).push({ judge: judge.name, value, pass: passes(judge, value) });
  }
  return all;
}

function Judge({ judge }) {
  const values = { impostors: judge.impostors, drawn: judge.drawn, references: judge.references.map((one) => one.value) };
  const every = [...Object.values(values).flat(), ...(judge.threshold === null ? [] : [judge.threshold])];
  if (!every.length) return html`<p>${judge.name}: – ${t("no values")}</p>`;
  const [low, high] = [Math.min(...every), Math.max(...every)];
  const x = (value) => LEFT + (WIDTH - 2 * LEFT) * (value - low) / (high - low || 1);
  const share = (list) => judge.threshold === null || !list.length ? "–" : `${number(100 * list.filter((one) => passes(judge, one)).length / list.length, 0)} %`;
  const told = KINDS.map(([kind]) => `${t(kind)}: ${t("pass of", { share: share(values[kind]), n: values[kind].length })}`).join("; ");
  return html`<figure class="judge"><figcaption><strong>${judge.name}</strong> ${judge.threshold === null ? t("no threshold") : `${judge.higher_is_better ? "≥" : "≤"} ${number(judge.threshold)}`} <span class="faint">· ${t(judge.higher_is_better ? "more is alike" : "less is alike")}${judge.basis ? ` · ${worded(judge, "basis")}` : ""}</span></figcaption>
    <svg class="plot" viewBox=${`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label=${`${judge.name}: ${told}`}>
      ${KINDS.map(([kind, shape]) => html`<${Shape} key=${kind} values=${values[kind]} kind=${kind} shape=${shape} x=${x} low=${low} high=${high} />`)}
      ${judge.threshold !== null && html`<line class="limit" x1=${x(judge.threshold)} x2=${x(judge.threshold)} y1="6" y2=${BASE} />`}
      <line class="axis" x1=${LEFT} x2=${WIDTH - LEFT} y1=${BASE} y2=${BASE} />
      <text x=${LEFT} y=${BASE + 24}>${number(low, 2)}</text><text x=${WIDTH - LEFT} y=${BASE + 24} text-anchor="end">${number(high, 2)}</text></svg>
    <ul class="legend small">${KINDS.map(([kind]) => html`<li class=${kind}>${t(kind)} <span class="num faint">${t("pass of", { share: share(values[kind]), n: values[kind].length })}</span></li>`)}</ul></figure>`;
}

// Bars and a line of how many lie where, each to its own height; single values as dots.
function Shape({ values, kind, shape, x, low, high }) {
  if (!values.length) return null;
  if (shape === "dots") return html`<g class=${kind}>${values.map((value) => html`<circle cx=${x(value)} cy=${BASE - 8} r="4" />`)}</g>`;
  const counts = new Array(BINS).fill(0);
  for (const value of values) counts[Math.min(BINS - 1, Math.floor(BINS * (value - low) / (high - low || 1)))] += 1;
  const top = Math.max(...counts);
  const wide = (WIDTH - 2 * LEFT) / BINS;
  const tall = (count) => (BASE - 14) * count / top;
  if (shape === "bars") return html`<g class=${kind}>${counts.map((count, place) => count > 0 && html`<rect x=${LEFT + place * wide + 0.5} y=${BASE - tall(count)} width=${wide - 1} height=${tall(count)} />`)}</g>`;
  const path = counts.map((count, place) => `${place ? "L" : "M"}${(LEFT + (place + 0.5) * wide).toFixed(1)},${(BASE - tall(count)).toFixed(1)}`).join("");
  return html`<path class=${kind} d=${path} />`;
}
