"use strict";

// Heatmaps: one panel per optimizer, one colour scale for all. Of many optimizers one is chosen.

const MOST_PANELS = 4;

function heatScale() {
  const finite = extent(report.heatmaps.flatMap((map) => (map.points?.z ?? map.z.flat()).map(toNumber))) ?? [0, 1];
  const logarithmic = wide(finite, 5);
  const [low, high] = logarithmic ? finite.map(Math.log10) : finite;
  // Of one loss alone there is one number.
  const ticks = logarithmic ? logTicks(finite) : finite[0] === finite[1] ? [finite[0]] : null;
  return { logarithmic, low, high: high > low ? high : low + 1e-9, ticks };
}

// The shadow that makes white text legible on any colour.
const SHADOW = "0 0 3px #000, 0 0 3px #000, 0 0 2px #000, 0 0 2px #000";

// An axis with evenly spaced positions, one per value, whose ticks show the values.
function valueAxis({ name, values }) {
  const every = Math.ceil(values.length / (NARROW.matches ? 6 : 10));
  const places = indices(values).filter((i) => i % every === 0);
  return axis(capital(short(name)), { tickvals: places, ticktext: places.map((i) => plain(typeof values[i] === "number" ? show(values[i], 3) : short(values[i]))), range: [-0.5, values.length - 0.5], showgrid: false });
}

const numberAxis = ({ name, log }, values) => axis(capital(short(name)) + (log ? ", logarithmic" : ""), log ? logAxis(values) : {});

const lossColours = ({ ticks, logarithmic }) => ({
  colorscale: "Viridis",
  colorbar: { ...colourBar(), ...(ticks && { tickvals: logarithmic ? ticks.map(Math.log10) : ticks, ticktext: ticks.map((tick) => show(tick)) }) },
});

// Draws the trials of a search, which fill no grid, as points, and those of which most runs failed as crosses.
function drawPoints(map, number, scale) {
  const { x, y } = map.points;
  const z = map.points.z.map(toNumber);
  const failed = map.points.failed;
  const text = z.map((value, i) => heatText(map, [x[i], y[i]], value, failed[i]));
  const some = (wanted) => indices(z).filter((i) => wanted(z[i]));
  const at = (places) => ({ mode: "markers", x: places.map((i) => x[i]), y: places.map((i) => y[i]), hovertext: places.map((i) => text[i]), hoverinfo: "text" });
  const finite = some(Number.isFinite);
  const best = map.best ? [indices(z).reduce((a, i) => (z[i] < z[a] ? i : a))] : [];
  const infinite = some((value) => value === Infinity);
  // One word for all crosses, beside the one farthest to the right.
  const rightmost = infinite.reduce((a, i) => (a === null || x[i] > x[a] ? i : a), null);
  const traces = [
    ...(map.effective ? effectiveCurves(map) : []),
    {
      ...at(finite),
      meta: "trials",
      marker: {
        size: z.length > 200 ? 9 : 13,
        line: { width: 1, color: colour("text") },
        color: finite.map((i) => (scale.logarithmic ? Math.log10(z[i]) : z[i])),
        cmin: scale.low,
        cmax: scale.high,
        ...lossColours(scale),
      },
    },
    { ...at(infinite), meta: "infinite", marker: { symbol: "x-thin", size: 8, line: { width: 1.5, color: colour("text") } } },
    { ...at(best), meta: "best below", hoverinfo: "skip", marker: { symbol: "square-open", size: 22, color: "#ffffff", line: { width: 6 } } },
    { ...at(best), meta: "best", hoverinfo: "skip", marker: { symbol: "square-open", size: 22, color: BEST, line: { width: 3.5 } } },
  ];
  return plot(`heatmap-${number}-plot`, nameOf(map), traces, {
    height: NARROW.matches ? 380 : 460,
    margin: { l: 50, r: 12, t: 48, b: 48 },
    xaxis: numberAxis(map.x, x),
    yaxis: numberAxis(map.y, y),
    annotations: [
      ...words(map.x, map.y, best.length ? { x: x[0], y: y[0], text: bestWord(map) } : null, 20),
      ...words(map.x, map.y, rightmost === null ? null : { x: x[rightmost], y: y[rightmost], text: "× failed" }, 14),
    ],
    hovermode: "closest",
  });
}

// The colour that marks the best trial in figures whose other colours are losses.
const BEST = STYLES[0].light;

