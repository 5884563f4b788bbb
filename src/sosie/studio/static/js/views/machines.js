// Machines: what bills with its cost so far and its end, what can be rented, and taking one down.
import { Findings, api, decimal, field, html, number, query, remembered, say, t, tell, told, useEffect, useState, worded } from "../core.js";

const form = remembered("offers", { gpu: "", gpus: "1", disk: "60", hours: "4", price: "", places: "" });
const dollars = (value, digits = 2) => value === null || value === undefined ? html`<span title=${t("cost unknown")}>–</span>` : `${number(value, digits)} $`;
const moment = (text) => text ? new Date(text).toLocaleString(document.documentElement.lang, { dateStyle: "short", timeStyle: "short" }) : "–";

export function Machines() {
  const [found, set] = useState(null);
  const [sure, ask] = useState("");
  const [busy, work] = useState("");
  const look = () => api("/api/machines").then(set, tell);
  useEffect(() => {
    look();
    const again = setInterval(() => { if (!document.hidden) look(); }, 30000);
    return () => clearInterval(again);
  }, []);
  async function end(name) {
    ask("");
    work(name);
    try {
      await api(`/api/machines/${encodeURIComponent(name)}/end`, {});
      say(t("machine ended", { name }));
    } catch (error) {
      tell(error);
    }
    work("");
    look();
  }
  return html`<div class="head"><h1>${t("view machines")}</h1><div class="row">${found && html`<span class="tag ${found.price ? "warn" : "good"}">${found.price ? t("bills an hour", { price: number(found.price, 2) }) : t("nothing bills")}</span>`}<button onClick=${look}>${t("look again")}</button></div></div>
    ${!found && html`<p role="status">${t("asking providers")}</p>`}
    ${found && html`<${Findings} findings=${found.findings} />`}
    ${found && html`<section class="card"><h2>${t("leases")}</h2>${found.leases.length ? html`<div class="wide"><table class="stacked"><thead><tr><th>${t("field name")}</th><th>${t("glance card")}</th><th>${t("state")}</th><th class="num">${t("an hour")}</th><th class="num">${t("cost so far")}</th><th>${t("ends by itself")}</th><th class="num">${t("at most")}</th><th></th></tr></thead><tbody>
      ${found.leases.map((one) => html`<tr key=${`${one.provider}${one.id}${one.pod}`} data-lease=${one.id}><td><strong>${one.pod || t("rented elsewhere")}</strong><div class="small faint">${one.provider} ${one.id}</div></td><td>${one.gpu || "–"}</td><td><span class="tag ${{ running: "good", failed: "bad", stopped: "warn", unknown: "warn" }[one.state] || ""}">${t(`lease ${one.state}`)}</span></td>
        <td class="num" data-label=${t("an hour")}>${dollars(one.price, 3)}</td><td class="num" data-label=${t("cost so far")}>${dollars(one.cost)}</td><td data-label=${t("ends by itself")}>${one.deadline ? moment(one.deadline) : html`<span class="tag bad">${t("without end")}</span>`}</td><td class="num" data-label=${t("at most")}>${dollars(one.most)}</td>
        <td>${one.pod && (sure === one.pod ? html`<span class="row"><button class="strong" onClick=${() => end(one.pod)}>${t("really end", { name: one.pod })}</button><button onClick=${() => ask("")}>${t("cancel")}</button></span>`
          : html`<button disabled=${busy !== ""} onClick=${() => ask(one.pod)} aria-label=${t("take down name", { name: one.pod })}>${busy === one.pod ? t("state ending") : t("take down")}</button>`)}
          ${!one.pod && html`<span class="small faint">${t("end elsewhere")}</span>`}</td></tr>`)}</tbody></table></div>` : html`<p class="faint">${t("nothing bills")}</p>`}</section>`}
    ${found && found.providers.length > 0 && html`<${Offers} />`}
    ${found && found.past.length > 0 && html`<section class="card"><h2>${t("paid before")}</h2><div class="wide"><table><tbody>${found.past.map((one) => html`<tr key=${one.label}><td>${one.label}</td><td>${one.gpu}</td><td>${moment(one.started)} … ${moment(one.ended)}</td><td class="num">${dollars(one.cost)}</td><td>${t("kept of", { kept: one.kept, n: one.drawn })}</td><td class="small faint">${worded(one, "problems").join("; ")}</td></tr>`)}</tbody></table></div></section>`}`;
}

function Offers() {
  const [found, set] = useState(null);
  const [busy, work] = useState(false);
  async function search(event) {
    event.preventDefault();
    work(true);
    const { disk, hours, price, ...rest } = form.value;
    set(await api(`/api/machines/offers?${query({ ...rest, disk: decimal(disk) || 0, hours: decimal(hours) || 0, price: decimal(price) || 0 })}`).catch(tell) ?? found);
    work(false);
  }
  const rent = (one) => `sosie pod up NAME --provider ${one.provider} --gpu "${one.gpu}" --disk ${form.value.disk}GB --hours ${form.value.hours} --max-cost ${(one.most * 1.1).toFixed(2)}`;
  return html`<section class="card stack"><h2>${t("offers")}</h2><form class="filters" onSubmit=${search}>
      ${field(form, "gpu", { placeholder: "4090", maxlength: 60 })}${field(form, "gpus", { type: "number", min: 1, max: 16, required: true })}${field(form, "disk", { inputmode: "decimal" })}${field(form, "hours", { inputmode: "decimal" })}${field(form, "price", { inputmode: "decimal", placeholder: t("any") })}${field(form, "places", { placeholder: "EU, US" })}
      <button class="strong" disabled=${busy}>${busy ? t("asking providers") : t("search offers")}</button></form>
    ${found && html`<${Findings} findings=${found.findings} />`}
    ${found && !found.offers.length && html`<p class="faint">${t("no offers")}</p>`}
    ${found && found.offers.length > 0 && html`<div class="wide"><table class="stacked offers"><thead><tr><th>${t("glance card")}</th><th>${t("place")}</th><th class="num">${t("reliability")}</th><th class="num">${t("an hour")}</th><th class="num">${t("for hours", { n: form.value.hours })}</th><th>${t("rent by")}</th></tr></thead><tbody>
      ${found.offers.map((one) => html`<tr key=${`${one.provider}${one.id}`} data-offer=${one.id} class=${one.struck ? "faint" : ""}><td>${one.gpus} × ${one.gpu} ${one.memory ? html`<span class="small">${number(one.memory / 1e9, 0)} GB</span>` : ""}<div class="small faint">${one.provider} ${one.id}</div></td><td>${one.place || "–"}</td><td class="num" data-label=${t("reliability")}>${one.reliability === null ? "–" : `${number(100 * one.reliability, 1)} %`}</td><td class="num" data-label=${t("an hour")}>${dollars(one.price, 3)}</td>
        <td class="num" data-label=${t("for hours", { n: form.value.hours })}>${dollars(one.most)}</td><td>${one.struck ? html`<span class="tag bad">${t("struck out")}</span> <span class="small">${told(one, "struck")}</span>` : html`<code class="small">${rent(one)}</code>`}</td></tr>`)}</tbody></table></div>`}</section>`;
}
