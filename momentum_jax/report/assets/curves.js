"use strict";

// Training curves: the median and a band over seeds, after smoothing.

const BAND = [0.1, 0.9];

// Decodes float32, little-endian, [seeds, points]. A value that is not finite counts as +∞.
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

// A centred moving average. Near the ends the window shrinks on both sides alike.
function smooth(values, width) {
  const half = (width - 1) / 2;
  return values.map((_, i) => {
    const reach = Math.min(half, i, values.length - 1 - i);
    let sum = 0;
    for (let k = i - reach; k <= i + reach; k++) sum += values[k];
    return sum / (2 * reach + 1);
  });
}

// A quantile with linear interpolation, the same as NumPy's default.
function quantile(sorted, q) {
  const position = q * (sorted.length - 1);
  const below = Math.floor(position);
  const weight = position - below;
  return weight === 0 ? sorted[below] : sorted[below + 1] === Infinity ? Infinity : sorted[below] + weight * (sorted[below + 1] - sorted[below]);
}

// The median and the band over the seeds at each point.
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

// The top of a figure: above the start of every curve and above the peaks of curves that fall. Diverging curves leave through it.
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
  // Infinite values are drawn as lines to far above the picture.
  const sky = 1e3 * Math.abs(top);
  const positive = shown.flatMap(({ summary }) => [...summary.median, ...summary.low]).filter((y) => y > 0 && Number.isFinite(y));
  const least = positive.reduce((a, b) => Math.min(a, b), top);
  const floor = shown.reduce((a, { summary }) => summary.low.reduce((x, y) => Math.min(x, y), a), 0);
  const drawable = (y) => Math.min(logarithmic ? Math.max(y, least / 10) : y, sky);
  const drawn = shown.map((curve) => curveTraces(curve, state.off.has(curve.label), drawable));
  // Bands are drawn first, so that no line is hidden by one.
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
      // Ticks at 1, 2 and 5 of each decade, or at decades only in a broad range.
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
      (leaves ? " A line that ends at the top continues above it, or is infinite." : "") +
      (broad ? " Where a band reaches far above the top, at least a tenth of the seeds diverge." : ""),
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
  // 11 points is the window of the tutorial's figure; short curves are not smoothed.
  byId("curves-smoothing").value = longest >= 110 ? 11 : 1;
  const draw = () => drawCurves(state);
  state.off = legend("curves-legend", [...new Set(report.curves.map((curve) => curve.label))], draw);
  for (const [id, event] of [["curves-group", "change"], ["curves-smoothing", "input"], ["curves-log", "change"]]) byId(id).addEventListener(event, draw);
  return keepDrawn(draw);
}
