// What each kind of figure draws: traces and layout for the plotting library.

function bands(curves, legend, unit = "%") {
  const traces = [];
  const form = unit === "%" ? ".2f" : ".4g";
  for (const curve of curves) {
    if (!legend.shown.has(curve.method)) continue;
    const { colour, dash, marker } = look(curve.method);
    const name = legend.name(curve.method);
    const x = curve.decodedX ??= wholeNumbers(curve.x);
    const y = curve.decodedY ??= heights(curve.y, curve.scale);
    if (curve.low) {
      const low = curve.decodedLow ??= heights(curve.low, curve.scale);
      const high = curve.decodedHigh ??= heights(curve.high, curve.scale);
      for (const [from, to] of runsWithoutGap(low)) {
        traces.push({
          x: [...x.slice(from, to), ...x.slice(from, to).reverse()],
          y: [...high.slice(from, to), ...low.slice(from, to).reverse()],
          mode: "lines", line: { width: 0 }, fill: "toself", hoverinfo: "skip",
          fillcolor: translucent(colour, dark() ? 0.2 : 0.14),
        });
      }
    }
    traces.push({
      x, y, name, mode: "lines+markers", connectgaps: false, line: { color: colour, dash, width: 1.6 },
      marker: { color: colour, symbol: marker, size: 7, maxdisplayed: 12 },
      hovertemplate: `%{y:${form}} ${unit} after %{x:,} updates<extra>%{fullData.name}</extra>`,
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
  // So many lines would be a grey field.
  const shapes = inner.length > 100 ? [] : inner.map((b) => ({
    type: "line", x0: b, x1: b, y0: 0, y1: 1, yref: "paper", layer: "below", line: { color: rule, width: 1 },
  }));
  const room = Math.floor(figure.place.clientWidth / 62);
  const visits = data.tasks.length <= room ? data.tasks.slice(0, data.boundaries.length - 1) : [];
  const annotations = visits.map((tasks, v) => ({
    x: (data.boundaries[v] + data.boundaries[v + 1]) / 2, y: 1, yref: "paper", yanchor: "bottom", showarrow: false,
    text: tasks.length > 8 ? "" : `${v === 0 ? "task " : ""}${tasks}`, font: { size: 11, color: faint },
  }));
  const whole = [0, data.end];
  figure.whole = whole;
  return {
    traces: bands(curves, legend, data.unit),
    layout: {
      margin: { l: 48, r: 14, t: annotations.length ? 24 : 12, b: 40 },
      xaxis: { title: { text: "updates" }, range: [...(figure.range ?? whole)], tickformat: ",d" },
      yaxis: { title: { text: data.axis ?? "accuracy (%)" }, rangemode: "tozero", ...figure.heights },
      shapes, annotations,
    },
  };
}

function drawGap(data, legend, figure) {
  const end = Math.max(...data.curves.map((curve) => (curve.decodedX ??= wholeNumbers(curve.x)).at(-1)));
  figure.whole = [0, end];
  return {
    traces: bands(data.curves, legend, data.unit),
    layout: {
      xaxis: {
        title: { text: "updates since the task boundary" }, tickformat: ",d",
        range: [...(figure.range ?? figure.whole)],
      },
      yaxis: {
        title: { text: data.axis ?? "change of accuracy (%)" }, zeroline: true, zerolinecolor: colours().faint, ...figure.heights,
      },
    },
  };
}

// A heat map; `format` writes the numbers into the cells, where these are few.
function heat(cells, x, y, format, more) {
  const [rows, columns] = [cells.length, cells[0].length];
  return {
    type: "heatmap", z: cells, x, y, colorscale: shades(), hoverongaps: false,
    texttemplate: format, textfont: { size: 11 },
    xgap: columns > 60 ? 0 : 1, ygap: rows > 25 ? 0 : 1, ...more,
  };
}

function places(number, block) {
  return Array.from({ length: number }, (_, i) => String(i * block));
}

function bar(title) {
  return { thickness: 10, outlinewidth: 0, len: 1, title: { text: title, font: { size: 11 } }, tickfont: { size: 11 } };
}

function categories(title, more) {
  return { type: "category", title: { text: title }, ticks: "", showgrid: false, fixedrange: true, ...more };
}

function drawMatrix(data) {
  const [rows, columns] = [data.cells.length, data.cells[0].length];
  const few = rows <= 10 && columns <= 10;
  const unit = data.unit ?? "%";
  const [inside, form] = data.unit ? [".3g", ".4g"] : [".0f", ".2f"];
  const format = few ? `%{z:${inside}}` : undefined;
  return {
    traces: [heat(data.cells, places(columns, data.tasks), places(rows, data.experiences), format, {
      zmin: 0, zmax: data.most ?? 100, showscale: !few, colorbar: bar(unit),
      hovertemplate: `task %{x} after experience %{y}: %{z:${form}} ${unit}<extra></extra>`,
    })],
    layout: {
      dragmode: false,
      margin: { l: 40, r: 8, t: 6, b: 36 },
      xaxis: categories("task"),
      yaxis: categories("after experience", { autorange: "reversed" }),
    },
  };
}

function drawStream(data) {
  const columns = data.cells[0].length;
  const samples = data.unit === "samples";
  const format = samples && columns <= 12 && data.rows.length <= 20 ? "%{z:,.0f}" : undefined;
  const numbers = data.cells.flat().filter((value) => value !== null);
  const most = Math.max(...numbers);
  const uneven = 20 * Math.min(...numbers) < most;
  const cell = samples ? "%{z:,} samples" : "visited";
  return {
    traces: [heat(data.cells, places(columns, data.experiences), data.rows, format, {
      zmin: 0, zmax: most, colorscale: shades(uneven ? 2 : 1), showscale: samples, colorbar: bar("samples"),
      hovertemplate: `experience %{x}, ${data.row} %{y}: ${cell}<extra></extra>`,
    })],
    layout: {
      dragmode: false,
      xaxis: categories("experience", { nticks: 20 }),
      yaxis: categories(data.row, { autorange: "reversed", nticks: 20 }),
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
      text: [legend.name(point.method, 24)], textposition: "top center", textfont: { size: 11, color: text },
      cliponaxis: false,
      marker: {
        color: colour, symbol: marker, size: onFront ? 12 : 9, line: { width: onFront ? 1.5 : 0, color: text },
      },
      error_y: {
        visible: point.half !== null, type: "data", array: [point.half], color: colour, thickness: 1, width: 3,
      },
      hovertemplate: `%{y:${data.unit ? ".4g" : ".2f"}} ${data.unit ?? "%"} at %{x:,} <extra>%{fullData.name}</extra>`,
    });
  }
  return {
    traces,
    layout: {
      margin: { l: 48, r: 40, t: 24, b: 40 },
      xaxis: logarithmic
        ? { title: { text: `${chosen.text}, logarithmic` }, type: "log" }
        : { title: { text: chosen.text }, type: "linear", rangemode: "tozero" },
      yaxis: { title: { text: data.y } },
    },
  };
}

const DRAWINGS = { accuracy: drawAccuracy, gap: drawGap, matrix: drawMatrix, stream: drawStream, costs: drawCosts };
