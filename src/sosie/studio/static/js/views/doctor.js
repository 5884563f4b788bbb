// Doctor: what a dropped file is and what is wrong with it; this machine at a glance.
import { api, html, say, t, tell, useEffect, useState } from "../core.js";
import { Drop } from "./characters.js";

const KNOWN = ["safetensors", "gguf", "ckpt", "pth", "pt", "bin", "onnx", "json", "png", "toml"];

export function Doctor() {
  const [found, set] = useState([]);
  const [machine, know] = useState(null);
  const [busy, work] = useState("");
  useEffect(() => { api("/api/doctor/machine").then((one) => know(one.checkups[0]), tell); }, []);
  async function take(list) {
    for (const file of list) {
      const suffix = file.name.split(".").pop().toLowerCase();
      if (!KNOWN.includes(suffix)) { say(t("not for doctor", { name: file.name })); continue; }
      work(file.name);
      try {
        const { checkups } = await api(`/api/doctor?suffix=${suffix}`, file);
        set((old) => [...checkups.map((one) => ({ ...one, name: file.name })), ...old]);
      } catch (error) {
        set((old) => [{ name: file.name, kind: "", findings: [{ code: "", severity: "error", message: error.message, hint: error.hint }] }, ...old]);
      }
      work("");
    }
  }
  return html`<h1>${t("view doctor")}</h1><${Drop} take=${take} multiple text=${t("drop files")} />
    ${busy && html`<p role="status">${t("examining", { name: busy })}</p>`}
    <div class="stack" aria-live="polite">${found.map((one) => html`<${Checkup} one=${one} name=${one.name} />`)}</div>
    ${machine ? html`<${Checkup} one=${machine} name=${t("this machine")} />` : html`<p class="faint">${t("loading")}</p>`}`;
}

function Checkup({ one, name }) {
  const facts = ["role", "family", "variant", "layout", "storage", "parameters"].filter((key) => one[key]);
  return html`<section class="card"><div class="row"><h2>${name}</h2>${one.kind && html`<span class="tag">${one.kind}</span>`}</div>
    ${facts.length > 0 && html`<p class="small faint">${facts.map((key) => `${t(`fact ${key}`)}: ${one[key]}`).join(" · ")}</p>`}
    ${one.findings.map((finding) => html`<div class="finding ${finding.severity}"><strong>${t(`severity ${finding.severity}`)}</strong> ${finding.code && html`<code>${finding.code}</code>`}<br />${finding.message}${finding.hint && html`<div class="small faint">${finding.hint}</div>`}</div>`)}
    ${!one.findings.length && html`<p><span class="tag good">✓ ${t("nothing wrong")}</span></p>`}</section>`;
}
