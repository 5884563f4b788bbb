// Doctor: what a dropped file is, what is wrong with it and what mends it; this machine at a glance.
import { Findings, api, html, number, say, t, tell, useEffect, useState } from "../core.js";
import { Drop } from "./characters.js";

const PIECEWISE = ["safetensors", "sft", "gguf", "ckpt", "pth", "pt", "bin"]; // the browser keeps these, and sends what is read
const WHOLE = ["onnx", "json", "png", "toml"];
const suffixOf = (file) => file.name.split(".").pop().toLowerCase();
const gigabytes = (bytes) => bytes === null ? "–" : `${number(bytes / 1e9, 1)} GB`;
const bytesOf = (size) => size < 1e6 ? `${number(size / 1e3, 1)} kB` : size < 1e9 ? `${number(size / 1e6, 1)} MB` : gigabytes(size);

// Asks with the parts that were wanted so far, until nothing more is.
async function examine(file, suffix) {
  if (WHOLE.includes(suffix)) return { ...await api(`/api/doctor?suffix=${suffix}`, file), sent: file.size };
  const held = [];
  for (let round = 0; round < 12; round += 1) {
    const list = new TextEncoder().encode(JSON.stringify(held));
    const head = new DataView(new ArrayBuffer(4));
    head.setUint32(0, list.length, true);
    const body = new Blob([head, list, ...held.map(([start, length]) => file.slice(start, start + length))]);
    const found = await api(`/api/doctor/pieces?suffix=${suffix}&size=${file.size}`, body);
    if (!found.wanted) return { ...found, sent: body.size };
    held.push(...found.wanted);
  }
  throw new Error(t("never enough"));
}

export function Doctor() {
  const [found, set] = useState([]);
  const [machine, know] = useState(null);
  const [busy, work] = useState("");
  useEffect(() => { api("/api/doctor/machine").then(know, tell); }, []);
  const add = (list) => set((old) => [...list, ...old]);
  const wrong = (name, error) => add([{ name, kind: "", mends: [], findings: [{ code: "", severity: "error", message: error.message, hint: error.hint || "" }] }]);
  async function take(list) {
    for (const file of list) {
      const suffix = suffixOf(file);
      if (![...PIECEWISE, ...WHOLE].includes(suffix)) { say(t("not for doctor", { name: file.name })); continue; }
      work(t("examining", { name: file.name }));
      try {
        const { checkups, sent } = await examine(file, suffix);
        add(checkups.map((one) => ({ ...one, name: file.name, file, sent })));
      } catch (error) {
        wrong(file.name, error);
      }
      work("");
    }
  }
  async function mend(one) {
    work(t("mending", { name: one.name }));
    try {
      const { checkups, sha256, message, bytes } = await api(`/api/doctor/mend?suffix=${suffixOf(one.file)}`, one.file);
      add(checkups.map((each) => ({ ...each, name: `${one.name.replace(/\.[^.]+$/, "")}.mended.safetensors`, sha256, message, bytes, mends: [] })));
    } catch (error) {
      wrong(one.name, error);
    }
    work("");
  }
  return html`<h1>${t("view doctor")}</h1><${Drop} take=${take} multiple text=${t("drop files")} />
    ${busy && html`<p role="status">${busy}</p>`}
    <div class="stack" aria-live="polite">${found.map((one) => html`<${Checkup} one=${one} mend=${busy ? null : mend} />`)}</div>
    ${machine ? html`<${Machine} found=${machine} />` : html`<p class="faint">${t("loading")}</p>`}`;
}

function Checkup({ one, mend }) {
  const facts = ["role", "family", "variant", "layout", "storage"].filter((key) => one[key]).map((key) => `${t(`fact ${key}`)}: ${one[key]}`);
  if (one.parameters) facts.push(`${t("fact parameters")}: ${number(one.parameters / 1e6, 0)} M`);
  return html`<section class="card" data-checkup=${one.name}><div class="row"><h2>${one.name}</h2>${one.kind && html`<span class="tag">${t(`kind of ${one.kind}`)}</span>`}
      ${one.sent !== undefined && one.file.size !== one.sent && html`<span class="small faint">${t("read of", { read: bytesOf(one.sent), size: bytesOf(one.file.size) })}</span>`}</div>
    ${facts.length > 0 && html`<p class="small faint">${facts.join(" · ")}</p>`}
    <${Checked} findings=${one.findings} />
    ${one.sha256 && html`<p><span class="tag good">✓ ${t("mended")}</span> <code>outputs/mended/${one.sha256.slice(0, 12)}….safetensors</code> <a class="button" href=${`/api/doctor/mended/${one.sha256}`} download=${one.name}>${t("download mended", { size: bytesOf(one.bytes) })}</a></p>`}
    ${(one.mends || []).map((action) => html`<button class="strong" disabled=${!mend} onClick=${() => mend(one)}>${t(`mend ${action}`)}</button>`)}</section>`;
}

const Checked = ({ findings }) => html`<${Findings} findings=${findings} />
  ${!findings.length && html`<p><span class="tag good">✓ ${t("nothing wrong")}</span></p>`}`;

function Machine({ found }) {
  const rows = [
    ...found.cards.map((card) => [t("glance card"), `${card.name} · ${t("free of", { free: gigabytes(card.free), size: gigabytes(card.memory) })}`]),
    [t("glance memory"), gigabytes(found.memory)], [t("glance disk"), t("free", { size: gigabytes(found.free_disk) })], ["torch", found.torch || `– ${t("not installed")}`],
  ];
  return html`<section class="card"><h2>${t("this machine")}</h2><table class="glance"><tbody>${rows.map(([key, text]) => html`<tr><th scope="row">${key}</th><td>${text}</td></tr>`)}</tbody></table>
    ${found.checkups.map((one) => html`<${Checked} findings=${one.findings} />`)}</section>`;
}