const nameOf = (map) => `Loss of ${short(map.label)} against ${short(map.x.name)} and ${short(map.y.name)}`;
const bestWord = (map) => (present(map.edges) ? "best, at the edge" : "best");

// A word beside a point.
function words(xAxis, yAxis, point, shift) {
  if (!point) return [];
  const at = (value, log) => (log ? Math.log10(value) : value);
  return [edgeWord(point.text, { xref: "x", yref: "y", x: at(point.x, xAxis.log), y: at(point.y, yAxis.log), yshift: shift, font: { size: 12, color: colour("text") } })];
}

// Curves of equal x/(1 − y), a decade apart, as far as there are trials.
function effectiveCurves({ points }) {
  const [low, high] = extent(points.x);
  const range = extent(points.x.map((x, i) => Math.log10(x / (1 - points.y[i]))));
  const steps = indices([...Array(101)]).map((i) => Math.min(...points.y) + (i / 100) * (Math.max(...points.y) - Math.min(...points.y)));
  const decades = indices([...Array(Math.max(0, Math.floor(range[1]) - Math.ceil(range[0]) + 1))]).map((i) => Math.ceil(range[0]) + i);
  return decades.map((decade) => {
    const inside = steps.filter((y) => low <= 10 ** decade * (1 - y) && 10 ** decade * (1 - y) <= high);
    return {
      meta: "effective",
      mode: "lines+text",
      x: inside.map((y) => 10 ** decade * (1 - y)),
      y: inside,
      text: inside.map((_, i) => (i === 0 ? show(10 ** decade) : "")),
      textposition: "top right",
      textfont: { color: colour("muted"), size: 12 },
      line: { color: colour("muted"), width: 1.2, dash: "dash" },
      hoverinfo: "skip",
    };
  });
}

function drawHeatmap(map, number, scale) {
  if (map.points) return drawPoints(map, number, scale);
  const z = map.z.map((row) => row.map(toNumber));
  const text = z.map((row, j) => row.map((value, i) => heatText(map, [map.x.values[i], map.y.values[j]], value, map.failed?.[j]?.[i] ?? 0)));
  const coloured = z.map((row) => row.map((value) => (Number.isFinite(value) ? (scale.logarithmic ? Math.log10(value) : value) : null)));
  const infinite = z.map((row) => row.map((value) => (value === Infinity ? 1 : null)));
  const grid = { type: "heatmap", x: indices(map.x.values), y: indices(map.y.values), xgap: 1, ygap: 1, hovertext: text, hoverinfo: "text" };
  const grey = colour("unstable");
  // Words need room: about 45 pixels.
  const room = byId(`heatmap-${number}-plot`).clientWidth - 90 > 48 * map.x.values.length;
  const traces = [
    {
      ...grid,
      z: coloured,
      zmin: scale.low,
      zmax: scale.high,
      ...lossColours(scale),
    },
    { ...grid, z: infinite, zmin: 0, zmax: 1, colorscale: [[0, grey], [1, grey]], showscale: false },
    ...(map.effective ? effectiveLines(map) : []),
    failures(map, z),
    failedTrials(z, room ? "failed" : "×"),
  ];
  return plot(`heatmap-${number}-plot`, nameOf(map), traces, {
    height: Math.min(520, Math.max(260, 140 + 40 * map.y.values.length)),
    margin: { l: 50, r: 12, t: 66, b: 48 },
    xaxis: valueAxis(map.x),
    yaxis: valueAxis(map.y),
    shapes: frame(map),
    annotations: bestOfGrid(map, room),
    hovermode: "closest",
  });
}

function heatText(map, [x, y], value, failed) {
  const where = `${short(map.x.name)} ${valueText(x)}, ${short(map.y.name)} ${valueText(y)}`;
  const what = Number.isNaN(value) ? "not finished" : value === Infinity ? "infinite: most of its runs failed" : `loss ${show(value)}`;
  return plain(where) + `<br>${what}${failed ? `; ${many(failed, "failed run")}` : ""}`;
}

const valueText = (value) => (typeof value === "number" ? show(value) : short(value));

// The number of failed runs of each trial with a finite loss, in a circle that is legible on any colour.
function failures(map, z) {
  const counts = (map.failed ?? []).flatMap((row, j) => row.map((count, i) => ({ count, i, j }))).filter(({ count, i, j }) => count > 0 && Number.isFinite(z[j][i]));
  return {
    meta: "failed",
    mode: "markers+text",
    x: counts.map(({ i }) => i),
    y: counts.map(({ j }) => j),
    text: counts.map(({ count }) => String(count)),
    textfont: { color: "#000000", size: 10 },
    marker: { symbol: "circle", size: 17, color: "#ffffff", line: { color: "#000000", width: 1 } },
    hoverinfo: "skip",
  };
}

