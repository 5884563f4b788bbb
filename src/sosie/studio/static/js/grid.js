// A grid of any length: only what is seen is in the document, fetched by windows, and the place is remembered.
import { api, html, identity, language, number, picture, query, signal, t, tell, useEffect, useRef, useState, Verdict } from "./core.js";

const BLOCK = 100;
const MOST_BLOCKS = 30;
const GAP = 8;

export class Source {
  // The images of a filter, by place.
  constructor(filter) {
    this.filter = filter;
    this.total = signal(-1);
    this.version = signal(0);
    this.blocks = new Map();
  }

  at(place) {
    const block = Math.floor(place / BLOCK);
    const rows = this.blocks.get(block);
    if (!rows) this.fetch(block);
    return Array.isArray(rows) ? rows[place % BLOCK] : undefined;
  }

  known(first, last) {
    // The digests of a range, or null where not all of it has come.
    const found = [];
    for (let place = first; place <= last; place += 1) {
      const rows = this.blocks.get(Math.floor(place / BLOCK));
      if (!Array.isArray(rows)) return null;
      if (rows[place % BLOCK]) found.push(rows[place % BLOCK].sha256);
    }
    return found;
  }

  async fetch(block) {
    if (this.blocks.has(block)) return;
    const wait = new AbortController();
    this.blocks.set(block, wait);
    try {
      const found = await api(`/api/images?${query({ ...this.filter, start: block * BLOCK, count: BLOCK })}`, undefined, { signal: wait.signal });
      this.blocks.delete(block);
      this.blocks.set(block, found.images);
      this.total.value = found.total;
      for (const key of [...this.blocks.keys()].slice(0, Math.max(0, this.blocks.size - MOST_BLOCKS))) this.blocks.delete(key);
      this.version.value = this.version.peek() + 1;
    } catch (error) {
      this.blocks.delete(block);
      tell(error);
    }
  }

  forget() {
    this.blocks.clear();
    this.fetch(0);
  }

  change(sha256, what) {
    // A new object: what is drawn of the same one is not drawn again.
    for (const [block, rows] of this.blocks) if (Array.isArray(rows)) this.blocks.set(block, rows.map((row) => row.sha256 === sha256 ? { ...row, ...what } : row));
    this.version.value = this.version.peek() + 1;
  }
}

const alt = (image) => `${image.character}, ${image.prompt || image.recipe}`;

export const Cell = ({ image, style, at, chosen, place, onClick, onDblClick }) => html`<div class="cell ${at ? "at" : ""} ${chosen ? "chosen" : ""}"
    style=${style} role="gridcell" id=${`cell-${place}`} aria-selected=${chosen} data-sha256=${image.sha256} onClick=${onClick} onDblClick=${onDblClick}>
  <img src=${picture(image.sha256, 320)} alt=${alt(image)} loading="lazy" decoding="async" draggable=${false} />
  <div class="under"><${Verdict} image=${image} />
    <span class="why num">${identity(image).map((score) => `${score.name} ${number(score.value, 2)}`).join(" · ") || `– ${t("not judged")}`}</span></div>
</div>`;

