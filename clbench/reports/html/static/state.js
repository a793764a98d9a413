// What the reader has chosen, kept when the page is loaded again, by itself too.

const STATE_KEY = `clbench-report ${location.pathname}`;
const state = restored();

function restored() {
  try {
    return JSON.parse(sessionStorage.getItem(STATE_KEY)) ?? {};
  } catch {
    return {}; // a browser without storage for files
  }
}

function kept(key, fallback) {
  return key in state ? state[key] : fallback;
}

function keep(key, value) {
  state[key] = value;
  try {
    sessionStorage.setItem(STATE_KEY, JSON.stringify(state));
  } catch {
    // the page works without
  }
}

function followed(seconds) {
  if (!seconds) return;
  window.scrollTo(0, kept("scroll", 0));
  let pressed = false;
  addEventListener("pointerdown", () => { pressed = true; });
  addEventListener("pointerup", () => { pressed = false; });
  setInterval(() => {
    const choosing = document.activeElement instanceof HTMLSelectElement;
    if (pressed || choosing || document.hidden) return;
    keep("scroll", window.scrollY);
    keep("focus", pathTo(document.activeElement));
    keep("open", [...document.querySelectorAll("details")].map((each) => each.open));
    location.reload();
  }, 1000 * seconds);
  const open = kept("open", []);
  const all = [...document.querySelectorAll("details")];
  if (open.length === all.length) all.forEach((each, i) => { each.open = open[i]; });
  const focus = kept("focus", null);
  if (focus) document.querySelector(focus)?.focus({ preventScroll: true });
}

// The zoom of each figure.
function keepRange(figure) {
  keep(`range ${figure.key}`, figure.range ?? null);
}

// A selector of an element by its places among its neighbours.
function pathTo(target) {
  const steps = [];
  for (let at = target; at && at !== document.body; at = at.parentElement) {
    steps.unshift(`${at.localName}:nth-child(${[...at.parentElement.children].indexOf(at) + 1})`);
  }
  return steps.length ? `body > ${steps.join(" > ")}` : null;
}