// A word, or a cross where there is no room for it, on each trial of which most runs failed.
function failedTrials(z, word) {
  const places = z.flatMap((row, j) => row.map((value, i) => ({ value, i, j }))).filter(({ value }) => value === Infinity);
  return {
    meta: "failed trials",
    mode: "text",
    x: places.map(({ i }) => i),
    y: places.map(({ j }) => j),
    text: places.map(() => word),
    // A guide line that passes behind the word does not cross it out.
    textfont: { color: colour("text"), size: 11, shadow: Array(6).fill(`0 0 3px ${colour("unstable")}`).join(", ") },
    hoverinfo: "skip",
  };
}

// The word in the frame of the best trial, or without room above it.
function bestOfGrid(map, room) {
  if (!map.best) return [];
  const [i, j] = [map.x.values.indexOf(map.best[0]), map.y.values.indexOf(map.best[1])];
  const inside = { x: i, y: j, font: { size: 12, color: "#ffffff", shadow: SHADOW } };
  const text = room ? "best" : "★";
  return [edgeWord(text, { xref: "x", yref: "y", bgcolor: "rgba(0,0,0,0)", ...inside })];
}

function frame({ x, y, best }) {
  const [i, j] = best ? [x.values.indexOf(best[0]), y.values.indexOf(best[1])] : [-1, -1];
  if (i < 0 || j < 0) return [];
  const square = { type: "rect", x0: i - 0.5, x1: i + 0.5, y0: j - 0.5, y1: j + 0.5 };
  return [
    { ...square, line: { color: "#ffffff", width: 6 } },
    { ...square, name: "best", line: { color: BEST, width: 3.5 } },
  ];
}

// Lines of equal x/(1 − y) over a grid, a decade apart.
function effectiveLines({ x, y }) {
  const logarithms = y.values.map((beta) => x.values.map((rate) => (rate > 0 && beta < 1 ? Math.log10(rate / (1 - beta)) : null)));
  const range = extent(logarithms.flat().filter((value) => value !== null));
  if (!range || x.values.length < 2 || y.values.length < 2) return [];
  const [start, end] = [Math.ceil(range[0]), Math.floor(range[1])];
  if (start > end) return [];
  const line = (width, color, labels) => ({
    type: "contour",
    meta: "effective",
    x: indices(x.values),
    y: indices(y.values),
    z: logarithms,
    autocontour: false,
    contours: { start, end, size: 1, coloring: "none", showlabels: false },
    line: { color, width, dash: labels ? "dash" : "solid" },
    showscale: false,
    hoverinfo: "skip",
  });
  return [line(3.5, "#000000", false), line(1.6, "#ffffff", true), effectiveLabels({ x, y }, start, end)];
}

// The value of each line: above the figure if the line meets the top row, otherwise beside its left end.
function effectiveLabels({ x, y }, start, end) {
  const level = (i, j) => Math.log10(x.values[i] / (1 - y.values[j]));
  const last = y.values.length - 1;
  const upper = indices(x.values).slice(1).map((i) => [[i - 1, last], [i, last]]);
  const left = indices(y.values).slice(1).map((j) => [[0, j - 1], [0, j]]);
  const places = [];
  for (let decade = start; decade <= end; decade++) {
    for (const [from, to] of [...upper, ...left]) {
      const [low, high] = [level(...from), level(...to)];
      const above = from[1] === to[1];
      // A line that only touches a corner is not drawn, so it gets no label.
      if (above ? !(low <= decade && decade < high) : !(low < decade && decade <= high)) continue;
      const fraction = (decade - low) / (high - low);
      places.push({ above, x: from[0] + fraction * (to[0] - from[0]), y: above ? last + 0.5 : from[1] + fraction, text: show(10 ** decade) });
      break;
    }
  }
  return {
    meta: "effective labels",
    mode: "text",
    x: places.map((place) => place.x),
    y: places.map((place) => place.y),
    text: places.map((place) => place.text),
    textposition: places.map((place) => (place.above ? "top center" : "middle right")),
    textfont: { color: places.map((place) => (place.above ? colour("text") : "#ffffff")), size: 12, shadow: places.map((place) => (place.above ? "none" : SHADOW)) },
    hoverinfo: "skip",
    cliponaxis: false,
  };
}

