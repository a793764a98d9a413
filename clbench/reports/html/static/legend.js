// Which methods are drawn, and how: colour, dash and marker of each, so that colour is not needed.

const DASHES = ["solid", "dash", "dot", "dashdot", "longdash"];
const MARKERS = ["circle", "square", "diamond", "triangle-up", "cross", "x", "triangle-down", "star"];
const DARK = { "#0072B2": "#5BB4EC", "#D55E00": "#FF8A3D", "#009E73": "#2CCBA0", "#000000": "#E8E8E8" };

const isDark = matchMedia("(prefers-color-scheme: dark)");
let onPaper = false;

function dark() {
  return isDark.matches && !onPaper;
}

function look(number) {
  const palette = settings.palette;
  const colour = palette[number % palette.length];
  return {
    colour: dark() ? DARK[colour] ?? colour : colour,
    dash: DASHES[(number + Math.floor(number / palette.length)) % DASHES.length],
    marker: MARKERS[(number + Math.floor(number / MARKERS.length)) % MARKERS.length],
  };
}

const STROKES = { solid: "", dash: "7 4", dot: "2 3", dashdot: "8 3 2 3", longdash: "12 4" };
const SHAPES = {
  circle: "M14 3a4 4 0 1 0 .01 0z",
  square: "M10.5 3.5h7v7h-7z",
  diamond: "M14 2l5 5-5 5-5-5z",
  "triangle-up": "M14 2.5l5 8.5h-10z",
  "triangle-down": "M14 11.5l5-8.5h-10z",
  cross: "M12.5 2.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
  x: "M11 2l3 3 3-3 2 2-3 3 3 3-2 2-3-3-3 3-2-2 3-3-3-3z",
  star: "M14 1.5l1.7 3.6 3.9.5-2.9 2.7.8 3.9-3.5-1.9-3.5 1.9.8-3.9-2.9-2.7 3.9-.5z",
};

function drawSwatch(swatch) {
  const { colour, dash, marker } = look(Number(swatch.dataset.method));
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 28 14");
  const line = document.createElementNS(svg.namespaceURI, "path");
  line.setAttribute("d", "M0 7h28");
  line.setAttribute("stroke", colour);
  line.setAttribute("stroke-width", "2");
  line.setAttribute("stroke-dasharray", STROKES[dash]);
  const shape = document.createElementNS(svg.namespaceURI, "path");
  shape.setAttribute("d", SHAPES[marker]);
  shape.setAttribute("fill", colour);
  svg.append(line, shape);
  swatch.replaceChildren(svg);
}

function drawSwatches() {
  document.querySelectorAll(".swatch").forEach(drawSwatch);
}

// The methods of a board that are drawn; all of its curves follow.
class Legend {
  constructor(section) {
    const { methods, shown } = json(section.querySelector("script.methods"));
    this.section = section;
    this.methods = methods;
    this.key = `shown ${section.id}`;
    this.shown = new Set(kept(this.key, shown));
    this.followers = [];
    for (const button of section.querySelectorAll("button.method")) {
      const number = Number(button.dataset.method);
      button.addEventListener("click", () => this.toggle(number));
    }
    for (const button of section.querySelectorAll("button[data-all]")) {
      button.addEventListener("click", () => this.all(Boolean(button.dataset.all)));
    }
    this.changed();
  }

  toggle(number) {
    if (!this.shown.delete(number)) this.shown.add(number);
    this.changed();
  }

  all(shown) {
    this.shown = new Set(shown ? this.methods.keys() : []);
    this.changed();
  }

  changed() {
    for (const button of this.section.querySelectorAll("button.method")) {
      button.setAttribute("aria-pressed", this.shown.has(Number(button.dataset.method)));
    }
    keep(this.key, [...this.shown]);
    this.followers.forEach((follow) => follow());
  }

  // A name for figures, shortened to so many letters.
  name(number, most = Infinity) {
    const { name, unfinished } = this.methods[number];
    const shown = name.length > most ? `${name.slice(0, most - 1)}\u2026` : name;
    return escaped(shown) + (unfinished ? " (not completed)" : "");
  }
}
