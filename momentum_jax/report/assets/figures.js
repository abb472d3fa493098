"use strict";

// The figures of the document: protocols, curves, heatmaps, sensitivity and tuning budget.

const BAND = [0.1, 0.9];

// The extremes of what is finite, or null where nothing is.
function extent(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  return low <= high ? [low, high] : null;
}

const wide = (range, ratio) => Boolean(range) && range[0] > 0 && range[1] / range[0] > ratio;

// Protocols compared: a dot with an interval for each arm, its name above it

function drawThreeWay() {
  const metric = report.three_way.metrics[Number(byId("three-way-metric").value)];
  const narrow = NARROW.matches;
  const everything = metric.protocols.flatMap((s) => (s.arms ?? []).flatMap((arm) => [arm.value, arm.low, arm.high, ...arm.values]));
  const numbers = everything.map(toNumber);
  const finite = extent(numbers);
  const logarithmic = wide(finite, 30);
  const [left, right] = axisRange(finite ?? [0, 1], logarithmic, numbers.includes(Infinity) ? 0.12 : 0.04);
  const infinite = undoLog(right - 0.03 * (right - left), logarithmic);
  const place = (value) => (value === Infinity ? infinite : value);
  const traces = [];
  const annotations = [];
  const shapes = [];
  let row = 0;
  const write = (text, y, more = {}) =>
    annotations.push({ text, x: 0, xref: "paper", xanchor: "left", y, yref: "y", yanchor: "middle", showarrow: false, align: "left", ...more });
  for (const protocol of metric.protocols) {
    write(`<b>${plain(shortened(protocol.title, narrow ? 42 : 110))}</b>`, row, { font: { size: 14 } });
    row += 0.7;
    if (protocol.skipped) {
      write(plain(shortened(`Not compared: ${protocol.skipped}`, narrow ? 48 : 120)), row, { font: { color: colour("muted") } });
      row += 1.2;
      continue;
    }
    for (const arm of protocol.arms) {
      const style = styleOf(indexOf(arm.label));
      const [value, low, high] = [arm.value, arm.low, arm.high].map(toNumber);
      const name = plain(shortened(arm.label, narrow ? 20 : 40));
      const detail = narrow || !arm.detail ? "" : ` <span style="color:${colour("muted")}">${plain(shortened(arm.detail, 70))}</span>`;
      write(name + detail, row);
      write(intervalText(value, low, high), row, { x: 1, xanchor: "right", align: "right" });
      const seeds = arm.values.map(toNumber).filter((number) => !Number.isNaN(number));
      const about = plain(`${arm.label}, ${protocol.title}${arm.detail ? `, ${arm.detail}` : ""}`);
      const line = row + 0.5;
      traces.push(
        {
          name: plain(arm.label),
          meta: "seeds",
          mode: "markers",
          x: seeds.map(place),
          y: seeds.map((_, i) => line + 0.26 * (((i * 0.618) % 1) - 0.5)),
          marker: { color: style.color, size: 5, opacity: 0.45, symbol: "circle" },
          hovertext: seeds.map((number) => `${about}<br>one seed: ${show(number)}`),
          hoverinfo: "text",
        },
        {
          name: plain(arm.label),
          meta: "interval",
          mode: "lines+markers",
          x: [low, value, high].map(place),
          y: [line, line, line],
          line: { color: style.color, width: 3 },
          marker: {
            color: style.color,
            size: [low, value, high].map((number, i) => (i === 1 ? 11 : Number.isFinite(number) ? 14 : 0)),
            symbol: ["line-ns", value === Infinity ? "triangle-right" : style.symbol, "line-ns"],
            line: { color: [style.color, colour("ground"), style.color], width: [2.5, 1, 2.5] },
          },
          hovertext: ["", "", ""].map(() => `${about}<br>${intervalText(value, low, high)}`),
          hoverinfo: "text",
        },
      );
      shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: line + 0.4, y1: line + 0.4, line: { color: colour("line"), width: 1 } });
      row += 1.15;
    }
    row += 0.35;
  }
  threeWayWords(metric, numbers.includes(Infinity), logarithmic);
  return plot("three-way-plot", `${metric.title}, by protocol and optimizer`, traces, {
    height: Math.max(160, 52 * row + 70),
    margin: { l: 8, r: 8, t: 6, b: 48 },
    xaxis: axis(withUnit(metric.title, metric.unit) + (logarithmic ? ", logarithmic" : ""), { type: logarithmic ? "log" : "linear", range: [left, right] }),
    yaxis: { range: [row - 0.2, -0.5], visible: false, fixedrange: true },
    annotations,
    shapes,
    hovermode: "closest",
  });
}

