"use strict";

// Sensitivity and tuning budget: one line per optimizer through a few points.

function lineTraces({ label, x, y, low, high, shape, joined = true }, top, logarithmic, mark) {
  const style = styleOf(indexOf(label));
  const name = plain(short(label));
  const sky = 1e3 * Math.abs(top);
  const range = low ? (i) => ` (${show(low[i], 3)} to ${show(high[i], 3)})` : () => "";
  const hover = y.map((value, i) => `${name} at ${show(x[i])}: ${show(value)}${range(i)}`);
  const infinite = indices(x).filter((i) => y[i] === Infinity);
  const parts = low && joined ? bandParts(x, low, high, logarithmic) : [];
  return [
    {
      name,
      meta: "band",
      visible: parts.length > 0,
      // Each part is a closed line; null leaves a gap before the next.
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
      x,
      y: y.map((value) => (Number.isFinite(value) ? value : null)),
      mode: joined ? "lines+markers" : "markers",
      line: { color: style.color, dash: style.dash, width: 2, shape: shape ?? "linear" },
      marker: { color: style.color, symbol: style.symbol, size: 9, ...(joined && x.length > 25 && { maxdisplayed: 14 }) },
      hovertext: hover,
      hoverinfo: "text",
    },
    {
      name,
      meta: "infinite",
      visible: infinite.length > 0,
      x: infinite.map((i) => x[i]),
      y: infinite.map(() => mark),
      mode: "markers",
      marker: { color: style.color, symbol: `${style.symbol}-open`, size: 10, line: { width: 2 }, ...(joined && infinite.length > 25 && { maxdisplayed: 14 }) },
      hovertext: infinite.map((i) => hover[i]),
      hoverinfo: "text",
    },
  ];
}

// The stretches of neighbouring points at which a band can be drawn, as lists of indices.
function bandParts(x, low, high, logarithmic) {
  const parts = [[]];
  for (const i of indices(x)) {
    if (Number.isFinite(low[i]) && !Number.isNaN(high[i]) && !(logarithmic && low[i] <= 0)) parts.at(-1).push(i);
    else parts.push([]);
  }
  return parts.filter((part) => part.length > 0);
}

// The heights of the marks of infinite values: each line has its own, as far as there is room.
const MOST_HEIGHTS = 6;

function drawLines(section, all, off, { name, xTitle, yTitle, xLog, failed }) {
  const lines = all.filter(({ label }) => !off.has(label));
  const finite = extent(lines.flatMap((line) => line.y));
  const logarithmic = wide(finite, 5);
  const spread = extent(lines.flatMap((line) => [...line.y, ...(line.low ?? [])]).filter((y) => !logarithmic || y > 0)) ?? [0, 1];
  const infinite = lines.filter((line) => line.y.includes(Infinity));
  const heights = Math.min(infinite.length, MOST_HEIGHTS);
  const [bottom, top] = axisRange(spread, logarithmic, 0.04 + (heights ? 0.05 + 0.05 * heights : 0));
  const length = top - bottom;
  const mark = (line) => undoLog(top - (0.03 + 0.045 * (infinite.indexOf(line) % MOST_HEIGHTS)) * length, logarithmic);
  // Infinite values are marked in a strip at the top, with a word at the end where there is more room.
  const strip = top - (0.015 + 0.045 * heights) * length;
  const place = (x) => (xLog ? Math.log(x) : x);
  const xs = lines.flatMap(({ x }) => x.map(place));
  const marked = lines.flatMap(({ x, y }) => x.filter((_, i) => y[i] === Infinity).map(place));
  const right = Math.max(...xs) - Math.max(...marked) > Math.min(...marked) - Math.min(...xs);
  const edge = {
    shapes: [{ type: "rect", xref: "paper", x0: 0, x1: 1, y0: undoLog(strip, logarithmic), y1: undoLog(top, logarithmic), fillcolor: colour("raised"), line: { width: 0 }, layer: "below" }],
    annotations: [edgeWord(failed, { x: right ? 1 : 0, xanchor: right ? "right" : "left", y: 1, yanchor: "top", yshift: -3, bgcolor: "rgba(0,0,0,0)" })],
  };
  const below = [bottom, heights ? strip : top].map((at) => undoLog(at, logarithmic));
  const ticks = finite ? (logarithmic ? logTicks(below) : evenTicks(below)) : [];
  const traces = lines.flatMap((line) => lineTraces(line, undoLog(top, logarithmic), logarithmic, mark(line)));
  return plot(`${section}-plot`, name, traces, {
    height: NARROW.matches ? 300 : 380,
    margin: { l: 50, r: 16, t: 16, b: 44 },
    xaxis: axis(xTitle, xLog ? logAxis(lines.flatMap((line) => line.x)) : countAxis(xs)),
    yaxis: axis(lossAxisTitle(yTitle, logarithmic), {
      type: logarithmic ? "log" : "linear",
      range: [bottom, top],
      tickvals: ticks,
      ticktext: ticks.map((tick) => show(tick)),
    }),
    hovermode: "closest",
    ...(heights ? edge : { shapes: [], annotations: [] }),
  });
}

