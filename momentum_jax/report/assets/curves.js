"use strict";

// Training curves: the median and a band over seeds, after smoothing.

const BAND = [0.1, 0.9];

// Decodes float32, or bfloat16, which is the upper half of a float32: little-endian, [curves, points]. A value that is not
// finite counts as +∞.
function decode({ shape, base64, bytes = 4 }) {
  const view = new DataView(Uint8Array.from(atob(base64), (character) => character.charCodeAt(0)).buffer);
  const half = new DataView(new ArrayBuffer(4));
  const read = (place) => {
    if (bytes === 4) return view.getFloat32(4 * place, true);
    half.setUint16(0, view.getUint16(2 * place, true));
    return half.getFloat32(0);
  };
  return Array.from({ length: shape[0] }, (_, curve) =>
    Float64Array.from({ length: shape[1] }, (_, point) => {
      const value = read(curve * shape[1] + point);
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

// Draws the curves of all trials on the canvas behind the figure, which takes thousands of lines in a few milliseconds. Each
// is faint, so that it is darker where more of them lie.
function drawTrials(figure, canvas, trials) {
  const { xaxis, yaxis, _size: size } = figure._fullLayout;
  const density = devicePixelRatio;
  Object.assign(canvas, { width: size.w * density, height: size.h * density });
  Object.assign(canvas.style, { left: `${size.l}px`, top: `${size.t}px`, width: `${size.w}px`, height: `${size.h}px` });
  const context = canvas.getContext("2d");
  context.scale(density, density);
  const x = report.trial_curves_iterations?.map((iteration) => xaxis.d2p(iteration));
  // A line goes out of the picture as far as this; beyond it has no direction.
  const highest = 2 * yaxis.p2d(0);
  const longest = Math.max(0, ...trials.map(({ curves }) => curves.length));
  // In turn, so that no optimizer covers another.
  for (let i = 0; i < longest; i++) {
    for (const { label, curves } of trials) {
      if (i >= curves.length) continue;
      context.strokeStyle = styleOf(indexOf(label)).color;
      context.globalAlpha = Math.min(0.3, Math.max(0.04, 10 / curves.length));
      context.beginPath();
      let pen = false;
      curves[i].forEach((value, point) => {
        const there = value <= highest && (yaxis.type !== "log" || value > 0);
        if (there) context[pen ? "lineTo" : "moveTo"](x[point], yaxis.d2p(value));
        pen = there;
      });
      context.stroke();
    }
  }
}

// Where curves leave the picture through its top, at most one mark an iteration; and how many of them do.
function leaving(curves, iterations, top) {
  const places = curves.map((values) => values.findIndex((value) => value > top)).filter((place) => place >= 0);
  return { x: [...new Set(places)].map((place) => iterations[place]), count: places.length };
}

function cutTrace({ x }, label, at, size) {
  const { color } = styleOf(indexOf(label));
  return { meta: "cut off", mode: "markers", x, y: x.map(() => at), marker: { color, symbol: "triangle-up-open", size, line: { width: size / 6 } }, hoverinfo: "skip" };
}

// What leaves the picture, in words: lines by name, trials by their number.
function cutWords(lines, trials, top) {
  const how = ({ median }) => (median.includes(Infinity) ? "fails" : median.some((y) => y > top) ? "goes on above" : "in a tenth of its runs");
  const leaves = ({ label, summary, cut }) => cut.x.length && `${short(label)} ${how(summary)}`;
  const count = trials.reduce((sum, { cut }) => sum + cut.count, 0);
  const all = trials.reduce((sum, { curves }) => sum + curves.length, 0);
  return [listed(lines.map(leaves).filter(Boolean), 3), count ? `${count} of ${many(all, "trial")} fail or go on above` : ""].filter(Boolean).join("; ");
}

// What nine of ten trials begin below, among those that begin below a limit.
function commonStart(trials, limit) {
  const starts = trials.flatMap(({ curves }) => curves.map((curve) => curve[0])).filter((start) => start <= limit);
  return starts.length ? quantile(Float64Array.from(starts).sort(), 0.9) : 0;
}

function drawCurves(state) {
  const width = Number(byId("curves-smoothing").value);
  const logarithmic = byId("curves-log").checked;
  const group = byId("curves-group").value;
  const on = (curve) => curve.group === group && !state.off.has(curve.label);
  const shown = state.decoded.filter(on).map((curve) => ({ ...curve, summary: summarise(curve.seeds.map((seed) => smooth(seed, width))) }));
  const behind = byId("curves-trials").checked ? state.trials.filter(on) : [];
  const top = Math.max(topOf(shown), 1.02 * commonStart(behind, 2 * topOf(shown)));
  // Infinite values are drawn as lines to far above the picture.
  const sky = 1e3 * Math.abs(top);
  const positive = shown.flatMap(({ summary }) => [...summary.median, ...summary.low]).filter((y) => y > 0 && Number.isFinite(y));
  const least = positive.reduce((a, b) => Math.min(a, b), top);
  const floor = shown.reduce((a, { summary }) => summary.low.reduce((x, y) => Math.min(x, y), a), 0);
  const drawable = (y) => Math.min(logarithmic ? Math.max(y, least / 10) : y, sky);
  const trials = behind.map((trial) => ({ ...trial, cut: leaving(trial.curves, report.trial_curves_iterations, top) }));
  // A line is cut off, or at least the tenth of its runs that the band leaves out.
  const leaves = ({ summary, iterations }) => [leaving([summary.median], iterations, top), leaving([summary.high], iterations, 3 * top)].find((cut) => cut.count) ?? { x: [], count: 0 };
  const lines = shown.map((curve) => ({ ...curve, cut: leaves(curve) }));
  const drawn = lines.map((curve) => curveTraces(curve, drawable));
  const edge = logarithmic ? 10 ** (Math.log10(top) + 0.03) : top - 0.012 * (top - floor);
  // Bands are drawn before lines, so that no line is hidden by one.
  const traces = [
    ...drawn.map(([band]) => band),
    ...drawn.map(([, line]) => line),
    ...trials.map(({ cut, label }) => cutTrace(cut, label, edge, 6)),
    ...lines.map(({ cut, label }) => cutTrace(cut, label, edge, 11)),
  ];
  const cut = cutWords(lines, trials, top);
  byId("curves-smoothing-value").textContent = width === 1 ? "none" : `${width} points`;
  byId("curves-smoothing").setAttribute("aria-valuetext", byId("curves-smoothing-value").textContent);
  const hasTrials = state.trials.some((trial) => trial.group === group);
  byId("curves-trials-field").hidden = !hasTrials;
  byId("curves-note").textContent = [report.curves_note, hasTrials && report.trial_curves_note].filter(Boolean).join(" ");
  curvesWords(shown, width, cut);
  state.behind = behind;
  return plot("curves-plot", `Loss against iterations${group ? `, ${group}` : ""}`, traces, {
    height: NARROW.matches ? 320 : 440,
    hovermode: shown.length > SHOWN_AT_FIRST ? "closest" : "x unified",
    uirevision: `${group} ${logarithmic}`,
    annotations: cut ? [edgeWord(`△ cut off: ${shortened(cut, NARROW.matches ? 36 : 100)}`, { x: 1, xanchor: "right", y: 1, yanchor: "top", yshift: -10 })] : [],
    xaxis: axis("Iterations (parameter updates)", { rangemode: "tozero" }),
    yaxis: axis(lossAxisTitle(withUnit("Loss", shown[0]?.unit), logarithmic), {
      type: logarithmic ? "log" : "linear",
      range: logarithmic ? [Math.log10(least) - 0.05, Math.log10(top) + 0.05] : [floor, top],
      // Ticks at 1, 2 and 5 of each decade, or at decades only in a broad range.
      ...(logarithmic && { dtick: top / least < 1e4 ? "D2" : 1 }),
    }),
  });
}

function curveTraces({ label, iterations, seeds, summary }, drawable) {
  const style = styleOf(indexOf(label));
  const name = plain(short(label));
  const over = seeds.length > 1 ? (i) => ` (${show(summary.low[i], 3)} to ${show(summary.high[i], 3)})` : () => "";
  const band = {
    name,
    meta: "band",
    visible: seeds.length > 1,
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

function curvesWords(shown, width, cut) {
  const seeds = shown[0]?.seeds.length ?? 0;
  const last = shown.map(({ label, iterations, summary }) => `${short(label)} ${summary.median.at(-1) === Infinity ? "failed" : show(summary.median.at(-1))} at iteration ${iterations.at(-1)}`);
  say(
    "curves-caption",
    `${seeds > 1 ? `Median of ${many(seeds, "seed")}, band from the 10th to the 90th percentile` : "One seed"}; ${width === 1 ? "not smoothed" : `smoothed over ${width} points`}.` +
      (last.length ? ` At the end: ${listed(last)}.` : "") +
      (cut ? ` A mark at the top shows where a curve leaves the picture: ${cut}.` : ""),
  );
  const count = 8;
  const rows = shown.flatMap(({ label, iterations, summary }) => {
    const places = [...new Set(Array.from({ length: count }, (_, i) => Math.round((i * (iterations.length - 1)) / (count - 1))))];
    return places.map((i) => [`${label} at ${iterations[i]}`, ...[summary.median, summary.low, summary.high].map((values) => show(values[i]))]);
  });
  byId("curves-numbers").replaceChildren(tableOf("Loss at some iterations", ["Optimizer at iteration", "Median", "10th percentile", "90th percentile"], rows));
}

function startCurves() {
  const state = {
    decoded: report.curves.map((curve) => ({ ...curve, seeds: decode(curve.values) })),
    trials: (report.trial_curves ?? []).map((trial) => ({ ...trial, curves: decode(trial.values) })),
    off: new Set(),
  };
  const groups = [...new Set(report.curves.map((curve) => curve.group))];
  fillSelect(byId("curves-group"), groups, groups.map((group) => group || "all"));
  byId("curves-group-field").hidden = groups.length < 2;
  const longest = Math.max(...report.curves.map((curve) => curve.iterations.length));
  // 11 points is the window of the tutorial's figure; short curves are not smoothed.
  byId("curves-smoothing").value = longest >= 110 ? 11 : 1;
  const draw = () => drawCurves(state);
  state.off = legend("curves-legend", [...new Set(report.curves.map((curve) => curve.label))], draw);
  for (const [id, event] of [["curves-group", "change"], ["curves-smoothing", "input"], ["curves-log", "change"], ["curves-trials", "change"]]) byId(id).addEventListener(event, draw);
  return keepDrawn(draw).then((figure) => {
    const again = () => drawTrials(figure, byId("curves-canvas"), state.behind);
    // Also after the reader has magnified a part, and when the width has changed.
    figure.on("plotly_afterplot", again);
    again();
  });
}