const withUnit = (title, unit) => (unit ? `${title} (${unit})` : title);
const undoLog = (value, logarithmic) => (logarithmic ? 10 ** value : value);
const intervalText = (value, low, high) =>
  Number.isNaN(low) || Number.isNaN(high) ? show(value) : `${show(value)} [${show(low)}, ${show(high)}]`;

// The range of an axis around its values, with room for infinity at its upper end.
function axisRange([low, high], logarithmic, room) {
  const [from, to] = logarithmic ? [Math.log10(low), Math.log10(high)] : [low, high];
  const length = to - from || Math.abs(to) || 1;
  return [from - 0.04 * length, to + room * length];
}

function threeWayWords(metric, infinite, logarithmic) {
  const rows = metric.protocols.flatMap((protocol) =>
    protocol.skipped
      ? []
      : protocol.arms.map((arm) => [
          `${protocol.title}: ${arm.label}`,
          arm.detail ?? "",
          ...[arm.value, arm.low, arm.high].map((number) => show(toNumber(number))),
          String(arm.values.length),
        ]),
  );
  say(
    "three-way-caption",
    `The large mark is the median, of failed runs their share; the bar its 95 % interval; each small dot a seed. ${metric.less_is_better ? "Less" : "More"} is better.` +
      (infinite ? " What lies at the right edge is infinite: failed, or never reached." : ""),
    ...metric.protocols.filter((s) => s.skipped).map((s) => `${s.title}: not compared: ${s.skipped}`),
    report.three_way.note,
  );
  byId("three-way-numbers").replaceChildren(
    tableOf(withUnit(metric.title, metric.unit), ["Protocol: optimizer", "With", "Estimate", "Low", "High", "Seeds"], rows),
  );
}

function startThreeWay() {
  const select = byId("three-way-metric");
  const metrics = report.three_way.metrics;
  fillSelect(select, metrics.map((_, i) => String(i)), metrics.map((metric) => metric.title));
  select.addEventListener("change", drawThreeWay);
  return keepDrawn(drawThreeWay);
}

// Curves: the median and a band over seeds, after smoothing

// float32, little-endian, [seeds, points]; what is not finite counts as +∞.
function decode({ shape, base64 }) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Array.from({ length: shape[0] }, (_, seed) =>
    Float64Array.from({ length: shape[1] }, (_, point) => {
      const value = view.getFloat32(4 * (seed * shape[1] + point), true);
      return Number.isFinite(value) ? value : Infinity;
    }),
  );
}

// A centred moving average; towards the ends the window is cut on both sides alike.
function smooth(values, width) {
  const half = (width - 1) / 2;
  return values.map((_, i) => {
    const reach = Math.min(half, i, values.length - 1 - i);
    let sum = 0;
    for (let k = i - reach; k <= i + reach; k++) sum += values[k];
    return sum / (2 * reach + 1);
  });
}

// A quantile with linear interpolation, as NumPy's default.
function quantile(sorted, q) {
  const place = q * (sorted.length - 1);
  const below = Math.floor(place);
  const share = place - below;
  return share === 0 ? sorted[below] : sorted[below + 1] === Infinity ? Infinity : sorted[below] + share * (sorted[below + 1] - sorted[below]);
}

