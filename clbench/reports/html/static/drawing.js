// What each kind of figure draws: traces and layout for the plotting library.

function bands(curves, legend, unit) {
  const traces = [];
  for (const curve of curves) {
    if (!legend.shown.has(curve.method)) continue;
    const { colour, dash, marker } = look(curve.method);
    const name = legend.name(curve.method);
    const x = curve.decodedX ??= wholeNumbers(curve.x);
    const y = curve.decodedY ??= percent(curve.y);
    if (curve.low) {
      const low = curve.decodedLow ??= percent(curve.low);
      const high = curve.decodedHigh ??= percent(curve.high);
      for (const [from, to] of runsWithoutGap(low)) {
        traces.push({
          x: [...x.slice(from, to), ...x.slice(from, to).reverse()],
          y: [...high.slice(from, to), ...low.slice(from, to).reverse()],
          mode: "lines", line: { width: 0 }, fill: "toself", fillcolor: translucent(colour, dark() ? 0.2 : 0.14), hoverinfo: "skip",
        });
      }
    }
    traces.push({
      x, y, name, mode: "lines+markers", connectgaps: false, line: { color: colour, dash, width: 1.6 },
      marker: { color: colour, symbol: marker, size: 7, maxdisplayed: 12 },
      hovertemplate: `%{y:.2f} ${unit} after %{x:,} updates<extra>%{fullData.name}</extra>`,
    });
  }
  // Bands lie below all lines.
  return [...traces.filter((trace) => trace.fill), ...traces.filter((trace) => !trace.fill)];
}

function runsWithoutGap(values) {
  const runs = [];
  let from = null;
  values.forEach((value, i) => {
    if (value !== null && from === null) from = i;
    if (value === null && from !== null) { runs.push([from, i]); from = null; }
  });
  if (from !== null) runs.push([from, values.length]);
  return runs;
}

function drawAccuracy(data, legend, figure) {
  const curves = data.curves[figure.choice ?? "mean"];
  const { rule, faint } = colours();
  const inner = data.boundaries.slice(1, -1).filter((b) => b < data.end);
  const shapes = inner.slice(0, 400).map((b) => ({
    type: "line", x0: b, x1: b, y0: 0, y1: 1, yref: "paper", layer: "below", line: { color: rule, width: inner.length > 50 ? 0.5 : 1 },
  }));
  const room = Math.floor(figure.place.clientWidth / 62);
  const annotations = data.tasks.length <= room ? data.tasks.slice(0, data.boundaries.length - 1).map((tasks, v) => ({
    x: (data.boundaries[v] + data.boundaries[v + 1]) / 2, y: 1, yref: "paper", yanchor: "bottom", showarrow: false,
    text: tasks.length > 8 ? "" : `${v === 0 ? "task " : ""}${tasks}`, font: { size: 11, color: faint },
  })) : [];
  const whole = [0, data.end];
  figure.whole = whole;
  return {
    traces: bands(curves, legend, "%"),
    layout: {
      margin: { l: 48, r: 14, t: annotations.length ? 24 : 12, b: 40 },
      xaxis: { title: { text: "updates" }, range: figure.range ?? whole, tickformat: ",d" },
      yaxis: { title: { text: "accuracy (%)" }, rangemode: "tozero", fixedrange: false },
      shapes, annotations,
    },
  };
}

function drawGap(data, legend, figure) {
  const end = Math.max(...data.curves.map((curve) => { const x = curve.decodedX ??= wholeNumbers(curve.x); return x[x.length - 1]; }));
  figure.whole = [0, end];
  return {
    traces: bands(data.curves, legend, "%"),
    layout: {
      xaxis: { title: { text: "updates since the task boundary" }, range: figure.range ?? figure.whole, tickformat: ",d" },
      yaxis: { title: { text: "change of accuracy (%)" }, zeroline: true, zerolinecolor: colours().faint },
    },
  };
}

function heat(cells, x, y, more) {
  return { type: "heatmap", z: cells, x, y, colorscale: shades(), xgap: 1, ygap: 1, hoverongaps: false, ...more };
}

function places(number, block) {
  return Array.from({ length: number }, (_, i) => String(i * block));
}

