"use strict";

// Sensitivity and tuning budget: one line per optimizer through a few points.

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

// The stretches of neighbouring points at which a band can be drawn, as lists of indices.
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
  // Infinite values are marked at the top, each line at its own height.
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
  const draw = () => drawLines("budget", lines, off, { name: "Best loss against trials", xTitle: "Trials per optimizer", yTitle: "Best loss (nats)", xLog: false });
  const ends = lines.map(({ label, x, y }) => `${label} ${show(y.at(-1))} after ${many(x.at(-1), "trial")}`);
  say("budget-caption", report.budget_note, `At the end: ${ends.join("; ")}.`);
  const rows = lines.flatMap(({ label, x, y }) => x.map((trial, i) => [`${label}, ${many(trial, "trial")}`, show(y[i])]));
  byId("budget-numbers").append(tableOf("Best loss by number of trials", ["Optimizer, trials", "Best loss (nats)"], rows));
  return keepDrawn(draw);
}