// Median and band over the seeds, point by point.
function summarise(seeds) {
  const points = seeds[0].length;
  const summary = { median: [], low: [], high: [] };
  for (let point = 0; point < points; point++) {
    const sorted = Float64Array.from(seeds, (seed) => seed[point]).sort();
    summary.median.push(quantile(sorted, 0.5));
    summary.low.push(quantile(sorted, BAND[0]));
    summary.high.push(quantile(sorted, BAND[1]));
  }
  return summary;
}

// The top of a figure: above where curves start and where the lowest stay; what diverges leaves through it.
function topOf(curves) {
  const starts = curves.map(({ summary }) => summary.median.find(Number.isFinite)).filter(Number.isFinite);
  const peaks = curves.map(({ summary }) => Math.max(...summary.median.filter(Number.isFinite)));
  const start = Math.max(...starts);
  return starts.length ? 1.08 * Math.max(...peaks.map((peak) => Math.min(peak, start > 0 ? 1.5 * start : peak))) : 1;
}

function drawCurves(state) {
  const width = Number(byId("curves-smoothing").value);
  const logarithmic = byId("curves-log").checked;
  const group = byId("curves-group").value;
  const shown = state.decoded
    .filter((curve) => curve.group === group)
    .map((curve) => ({ ...curve, summary: summarise(curve.seeds.map((seed) => smooth(seed, width))) }));
  const top = topOf(shown);
  // A line to far above the picture, for what is infinite.
  const sky = 1e3 * Math.abs(top);
  const positive = shown.flatMap(({ summary }) => [...summary.median, ...summary.low]).filter((y) => y > 0 && Number.isFinite(y));
  const least = positive.reduce((a, b) => Math.min(a, b), top);
  const floor = shown.reduce((a, { summary }) => summary.low.reduce((x, y) => Math.min(x, y), a), 0);
  const drawable = (y) => Math.min(logarithmic ? Math.max(y, least / 10) : y, sky);
  const drawn = shown.map((curve) => curveTraces(curve, state.off.has(curve.label), drawable));
  // The bands below all lines.
  const traces = [...drawn.map(([band]) => band), ...drawn.map(([, line]) => line)];
  byId("curves-smoothing-value").textContent = width === 1 ? "none" : `${width} points`;
  byId("curves-smoothing").setAttribute("aria-valuetext", byId("curves-smoothing-value").textContent);
  curvesWords(shown.filter((curve) => !state.off.has(curve.label)), width, top);
  return plot("curves-plot", `Loss against iterations${group ? `, ${group}` : ""}`, traces, {
    height: NARROW.matches ? 320 : 440,
    hovermode: "x unified",
    uirevision: `${group} ${logarithmic}`,
    xaxis: axis("Iterations (parameter updates)", { rangemode: "tozero" }),
    yaxis: axis(withUnit("Loss", shown[0]?.unit) + (logarithmic ? ", logarithmic" : ""), {
      type: logarithmic ? "log" : "linear",
      range: logarithmic ? [Math.log10(least) - 0.05, Math.log10(top) + 0.05] : [floor, top],
      // 1, 2 and 5 of each decade, or in broad ranges the decades alone.
      ...(logarithmic && { dtick: top / least < 1e4 ? "D2" : 1 }),
    }),
  });
}

