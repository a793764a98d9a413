// Figures are drawn when they come into sight; the plotting library is started with the first of them.

let plotly = null;

function library() {
  if (!plotly) {
    const script = document.createElement("script");
    script.textContent = document.getElementById("plotly").textContent;
    document.head.append(script); // runs now; the policy of the page allows it by its hash
    plotly = window.Plotly;
  }
  return plotly;
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => (onPaper ? PAPER[name] : style.getPropertyValue(`--${name}`).trim());
  return { text: of("text"), faint: of("faint"), rule: of("rule"), page: of("page") };
}

const PAPER = { text: "#1b1b1b", faint: "#555", rule: "#ccc", page: "#fff" };

function layout(more) {
  const { text, faint, rule } = colours();
  const axis = {
    color: faint, gridcolor: rule, linecolor: rule, zerolinecolor: rule, tickcolor: rule, ticks: "outside", ticklen: 4,
    automargin: true, title: { standoff: 8 }, zeroline: false,
  };
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif", size: 12, color: text },
    margin: { l: 48, r: 14, t: 12, b: 40 },
    showlegend: false,
    hoverlabel: { font: { size: 12 }, namelength: 60 },
    dragmode: innerWidth < 600 ? false : "zoom", // a finger scrolls the page
    autosize: true,
    ...more,
    xaxis: { ...axis, ...more.xaxis },
    yaxis: { ...axis, ...more.yaxis },
  };
}

const OPTIONS = { responsive: true, displayModeBar: false, doubleClick: false, scrollZoom: false };

function translucent(hex, alpha) {
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  return `rgba(${r},${g},${b},${alpha})`;
}

// Light for little and dark for much, in the dark the other way round; it reads in grey too. A power of 2 spreads the
// low end.
function shades(power = 1) {
  const scale = ["#eef5fa", "#d6e8f5", "#8fc1e3", "#3d93c8", "#0072b2", "#003f6a"];
  const night = ["#1b222b", "#123a57", "#0b5f92", "#3d93c8", "#8fc1e3", "#e4f1fa"];
  const used = dark() ? night : scale;
  return used.map((colour, i) => [(i / (used.length - 1)) ** power, colour]);
}

class Figure {
  constructor(place, legend, draw) {
    this.place = place;
    this.legend = legend;
    this.data = json(place.querySelector("script"));
    this.drawing = element("div", undefined, "drawing");
    this.place.append(this.drawing);
    this.draw = draw;
    this.drawn = false;
  }

  // Draws the figure, or draws it again with other data or other colours.
  show() {
    const { traces, layout: about } = this.draw(this.data, this.legend, this);
    library().react(this.drawing, traces, layout(about), OPTIONS);
    if (!this.drawn) {
      this.drawing.on("plotly_relayout", () => this.rangeChanged?.());
      this.drawing.on("plotly_doubleclick", () => this.reset?.());
    }
    this.drawn = true;
    this.place.dataset.drawn = "true";
  }

  update() {
    if (this.drawn) this.show();
  }
}

function observed(figures) {
  const of = new Map(figures.map((figure) => [figure.place, figure]));
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      observer.unobserve(entry.target);
      of.get(entry.target).show();
    }
  }, { rootMargin: "200px" });
  figures.forEach((figure) => observer.observe(figure.place));
}

// On paper everything is shown, in light colours.
function printing(figures) {
  let closed = [];
  const begin = () => {
    if (onPaper) return;
    onPaper = true;
    closed = [...document.querySelectorAll("details:not([open])")];
    closed.forEach((each) => { each.open = true; });
    drawSwatches();
    for (const figure of figures) {
      figure.show();
      library().relayout(figure.drawing, { width: figure.place.dataset.figure === "matrix" ? 200 : 640 }); // of A4
    }
  };
  const end = () => {
    onPaper = false;
    closed.forEach((each) => { each.open = false; });
    drawSwatches();
    figures.forEach((figure) => {
      figure.show();
      library().relayout(figure.drawing, { width: undefined, autosize: true });
    });
  };
  addEventListener("beforeprint", begin);
  addEventListener("afterprint", end);
}