// `state` is a signal of { at, top }; `chosen` a signal of a Set of digests.
export function Grid({ source, state, chosen, size, paged, onKey, onOpen, onRange }) {
  const box = useRef(null);
  const [view, see] = useState({ top: state.value.top || 0, width: 0, height: 0 });
  useEffect(() => {
    const element = box.current;
    const look = new ResizeObserver(() => see((old) => ({ ...old, width: element.clientWidth, height: element.clientHeight })));
    look.observe(element);
    source.fetch(0);
    return () => look.disconnect();
  }, [source]);
  const total = Math.max(0, source.total.value);
  source.version.value; // drawn again when something has come
  language.value;
  const wanted = view.width < 520 ? Math.min(size, (view.width - GAP) / 2) : size; // two beside each other on a phone
  const columns = Math.max(1, Math.floor((view.width + GAP) / (wanted + GAP)));
  const width = columns ? (view.width - GAP * (columns - 1)) / columns : size;
  const height = Math.round(width + 66);
  const rows = Math.ceil(total / columns);
  const inView = Math.max(1, Math.floor((view.height + GAP) / (height + GAP)));
  const restored = useRef(false);
  useEffect(() => {
    if (!restored.current && total && view.width) {
      restored.current = true;
      box.current.scrollTop = state.value.top || 0;
    }
  }, [total, view.width]);

  const first = Math.max(0, Math.floor(view.top / (height + GAP)) - 1);
  const last = Math.min(rows, Math.ceil((view.top + view.height) / (height + GAP)) + 1);
  const cells = [];
  for (let row = first; row < last; row += 1) {
    const line = [];
    for (let column = 0; column < columns; column += 1) {
      const place = row * columns + column;
      if (place >= total) break;
      const image = source.at(place);
      const style = `width:${width}px;height:${height}px;transform:translate(${column * (width + GAP)}px,${row * (height + GAP)}px)`;
      line.push(image ? html`<${Cell} key=${place} image=${image} place=${place} style=${style} at=${state.value.at === place} chosen=${chosen.value.has(image.sha256)}
          onClick=${(event) => pick(place, event)} onDblClick=${() => onOpen(image)} />` : html`<div key=${place} class="cell" style=${style} role="gridcell"></div>`);
    }
    cells.push(html`<div role="row" key=${row} aria-rowindex=${row + 1}>${line}</div>`);
  }

  const scrolled = () => {
    const { scrollTop } = box.current;
    see((old) => ({ ...old, top: scrollTop }));
    state.value = { ...state.value, top: scrollTop };
  };

  function pick(place, event) {
    const image = source.at(place);
    if (event.shiftKey) onRange(state.value.at ?? place, place);
    else if (event.ctrlKey || event.metaKey) {
      const next = new Set(chosen.value);
      if (!next.delete(image.sha256)) next.add(image.sha256);
      chosen.value = next;
    } else if (chosen.value.size) chosen.value = new Set();
    state.value = { ...state.value, at: place, anchor: event.shiftKey ? state.value.anchor ?? state.value.at : place };
    box.current.focus();
  }

  function move(to, event) {
    const place = Math.max(0, Math.min(total - 1, to));
    const anchor = state.value.anchor ?? state.value.at ?? 0;
    if (event.shiftKey) onRange(anchor, place);
    state.value = { ...state.value, at: place, anchor: event.shiftKey ? anchor : place };
    show(place);
  }

  function show(place) {
    const element = box.current;
    const top = Math.floor(place / columns) * (height + GAP);
    if (paged) element.scrollTop = Math.floor(top / (inView * (height + GAP))) * inView * (height + GAP);
    else if (top < element.scrollTop) element.scrollTop = top;
    else if (top + height > element.scrollTop + view.height) element.scrollTop = top + height - view.height;
  }

  function keys(event) {
    const at = state.value.at ?? 0;
    const page = inView * columns;
    const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, PageUp: -page, PageDown: page, Home: -at, End: total - 1 - at };
    if (event.code in moves) {
      event.preventDefault();
      move(at + moves[event.code], event);
    } else if (event.code === "KeyA" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      onRange(0, total - 1);
    } else if (!event.ctrlKey && !event.metaKey && !event.altKey && onKey(event, source.at(at), () => move(at + 1, {}))) {
      event.preventDefault();
    }
  }

  const pages = Math.max(1, Math.ceil(rows / inView));
  const page = Math.min(pages, Math.floor((view.top + 1) / (inView * (height + GAP))) + 1);
  const turn = (by) => { box.current.scrollTop = (page - 1 + by) * inView * (height + GAP); };
  return html`<div class="grid ${paged ? "paged" : ""}" ref=${box} role="grid" tabindex="0" aria-label=${t("images")} aria-rowcount=${rows} aria-multiselectable="true"
      aria-activedescendant=${`cell-${state.value.at ?? 0}`} onScroll=${scrolled} onKeyDown=${keys}>
      <div style=${`height:${Math.max(0, paged ? pages * inView * (height + GAP) : rows * (height + GAP) - GAP)}px`} role="presentation"></div>
      <div style="position:absolute;inset:0 0 auto 0" role="rowgroup">${cells}</div></div>
    ${paged && html`<div class="row" role="navigation" aria-label=${t("pages")}><button onClick=${() => turn(-1)} disabled=${page <= 1}>‹ ${t("previous")}</button>
      <span class="num">${t("page of", { n: page, of: pages })}</span><button onClick=${() => turn(1)} disabled=${page >= pages}>${t("next")} ›</button></div>`}`;
}