function curveTraces({ label, iterations, seeds, summary }, off, drawable) {
  const style = styleOf(indexOf(label));
  const name = plain(label);
  const over = seeds.length > 1 ? (i) => ` (${show(summary.low[i], 3)} to ${show(summary.high[i], 3)})` : () => "";
  const band = {
    name,
    meta: "band",
    visible: !off && seeds.length > 1,
    x: [...iterations, ...iterations.toReversed()],
    y: [...summary.high, ...summary.low.toReversed()].map(drawable),
    fill: "toself",
    fillcolor: faint(style.color, 0.18),
    line: { width: 0, color: style.color },
    mode: "lines",
    hoverinfo: "skip",
  };
  const line = {
    name,
    meta: "median",
    visible: !off,
    x: iterations,
    y: summary.median.map((y) => (y === Infinity ? null : drawable(y))),
    mode: "lines+markers",
    line: { color: style.color, dash: style.dash, width: style.dash === "solid" ? 2 : 1.6 },
    marker: { color: style.color, symbol: style.symbol, size: 8, maxdisplayed: 14 },
    customdata: summary.median.map((y, i) => `${name}: ${show(y)}${over(i)}`),
    hovertemplate: "%{customdata}<extra></extra>",
  };
  return [band, line];
}

function curvesWords(shown, width, top) {
  const seeds = shown[0]?.seeds.length ?? 0;
  const last = shown.map(({ label, iterations, summary }) => `${label} ${show(summary.median.at(-1))} at iteration ${iterations.at(-1)}`);
  const leaves = shown.some(({ summary }) => summary.median.some((y) => y > top));
  const broad = shown.some(({ summary }) => summary.high.some((y) => y === Infinity || y > 3 * top));
  say(
    "curves-caption",
    `${seeds > 1 ? `Median of ${many(seeds, "seed")}, band from the 10th to the 90th percentile` : "One seed"}; ${width === 1 ? "not smoothed" : `smoothed over ${width} points`}.` +
      (last.length ? ` At the end: ${last.join("; ")}.` : "") +
      (leaves ? " A line that ends at the top goes on above it, or to infinity." : "") +
      (broad ? " Where a band reaches far above the top, a tenth of the seeds or more diverge." : ""),
  );
  const count = 8;
  const rows = shown.flatMap(({ label, iterations, summary }) => {
    const places = [...new Set(Array.from({ length: count }, (_, i) => Math.round((i * (iterations.length - 1)) / (count - 1))))];
    return places.map((i) => [`${label} at ${iterations[i]}`, ...[summary.median, summary.low, summary.high].map((values) => show(values[i]))]);
  });
  byId("curves-numbers").replaceChildren(tableOf("Loss at some iterations", ["Optimizer at iteration", "Median", "10th percentile", "90th percentile"], rows));
}

function startCurves() {
  const state = { decoded: report.curves.map((curve) => ({ ...curve, seeds: decode(curve.values) })), off: new Set() };
  const groups = [...new Set(report.curves.map((curve) => curve.group))];
  fillSelect(byId("curves-group"), groups, groups.map((group) => group || "all"));
  byId("curves-group-field").hidden = groups.length < 2;
  byId("curves-note").textContent = report.curves_note ?? "";
  const longest = Math.max(...report.curves.map((curve) => curve.iterations.length));
  // The window of the tutorial's figure, where there are points enough for it.
  byId("curves-smoothing").value = longest >= 110 ? 11 : 1;
  const draw = () => drawCurves(state);
  state.off = legend("curves-legend", [...new Set(report.curves.map((curve) => curve.label))], draw);
  for (const [id, event] of [["curves-group", "change"], ["curves-smoothing", "input"], ["curves-log", "change"]]) byId(id).addEventListener(event, draw);
  return keepDrawn(draw);
}

// Heatmaps: one panel an optimizer, one scale of colours for all

function heatScale() {
  const finite = extent(report.heatmaps.flatMap((map) => (map.points?.z ?? map.z.flat()).map(toNumber))) ?? [0, 1];
  const logarithmic = wide(finite, 5);
  const [low, high] = logarithmic ? finite.map(Math.log10) : finite;
  const ticks = logarithmic ? logTicks(finite) : null;
  return { logarithmic, low, high: high > low ? high : low + 1e-9, ticks };
}