function bar(title) {
  return { thickness: 10, outlinewidth: 0, len: 1, title: { text: title, font: { size: 11 } }, tickfont: { size: 11 } };
}

function drawMatrix(data) {
  const [rows, columns] = [data.cells.length, data.cells[0].length];
  const wide = rows <= 10 && columns <= 10;
  return {
    traces: [heat(data.cells, places(columns, data.tasks), places(rows, data.experiences), {
      zmin: 0, zmax: 100, texttemplate: wide ? "%{z:.0f}" : undefined, textfont: { size: 11 }, showscale: !wide, colorbar: bar("%"),
      hovertemplate: "task %{x} after experience %{y}: %{z:.2f} %<extra></extra>",
    })],
    layout: {
      dragmode: false,
      margin: { l: 40, r: 8, t: 6, b: 36 },
      xaxis: { type: "category", title: { text: "task" }, ticks: "", showgrid: false, fixedrange: true },
      yaxis: { type: "category", title: { text: "after experience" }, autorange: "reversed", ticks: "", showgrid: false, fixedrange: true },
    },
  };
}

function drawStream(data) {
  const columns = data.cells[0].length;
  const few = columns <= 12 && data.rows.length <= 20 && data.unit === "samples";
  const most = Math.max(...data.cells.flat());
  return {
    traces: [heat(data.cells, places(columns, data.experiences), data.rows, {
      zmin: 0, zmax: most, texttemplate: few ? "%{z:,.0f}" : undefined, textfont: { size: 11 }, showscale: data.unit === "samples",
      colorbar: bar("samples"), xgap: columns > 100 ? 0 : 1, ygap: data.rows.length > 40 ? 0 : 1,
      hovertemplate: `experience %{x}, ${data.row} %{y}: ` + (data.unit === "samples" ? "%{z:,} samples" : "visited") + "<extra></extra>",
    })],
    layout: {
      dragmode: false,
      xaxis: { type: "category", title: { text: "experience" }, ticks: "", showgrid: false, fixedrange: true, nticks: 20 },
      yaxis: { type: "category", title: { text: data.row }, autorange: "reversed", ticks: "", showgrid: false, fixedrange: true, nticks: 20 },
    },
  };
}

function drawCosts(data, legend, figure) {
  const chosen = data.choices.find((choice) => choice.key === figure.choice) ?? data.choices[0];
  const { faint, text } = colours();
  const front = chosen.front.map((method) => chosen.points.find((point) => point.method === method));
  const costs = chosen.points.map((point) => point.x);
  const logarithmic = Math.min(...costs) > 0 && Math.max(...costs) / Math.min(...costs) > 30;
  const named = chosen.points.length <= 30;
  figure.place.closest("section").querySelector("[data-front]").textContent = chosen.names.join(", ");
  const traces = [{
    x: front.map((point) => point.x), y: front.map((point) => point.y), mode: "lines", hoverinfo: "skip",
    line: { color: faint, width: 1, dash: "dot", shape: "hv" },
  }];
  for (const point of chosen.points) {
    const { colour, marker } = look(point.method);
    const onFront = chosen.front.includes(point.method);
    traces.push({
      x: [point.x], y: [point.y], name: legend.name(point.method), mode: named ? "markers+text" : "markers",
      text: [legend.name(point.method, 24)], textposition: "top center", textfont: { size: 11, color: text }, cliponaxis: false,
      marker: { color: colour, symbol: marker, size: onFront ? 12 : 9, line: { width: onFront ? 1.5 : 0, color: text } },
      error_y: point.half === null ? undefined : { type: "data", array: [point.half], color: colour, thickness: 1, width: 3 },
      hovertemplate: `%{y:.2f} % at %{x:,} <extra>%{fullData.name}</extra>`,
    });
  }
  return {
    traces,
    layout: {
      margin: { l: 48, r: 40, t: 24, b: 40 },
      xaxis: { title: { text: chosen.text + (logarithmic ? ", logarithmic" : "") }, type: logarithmic ? "log" : "linear", rangemode: logarithmic ? "normal" : "tozero" },
      yaxis: { title: { text: data.y } },
    },
  };
}

const DRAWINGS = { accuracy: drawAccuracy, gap: drawGap, matrix: drawMatrix, stream: drawStream, costs: drawCosts };
