"use strict";
// Lays two images over each other: under a slider, or one after the other. The page reads without it.

const CALM = matchMedia("(prefers-reduced-motion: reduce)");
const EVERY = 700; // milliseconds: well below three flashes a second
const WAYS = ["beside", "slide", "swap"]; // their words stand in the page

function make(tag, properties, parent) {
  const element = Object.assign(document.createElement(tag), properties);
  parent.append(element);
  return element;
}

function prepare(pair) {
  const view = pair.querySelector(".view");
  const tools = document.createElement("div");
  tools.className = "tools";
  view.before(tools);
  let timer = 0;
  const buttons = WAYS.map((way) => make("button", { type: "button", textContent: view.dataset[way], onclick: () => show(way) }, tools));
  const range = make("input", { type: "range", min: 0, max: 100, value: 50, ariaLabel: view.dataset.cut, hidden: true }, tools);
  const turn = make("button", { type: "button", textContent: "A", ariaLabel: view.dataset.turn, hidden: true }, tools);
  range.addEventListener("input", () => view.style.setProperty("--cut", `${range.value}%`));
  turn.addEventListener("click", () => { stop(); other(); });

  function other() {
    turn.textContent = view.classList.toggle("b-up") ? "B" : "A";
  }
  function stop() {
    clearInterval(timer);
    timer = 0;
  }
  function show(way) {
    stop();
    view.classList.toggle("over", way !== "beside");
    for (const name of ["slide", "swap"]) view.classList.toggle(name, name === way);
    range.hidden = way !== "slide";
    turn.hidden = way !== "swap";
    buttons.forEach((button, place) => { button.ariaPressed = String(WAYS[place] === way); });
    if (way === "swap" && !CALM.matches) timer = setInterval(other, EVERY);
  }
  show("beside");
}

document.querySelectorAll(".pair").forEach(prepare);