// 1, 2 and 5 in each decade; of narrow ranges more.
function logTicks([low, high]) {
  const ticks = [];
  const digits = high / low < 20 ? [1, 1.5, 2, 3, 5, 7] : high / low < 1e4 ? [1, 2, 5] : [1];
  for (let decade = Math.floor(Math.log10(low)); decade <= Math.log10(high); decade++) {
    for (const digit of digits) {
      const tick = Number((digit * 10 ** decade).toPrecision(2));
      if (tick >= low && tick <= high) ticks.push(tick);
    }
  }
  return ticks;
}

// Along the top of a figure.
const colourBar = () => ({ orientation: "h", yref: "container", y: 1, yanchor: "top", ypad: 0, xpad: 0, thickness: 12, len: 1, outlinewidth: 0 });

// Makes white text legible on any colour.
const SHADOW = "0 0 3px #000, 0 0 3px #000, 0 0 2px #000, 0 0 2px #000";

const indices = (list) => list.map((_, i) => i);

// Straight lines over the cells, whatever their values: the values are written on the axes.
function valueAxis({ name, values }) {
  const every = Math.ceil(values.length / (NARROW.matches ? 6 : 10));
  const places = indices(values).filter((i) => i % every === 0);
  return axis(name, { tickvals: places, ticktext: places.map((i) => plain(typeof values[i] === "number" ? show(values[i], 3) : values[i])), range: [-0.5, values.length - 0.5], showgrid: false });
}

const lossColours = ({ ticks }) => ({
  colorscale: "Viridis",
  colorbar: { ...colourBar(), ...(ticks && { tickvals: ticks.map(Math.log10), ticktext: ticks.map((tick) => show(tick)) }) },
});

// Cells of a search, which fill no grid, as points; those that mostly failed as hollow crosses.
function drawPoints(map, number, scale) {
  const { x, y } = map.points;
  const z = map.points.z.map(toNumber);
  const failed = map.points.failed;
  const text = z.map((value, i) => heatText(map, [x[i], y[i]], value, failed[i]));
  const some = (wanted) => indices(z).filter((i) => wanted(z[i]));
  const at = (places) => ({ mode: "markers", x: places.map((i) => x[i]), y: places.map((i) => y[i]), hovertext: places.map((i) => text[i]), hoverinfo: "text" });
  const finite = some(Number.isFinite);
  const best = indices(z).filter((i) => x[i] === map.best[0] && y[i] === map.best[1]);
  const traces = [
    ...(map.effective ? effectiveCurves(map) : []),
    {
      ...at(finite),
      meta: "cells",
      marker: {
        size: 13,
        line: { width: 1, color: colour("text") },
        color: finite.map((i) => (scale.logarithmic ? Math.log10(z[i]) : z[i])),
        cmin: scale.low,
        cmax: scale.high,
        ...lossColours(scale),
      },
    },
    { ...at(some((value) => value === Infinity)), meta: "infinite", marker: { symbol: "x-thin", size: 10, line: { width: 2, color: colour("text") } } },
    { ...at(best), meta: "best", hoverinfo: "skip", marker: { symbol: "square-open", size: 22, line: { width: 3.5, color: STYLES[0].light } } },
  ];
  return plot(`heatmap-${number}-plot`, `Loss of ${map.label} against ${map.x.name} and ${map.y.name}`, traces, {
    height: 380,
    margin: { l: 50, r: 12, t: 66, b: 48 },
    xaxis: axis(map.x.name + (map.x.log ? ", logarithmic" : ""), map.x.log ? { type: "log", dtick: 1 } : {}),
    yaxis: axis(map.y.name + (map.y.log ? ", logarithmic" : ""), map.y.log ? { type: "log", dtick: 1 } : {}),
    hovermode: "closest",
  });
}