// What the caption says: the best trial, whether it lies at an edge of what was tried, and what is not shown.
function heatmapWords({ x, y, best, edges, left_out: leftOut }) {
  if (!best) return "Every finished trial failed.";
  const where = `Best: ${short(x.name)} ${valueText(best[0])}, ${short(y.name)} ${valueText(best[1])}.`;
  const beyond = present(edges) ? ` That is the ${edges.map(({ name, end }) => `${end} ${short(name)}`).join(" and the ")} that was tried, so what is better may lie beyond it.` : "";
  return where + beyond + (leftOut ? ` ${leftOut} more trials are not drawn; these are evenly spaced by the rank of their loss.` : "");
}

function heatmapPanel(map, number) {
  const id = `heatmap-${number}`;
  const { header, rows } = map.points ? pointNumbers(map) : gridNumbers(map);
  const numbers = make("details", { class: "numbers" }, make("summary", {}, `Numbers of ${short(map.label)}`));
  whenOpened(numbers, () => tableOf(`Loss of ${short(map.label)}`, header, rows));
  return make(
    "div",
    {},
    make("h3", whole(map.label), short(map.label)),
    make("figure", {}, make("div", { class: "plot", id: `${id}-plot` }), make("figcaption", { id: `${id}-caption` }, heatmapWords(map))),
    numbers,
  );
}

function gridNumbers({ x, y, z, failed }) {
  const header = [`${short(y.name)} \\ ${short(x.name)}`, ...x.values.map(valueText)];
  return { header, rows: z.map((row, j) => [valueText(y.values[j]), ...row.map((value, i) => trialText(toNumber(value), failed?.[j]?.[i] ?? 0))]) };
}

function pointNumbers({ x, y, points }) {
  const rows = points.z.map((value, i) => [valueText(points.x[i]), valueText(points.y[i]), trialText(toNumber(value), points.failed[i])]);
  return { header: [capital(short(x.name)), capital(short(y.name)), "Loss"], rows };
}

const trialText = (value, failed) => (Number.isNaN(value) ? "not finished" : show(value)) + (failed ? `, ${failed} failed` : "");

// What the marks mean, of those that are drawn.
function heatmapMarks() {
  const squares = report.heatmaps.filter((map) => map.z).flatMap((map) => map.z.flatMap((row, j) => row.map((value, i) => [toNumber(value), map.failed?.[j]?.[i] ?? 0])));
  const points = report.heatmaps.filter((map) => map.points).flatMap((map) => map.points.z.map(toNumber));
  return [
    squares.some(([value, failed]) => failed && Number.isFinite(value)) ? "A number in a circle counts failed runs. " : "",
    squares.some(([value]) => value === Infinity) ? "A grey square with a word or a × is a trial of which most runs failed. " : "",
    squares.some(([value]) => Number.isNaN(value)) ? "An empty square is not finished. " : "",
    points.includes(Infinity) ? "A cross is a trial of which most runs failed. " : "",
  ].join("");
}

function startHeatmaps() {
  const scale = heatScale();
  const effective = report.heatmaps.some((map) => map.effective);
  byId("heatmaps-legend").textContent =
    `${report.heatmaps_title ?? "Final loss"}: darker is lower${scale.logarithmic ? ", on a logarithmic scale" : ""}. ` +
    "The best trial is framed. " +
    heatmapMarks() +
    (effective ? "Dashed lines join equal effective learning rates, learning rate / (1 − momentum), a decade apart." : "");
  const panels = byId("heatmaps-panels");
  // Between two panels the browser paints, but not on paper, which does not wait.
  const draw = async () => {
    for (const [i, map] of shown.entries()) {
      if (i && !printing) await new Promise((resolve) => setTimeout(resolve));
      // Meanwhile the reader may have chosen another.
      if (!shown.includes(map)) return;
      await drawHeatmap(map, i, scale);
    }
  };
  let shown = report.heatmaps.slice(0, MOST_PANELS);
  panels.append(...shown.map(heatmapPanel));
  chooseOne("heatmaps-one", report.heatmaps, MOST_PANELS, (map) => {
    shown = [map];
    panels.replaceChildren(heatmapPanel(map, 0));
    return draw();
  });
  return keepDrawn(draw);
}