// An axis of whole numbers: between them there is nothing.
const countAxis = (values) => ({ rangemode: "tozero", ...(Math.max(...values) <= 5 && { dtick: 1 }) });

const lossTitle = () => report.heatmaps_title ?? "Loss";

// Where a line is lowest, and whether that is at an end of what was tried.
function lowest({ label, x, y }) {
  const least = y.reduce((a, value, i) => (value < y[a] || Number.isNaN(y[a]) ? i : a), 0);
  if (!Number.isFinite(y[least])) return `${short(label)} failed everywhere`;
  const end = x.length > 1 && ({ 0: ", the lowest that was tried", [x.length - 1]: ", the highest that was tried" }[least] ?? "");
  return `${short(label)} ${show(y[least])} at ${show(x[least])}${end || ""}`;
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
  const draw = () => drawLines("sensitivity", lines, off, { name: "Loss against learning rate", xTitle: "Learning rate, logarithmic", yTitle: lossTitle(), xLog: true, failed: "failed" });
  const infinite = lines.some((line) => line.y.includes(Infinity));
  say("sensitivity-caption", report.sensitivity_note, `Lowest: ${listed(lines.map(lowest))}.${infinite ? " Hollow marks at the top are infinite: most of the runs failed." : ""}`);
  const rows = lines.flatMap(({ label, x, y, low, high }) => x.map((rate, i) => [`${label} at ${show(rate)}`, y[i] === Infinity ? "failed" : show(y[i]), show(low?.[i]), show(high?.[i])]));
  whenOpened(byId("sensitivity-numbers"), () => tableOf("Loss by learning rate", ["Optimizer at learning rate", lossTitle(), "Low", "High"], rows));
  return keepDrawn(draw);
}

function startBudget() {
  const lines = report.budget.map(({ label, trials, best }) => ({ label, x: trials.map(toNumber), y: best.map(toNumber), shape: "hv" }));
  byId("budget-title").textContent = report.budget_title ?? "";
  const off = legend("budget-legend", lines.map((line) => line.label), () => draw());
  const xLog = Math.max(...lines.flatMap((line) => line.x)) > 50;
  const infinite = lines.some((line) => line.y.includes(Infinity));
  const draw = () => drawLines("budget", lines, off, { name: "Best loss against trials", xTitle: `Trials per optimizer${xLog ? ", logarithmic" : ""}`, yTitle: lossTitle(), xLog, failed: "all may fail" });
  const ends = lines.map(({ label, x, y }) => `${short(label)} ${y.at(-1) === Infinity ? "failed" : show(y.at(-1))} after ${many(x.at(-1), "trial")}`);
  say("budget-caption", report.budget_note, `At the end: ${listed(ends)}.${infinite ? " Hollow marks at the top are infinite: of so few trials all may have failed." : ""}`);
  const rows = lines.flatMap(({ label, x, y }) => x.map((trial, i) => [`${label}, ${many(trial, "trial")}`, show(y[i])]));
  whenOpened(byId("budget-numbers"), () => tableOf("Best loss by number of trials", ["Optimizer, trials", "Best loss"], rows));
  return keepDrawn(draw);
}