// Curves of equal x/(1 − y), a decade apart, as far as there are cells.
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
    failures(map),
  ];
  return plot(`heatmap-${number}-plot`, `Loss of ${map.label} against ${map.x.name} and ${map.y.name}`, traces, {
    height: Math.min(440, Math.max(260, 140 + 34 * map.y.values.length)),
    margin: { l: 50, r: 12, t: 66, b: 48 },
    xaxis: valueAxis(map.x),
    yaxis: valueAxis(map.y),
    shapes: frame(map),
    hovermode: "closest",
  });
}

function heatText(map, [x, y], value, failed) {
  const where = `${map.x.name} ${valueText(x)}, ${map.y.name} ${valueText(y)}`;
  const what = Number.isNaN(value) ? "not finished" : value === Infinity ? "infinite: most of its runs failed" : `loss ${show(value)}`;
  return plain(where) + `<br>${what}${failed ? `; ${many(failed, "failed run")}` : ""}`;
}

const valueText = (value) => (typeof value === "number" ? show(value) : String(value));

// How many runs of a cell failed, in a circle that can be read on any colour.
function failures(map) {
  const cells = (map.failed ?? []).flatMap((row, j) => row.map((count, i) => ({ count, i, j }))).filter(({ count }) => count > 0);
  return {
    meta: "failed",
    mode: "markers+text",
    x: cells.map(({ i }) => i),
    y: cells.map(({ j }) => j),
    text: cells.map(({ count }) => String(count)),
    textfont: { color: "#000000", size: 10 },
    marker: { symbol: "circle", size: 17, color: "#ffffff", line: { color: "#000000", width: 1 } },
    hoverinfo: "skip",
  };
}

function frame({ x, y, best }) {
  const [i, j] = best ? [x.values.indexOf(best[0]), y.values.indexOf(best[1])] : [-1, -1];
  if (i < 0 || j < 0) return [];
  const square = { type: "rect", x0: i - 0.5, x1: i + 0.5, y0: j - 0.5, y1: j + 0.5 };
  return [
    { ...square, line: { color: "#ffffff", width: 6 } },
    { ...square, name: "best", line: { color: STYLES[0].light, width: 3.5 } },
  ];
}

// Lines of equal x/(1 − y), a decade apart.
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

// Each line's value: above the figure where it meets the upper row, else beside its end on the left.
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
      // A line that only touches a corner is none.
      if (above ? !(low <= decade && decade < high) : !(low < decade && decade <= high)) continue;
      const share = (decade - low) / (high - low);
      places.push({ above, x: from[0] + share * (to[0] - from[0]), y: above ? last + 0.5 : from[1] + share, text: show(10 ** decade) });
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

function heatmapPanel(map, number) {
  const id = `heatmap-${number}`;
  const { x, y } = map;
  const caption = map.best ? `Best: ${x.name} ${valueText(map.best[0])}, ${y.name} ${valueText(map.best[1])}.` : "No cell is finished without failing.";
  const { header, rows } = map.points ? pointNumbers(map) : gridNumbers(map);
  return make(
    "div",
    {},
    make("h3", {}, map.label),
    make("figure", {}, make("div", { class: "plot", id: `${id}-plot` }), make("figcaption", { id: `${id}-caption` }, caption)),
    make("details", { class: "numbers" }, make("summary", {}, `Numbers of ${map.label}`), tableOf(`Loss of ${map.label}`, header, rows)),
  );
}

function gridNumbers({ x, y, z, failed }) {
  const header = [`${y.name} \\ ${x.name}`, ...x.values.map(valueText)];
  return { header, rows: z.map((row, j) => [valueText(y.values[j]), ...row.map((value, i) => cellText(toNumber(value), failed?.[j]?.[i] ?? 0))]) };
}

function pointNumbers({ x, y, points }) {
  const rows = points.z.map((value, i) => [valueText(points.x[i]), valueText(points.y[i]), cellText(toNumber(value), points.failed[i])]);
  return { header: [x.name, y.name, "Loss"], rows };
}

const cellText = (value, failed) => (Number.isNaN(value) ? "not finished" : show(value)) + (failed ? `, ${failed} failed` : "");

