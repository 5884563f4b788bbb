// The voting page. It knows what to show by place and side alone: neither cells nor which pairs are checks.

const $ = (id) => document.getElementById(id);
const TOKEN = "x-sosie-token";
const state = { token: "", texts: {}, language: "", about: null, person: "", done: 0, place: 0, shown: 0, busy: false, look: 0 };

// ---- the server

async function enter() {
  const secret = location.hash.slice(1);
  history.replaceState(null, "", location.pathname);
  const given = secret ? await fetch("/session", { method: "POST", headers: { [TOKEN]: secret } }) : null;
  const answer = given && given.ok ? given : await fetch("/session");
  if (!answer.ok) throw new Error("locked");
  state.token = await answer.text();
}

async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: "POST", body: JSON.stringify(body), headers: { [TOKEN]: state.token, "content-type": "application/json" },
  };
  const answer = await fetch(path, options);
  if (!answer.ok) throw Object.assign(new Error("lost"), { status: answer.status });
  return answer.json();
}

// ---- words

async function speak(language) {
  state.texts = await (await fetch(`/static/${language}.json`)).json();
  state.language = language;
  document.documentElement.lang = language;
  localStorage.setItem("language", language);
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = state.texts[element.dataset.text];
  for (const element of document.querySelectorAll("[data-label]")) element.ariaLabel = state.texts[element.dataset.label];
  $("language").textContent = state.texts.language;
  $("language").lang = language === "fr" ? "en" : "fr";
  if (state.about) words();
}

function words() {
  const { texts, about } = state;
  $("question").textContent = document.title = texts[about.question];
  $("left").alt = texts["left image"];
  $("right").alt = texts["right image"];
  [...$("references").querySelectorAll("img")].forEach((image, place) => { image.alt = `${texts.reference} ${place + 1}`; });
  const count = texts.count.replace("{done}", Math.min(state.place + 1, about.pairs)).replace("{pairs}", about.pairs);
  $("count").textContent = $("pair").hidden ? "" : count;
}

function trouble(name) {
  $("trouble").textContent = name ? state.texts[name] : "";
  $("trouble").hidden = !name;
}

// ---- what is seen

function only(id) {
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== id;
  $("progress").hidden = id !== "pair";
}

const address = (place, side) => `/api/people/${state.person}/images/${place}/${side}`;

async function show(place) {
  if (place >= state.about.pairs) {
    only("end");
    words();
    $("question").focus();
    return;
  }
  state.place = place;
  only("pair");
  $("sides").classList.add("waiting");
  answerable(false);
  $("progress").max = state.about.pairs;
  $("progress").value = place;
  words();
  $("left").src = address(place, "left");
  $("right").src = address(place, "right");
  try {
    await Promise.all([$("left").decode(), $("right").decode()]);
  } catch {
    if (place === state.place) trouble("lost");
    return;
  }
  if (place !== state.place) return;
  $("sides").classList.remove("waiting");
  state.shown = performance.now();
  answerable(true);
  if (place + 1 < state.about.pairs) for (const side of ["left", "right"]) new Image().src = address(place + 1, side);
}

function answerable(can) {
  state.busy = !can;
  for (const button of document.querySelectorAll("[data-choice]")) button.disabled = !can;
  $("back").disabled = !can || state.place === 0;
}

async function choose(choice) {
  if (state.busy || $("pair").hidden) return;
  answerable(false);
  trouble("");
  const milliseconds = Math.min(Math.round(performance.now() - state.shown), 86_400_000);
  try {
    const standing = await ask(`/api/people/${state.person}/votes`, { place: state.place, choice, milliseconds });
    await show(state.place + 1 < standing.done ? state.place + 1 : standing.done);
  } catch {
    trouble("lost");
    answerable(true);
  }
}

async function begin() {
  trouble("");
  try {
    if (!state.person) {
      state.person = (await ask("/api/people", {})).person;
      localStorage.setItem("person", state.person);
    }
    await show((await ask(`/api/people/${state.person}`)).done);
    $("question").focus();
  } catch {
    trouble("lost");
  }
}

function forget() {
  localStorage.removeItem("person");
  state.person = "";
  only("welcome");
  words();
  $("start").focus();
}

// ---- large: the reference and both sides at the same place, one after the other

const looks = () => [...$("references").querySelectorAll("img"), $("left"), $("right")];

function look(turn) {
  const all = looks();
  state.look = (state.look + turn + all.length) % all.length;
  $("large-image").src = all[state.look].src;
  $("large-image").alt = $("large-name").textContent = all[state.look].alt;
}

function enlarge(image) {
  if ($("pair").hidden || $("sides").classList.contains("waiting")) return;
  state.look = Math.max(0, looks().indexOf(image));
  look(0);
  $("large").showModal();
}

// ---- hands

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const isLarge = $("large").open;
  const acts = isLarge
    ? { ArrowLeft: () => look(-1), ArrowRight: () => look(1), KeyZ: () => $("large").close() }
    : { ArrowLeft: () => choose("left"), ArrowRight: () => choose("right"), ArrowDown: () => choose("neither"),
        Backspace: () => back(), KeyZ: () => enlarge($("left")) };
  const act = acts[event.code];
  if (act && (isLarge || !$("pair").hidden)) {
    event.preventDefault();
    act();
  }
}

function back() {
  if (!state.busy && state.place > 0) show(state.place - 1);
}

function listen() {
  document.addEventListener("keydown", keys);
  $("language").addEventListener("click", () => speak(state.language === "fr" ? "en" : "fr"));
  $("start").addEventListener("click", begin);
  $("another").addEventListener("click", forget);
  $("back").addEventListener("click", back);
  $("enlarge").addEventListener("click", () => enlarge($("left")));
  $("close").addEventListener("click", () => $("large").close());
  for (const button of document.querySelectorAll("[data-choice]")) button.addEventListener("click", () => choose(button.dataset.choice));
  for (const button of document.querySelectorAll("[data-look]")) button.addEventListener("click", () => enlarge($(button.dataset.look)));
  for (const button of document.querySelectorAll("[data-turn]")) button.addEventListener("click", () => look(Number(button.dataset.turn)));
}

function references() {
  for (let place = 0; place < state.about.references; place += 1) {
    const image = new Image();
    const button = document.createElement("button");
    image.src = `/api/references/${place}`;
    button.type = "button";
    button.append(image);
    button.addEventListener("click", () => enlarge(image));
    $("references").append(button);
  }
}

async function main() {
  const wanted = localStorage.getItem("language") || navigator.language.slice(0, 2);
  await speak(wanted === "fr" ? "fr" : "en");
  listen();
  try {
    await enter();
    state.about = await ask("/api/panel");
  } catch (error) {
    return trouble(error.message === "locked" ? "locked" : "lost");
  }
  references();
  const known = localStorage.getItem("person");
  if (known) {
    try {
      const standing = await ask(`/api/people/${known}`);
      state.person = known;
      await show(standing.done);
      return words();
    } catch (error) {
      if (error.status !== 404) return trouble("lost");
    }
  }
  forget();
}

main();
