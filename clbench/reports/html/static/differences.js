// Paired differences of all methods with one of them, in one metric.

function signed(value, places) {
  return `${value > 0 ? "+" : value < 0 ? "\u2212" : ""}${Math.abs(value).toFixed(places)}`;
}

// A finding seen from the method: the reference is the other one.
function facing(finding, turned) {
  if (!turned) return finding;
  return {
    ...finding,
    mean: finding.mean === null ? null : -finding.mean,
    interval: finding.interval === null ? null : [-finding.interval[1], -finding.interval[0]],
    improvement: finding.improvement === null ? null : 1 - finding.improvement,
    better: finding.worse,
    worse: finding.better,
    verdict: -finding.verdict,
  };
}

// `reach`: the lowest and the highest end of all intervals, 0 included.
function intervalPicture(finding, [low, high]) {
  const cell = element("td", undefined, "axis wide");
  if (finding.mean === null) return cell;
  const at = (value) => 5 + (190 * (value - low)) / (high - low);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 200 14");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const line = (kind, x1, x2, y1, y2) => {
    const out = document.createElementNS(svg.namespaceURI, "line");
    Object.entries({ class: kind, x1, x2, y1, y2 }).forEach(([key, value]) => out.setAttribute(key, value));
    svg.append(out);
  };
  line("zero", at(0), at(0), 0, 14);
  if (finding.interval) line("whisker", at(finding.interval[0]), at(finding.interval[1]), 7, 7);
  line("mean", at(finding.mean), at(finding.mean), 2, 12);
  cell.append(svg);
  return cell;
}

function numberCell(text, key) {
  const cell = element("td", text, "number");
  cell.dataset.key = key ?? "";
  return cell;
}

function differenceRow(name, number, finding, unit, reach) {
  const row = element("tr");
  const head = element("th", undefined);
  head.scope = "row";
  head.dataset.key = name;
  const swatch = element("span", undefined, "swatch");
  swatch.dataset.method = number;
  drawSwatch(swatch);
  head.append(swatch, name);
  row.append(head);
  const { n, places } = finding;
  const show = (value) => signed(value, places);
  row.append(
    numberCell(String(n), n),
    numberCell(finding.mean === null ? "" : `${show(finding.mean)} ${unit}`, finding.mean),
    intervalPicture(finding, reach),
    numberCell(finding.interval ? finding.interval.map(show).join(" to ") : "", finding.interval?.[0]),
    numberCell(finding.improvement === null ? "" : finding.improvement.toFixed(2), finding.improvement),
    numberCell(n ? `${finding.better} of ${n}` : "", finding.better),
    numberCell(finding.needed, finding.needed.replace(/\D/g, "")),
  );
  const words = { 1: "better", "-1": "worse" }[finding.verdict] ?? finding.why;
  row.append(element("td", words, finding.verdict ? "verdict" : "verdict open"));
  return row;
}

class Differences {
  constructor(table, legend) {
    this.table = table;
    this.legend = legend;
    this.data = json(table.parentElement.querySelector("script"));
    this.metric = 0;
    this.reference = this.data.methods[0];
    this.sorted = table.tBodies[0];
  }

  show() {
    const rows = [];
    const seen = [];
    for (const pair of this.data.pairs) {
      if (pair.a !== this.reference && pair.b !== this.reference) continue;
      const turned = pair.a === this.reference;
      const number = turned ? pair.b : pair.a;
      seen.push({ number, reason: pair.reason, finding: pair.metrics && facing(pair.metrics[this.metric], turned) });
    }
    const ends = seen.flatMap(({ finding }) => (finding ? [finding.mean ?? 0, ...(finding.interval ?? [])] : []));
    const reach = [Math.min(0, ...ends), Math.max(1e-9, ...ends)];
    for (const { number, reason, finding } of seen.sort((a, b) => a.number - b.number)) {
      const name = this.legend.methods[number].name;
      if (finding) {
        rows.push(differenceRow(name, number, finding, this.data.units[this.metric], reach));
      } else {
        const row = element("tr");
        const [head, why] = [element("th", name), element("td", reason, "words")];
        head.scope = "row";
        why.colSpan = 8;
        row.append(head, why);
        rows.push(row);
      }
    }
    this.table.tBodies[0].replaceChildren(...rows);
    this.table.querySelectorAll("[aria-sort]").forEach((head) => head.removeAttribute("aria-sort"));
  }
}