function startHeatmaps() {
  const scale = heatScale();
  const effective = report.heatmaps.some((map) => map.effective);
  byId("heatmaps-legend").textContent =
    `${report.heatmaps_title ?? "Final loss (nats)"}: the darker the lower${scale.logarithmic ? ", on a logarithmic scale" : ""}. ` +
    "The best cell is framed. " +
    (report.heatmaps.some((map) => map.z) ? "A number in a circle counts failed runs; in grey cells most failed; empty ones are not finished." : "") +
    (report.heatmaps.some((map) => map.points) ? "Of cells that are crosses most runs failed." : "") +
    (effective ? " Dashed lines join equal effective learning rates, learning rate / (1 − momentum), a decade apart." : "");
  byId("heatmaps-panels").append(...report.heatmaps.map(heatmapPanel));
  return keepDrawn(() => Promise.all(report.heatmaps.map((map, i) => drawHeatmap(map, i, scale))));
}

// Sensitivity and tuning budget: a line for each optimizer over a few points

function lineTraces({ label, x, y, low, high, shape, joined = true }, off, top, logarithmic, mark) {
  const style = styleOf(indexOf(label));
  const name = plain(label);
  const sky = 1e3 * Math.abs(top);
  const range = low ? (i) => ` (${show(low[i], 3)} to ${show(high[i], 3)})` : () => "";
  const hover = y.map((value, i) => `${name} at ${show(x[i])}: ${show(value)}${range(i)}`);
  const infinite = indices(x).filter((i) => y[i] === Infinity);
  const parts = low && joined ? bandParts(x, low, high, logarithmic) : [];
  return [
    {
      name,
      meta: "band",
      visible: !off && parts.length > 0,
      // A gap between the parts, each of which is a closed line.
      x: parts.flatMap((part) => [...part, ...part.toReversed()].map((i) => x[i]).concat(null)),
      y: parts.flatMap((part) => [...part.map((i) => Math.min(high[i], sky)), ...part.toReversed().map((i) => low[i]), null]),
      fill: "toself",
      fillcolor: faint(style.color, 0.18),
      line: { width: 0, color: style.color },
      mode: "lines",
      hoverinfo: "skip",
    },
    {
      name,
      meta: "line",
      visible: !off,
      x,
      y: y.map((value) => (Number.isFinite(value) ? value : null)),
      mode: joined ? "lines+markers" : "markers",
      line: { color: style.color, dash: style.dash, width: 2, shape: shape ?? "linear" },
      marker: { color: style.color, symbol: style.symbol, size: 9, ...(x.length > 25 && { maxdisplayed: 14 }) },
      hovertext: hover,
      hoverinfo: "text",
    },
    {
      name,
      meta: "infinite",
      visible: !off && infinite.length > 0,
      x: infinite.map((i) => x[i]),
      y: infinite.map(() => mark),
      mode: "markers",
      marker: { color: style.color, symbol: `${style.symbol}-open`, size: 10, line: { width: 2 } },
      hovertext: infinite.map((i) => hover[i]),
      hoverinfo: "text",
    },
  ];
}

// Neighbours at which a band can be drawn, as lists of places.
function bandParts(x, low, high, logarithmic) {
  const parts = [[]];
  for (const i of indices(x)) {
    if (Number.isFinite(low[i]) && !Number.isNaN(high[i]) && !(logarithmic && low[i] <= 0)) parts.at(-1).push(i);
    else parts.push([]);
  }
  return parts.filter((part) => part.length > 0);
}

