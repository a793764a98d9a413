// Everything in its place.

const settings = json(document.getElementById("settings"));

// Sets a menu to what was chosen before, and calls `choose` then and whenever it changes.
function menu(select, key, choose) {
  const before = kept(key, null);
  if (before !== null && [...select.options].some((option) => option.value === before)) select.value = before;
  const changed = () => { keep(key, select.value); choose(select.value); };
  select.addEventListener("change", changed);
  choose(select.value);
}

function zoomed([low, high], [first, last], how) {
  const width = high - low;
  const moves = { in: [0.25, -0.25], out: [-0.5, 0.5], left: [-0.25, -0.25], right: [0.25, 0.25] };
  let [a, b] = [low + moves[how][0] * width, high + moves[how][1] * width];
  if (how === "left" || how === "right") {
    const slip = Math.max(first - a, 0) + Math.min(last - b, 0);
    [a, b] = [a + slip, b + slip];
  }
  return [Math.max(first, a), Math.min(last, b)];
}

function zoomable(figure) {
  const zoom = (how) => {
    if (!figure.drawn) return;
    const now = figure.drawing.layout.xaxis.range;
    figure.range = how === "reset" ? null : zoomed(now, figure.whole, how);
    figure.heights = {};
    figure.show();
    keepRange(figure);
    const [a, b] = figure.range ?? figure.whole;
    say(`updates ${Math.round(a)} to ${Math.round(b)}`);
  };
  const keys = { "+": "in", "=": "in", "-": "out", ArrowLeft: "left", ArrowRight: "right", 0: "reset" };
  figure.place.addEventListener("keydown", (event) => {
    if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    zoom(keys[event.key]);
  });
  figure.reset = () => zoom("reset");
  figure.rangeChanged = () => {
    const { range, autorange } = figure.drawing.layout.xaxis;
    figure.range = autorange || (range[0] === figure.whole[0] && range[1] === figure.whole[1]) ? null : [...range];
    const { range: heights, autorange: whole } = figure.drawing.layout.yaxis;
    figure.heights = whole ? {} : { range: [...heights] };
    keepRange(figure);
  };
  return zoom;
}

function board(section) {
  const legend = new Legend(section);
  const figures = [];
  for (const place of section.querySelectorAll("div[data-figure]")) {
    const figure = new Figure(place, legend, DRAWINGS[place.dataset.figure]);
    figure.key = `${section.id} ${figures.length}`;
    figure.range = kept(`range ${figure.key}`, null);
    figures.push(figure);
    if (["accuracy", "gap"].includes(place.dataset.figure)) {
      legend.followers.push(() => figure.update());
      const zoom = zoomable(figure);
      if (place.dataset.figure === "accuracy") {
        section.querySelectorAll("[data-zoom]").forEach((button) => {
          button.addEventListener("click", () => zoom(button.dataset.zoom));
        });
      }
    }
    const control = { accuracy: "task", costs: "cost" }[place.dataset.figure];
    if (control) {
      menu(section.querySelector(`[data-control="${control}"]`), `${control} ${section.id}`, (value) => {
        figure.choice = value;
        figure.update();
      });
    }
  }
  const table = section.querySelector("table.differences");
  if (table) {
    const differences = new Differences(table, legend);
    menu(section.querySelector('[data-control="metric"]'), `metric ${section.id}`, (value) => {
      differences.metric = Number(value);
      differences.show();
    });
    menu(section.querySelector('[data-control="reference"]'), `reference ${section.id}`, (value) => {
      differences.reference = Number(value);
      differences.show();
    });
  }
  return figures;
}

// In the contents of many boards, the sections of the one in sight.
function contents() {
  const details = document.querySelector("details.contents");
  if (innerWidth < 1000) details.open = false;
  const boards = [...document.querySelectorAll("section.board")];
  if (boards.length < 4) return;
  details.classList.add("many");
  const entry = (board) => details.querySelector(`a[href="#${board.id}"]`).parentElement;
  const observer = new IntersectionObserver((changes) => {
    changes.forEach(({ target, isIntersecting }) => entry(target).classList.toggle("current", isIntersecting));
  }, { rootMargin: "-30% 0px -60% 0px" });
  boards.forEach((board) => observer.observe(board));
}

function main() {
  const figures = [...document.querySelectorAll("section.board")].flatMap(board);
  document.querySelectorAll("table.sortable").forEach(sortable);
  definitions();
  drawSwatches();
  observed(figures);
  printing(figures);
  isDark.addEventListener("change", () => {
    drawSwatches();
    figures.forEach((figure) => figure.update());
  });
  contents();
  followed(settings.reload_s);
  document.documentElement.dataset.ready = "true";
}

main();