function drawLines(section, lines, off, { name, xTitle, yTitle, xLog }) {
  const finite = extent(lines.flatMap((line) => line.y));
  const logarithmic = wide(finite, 5);
  const spread = extent(lines.flatMap((line) => [...line.y, ...(line.low ?? [])]).filter((y) => !logarithmic || y > 0)) ?? [0, 1];
  const infinite = lines.filter((line) => line.y.includes(Infinity));
  const [bottom, top] = axisRange(spread, logarithmic, 0.04 + 0.06 * infinite.length);
  // What is infinite is marked at the top, each line at its own height.
  const mark = (line) => undoLog(top - (0.03 + 0.045 * infinite.indexOf(line)) * (top - bottom), logarithmic);
  const traces = lines.flatMap((line) => lineTraces(line, off.has(line.label), undoLog(top, logarithmic), logarithmic, mark(line)));
  return plot(`${section}-plot`, name, traces, {
    height: NARROW.matches ? 300 : 380,
    margin: { l: 50, r: 16, t: 16, b: 44 },
    xaxis: axis(xTitle, xLog ? { type: "log", dtick: 1 } : { rangemode: "tozero" }),
    yaxis: axis(yTitle + (logarithmic ? ", logarithmic" : ""), {
      type: logarithmic ? "log" : "linear",
      range: [bottom, top],
      ...(logarithmic && { tickvals: logTicks([10 ** bottom, 10 ** top]), ticktext: logTicks([10 ** bottom, 10 ** top]).map((tick) => show(tick)) }),
    }),
    hovermode: "closest",
  });
}

function startSensitivity() {
  const lines = report.sensitivity.map(({ label, rates, losses, low, high, joined }) => ({
    label,
    joined: joined ?? true,
    x: rates.map(toNumber),
    y: losses.map(toNumber),
    ...(present(low) && present(high) && { low: low.map(toNumber), high: high.map(toNumber) }),
  }));
  byId("sensitivity-title").textContent = report.sensitivity_title ?? "";
  const off = legend("sensitivity-legend", lines.map((line) => line.label), () => draw());
  const draw = () => drawLines("sensitivity", lines, off, { name: "Loss against learning rate", xTitle: "Learning rate, logarithmic", yTitle: "Loss (nats)", xLog: true });
  const infinite = lines.some((line) => line.y.includes(Infinity));
  const best = lines.map(({ label, x, y }) => {
    const least = y.reduce((a, value, i) => (value < y[a] || Number.isNaN(y[a]) ? i : a), 0);
    return Number.isFinite(y[least]) ? `${label} ${show(y[least])} at ${show(x[least])}` : `${label} nowhere`;
  });
  say("sensitivity-caption", report.sensitivity_note, `Lowest: ${best.join("; ")}.${infinite ? " Hollow marks at the top are infinite: most of the runs failed." : ""}`);
  const rows = lines.flatMap(({ label, x, y, low, high }) => x.map((rate, i) => [`${label} at ${show(rate)}`, show(y[i]), show(low?.[i]), show(high?.[i])]));
  byId("sensitivity-numbers").append(tableOf("Loss by learning rate", ["Optimizer at learning rate", "Loss (nats)", "Low", "High"], rows));
  return keepDrawn(draw);
}

function startBudget() {
  const lines = report.budget.map(({ label, trials, best }) => ({ label, x: trials.map(toNumber), y: best.map(toNumber), shape: "hv" }));
  byId("budget-title").textContent = report.budget_title ?? "";
  const off = legend("budget-legend", lines.map((line) => line.label), () => draw());
  const draw = () => drawLines("budget", lines, off, { name: "Best loss against trials", xTitle: "Trials (cells tuned over)", yTitle: "Best loss (nats)", xLog: false });
  const ends = lines.map(({ label, x, y }) => `${label} ${show(y.at(-1))} after ${many(x.at(-1), "trial")}`);
  say("budget-caption", report.budget_note, `At the end: ${ends.join("; ")}.`);
  const rows = lines.flatMap(({ label, x, y }) => x.map((trial, i) => [`${label}, ${many(trial, "trial")}`, show(y[i])]));
  byId("budget-numbers").append(tableOf("Best loss by number of trials", ["Optimizer, trials", "Best loss (nats)"], rows));
  return keepDrawn(draw);
}
