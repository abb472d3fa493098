"use strict";

// Parallel coordinates: each trial is a line across one axis for each hyperparameter and, last, its loss. They are drawn as
// ordinary lines: plotly's own trace needs WebGL and compiles code, which the page's policy forbids, and it does not print.

// Viridis, from low to high losses. A theme leaves out the end that its ground hides.
const VIRIDIS = ["#440154", "#482173", "#433e85", "#38598c", "#2d708e", "#25858e", "#1e9b8a", "#2ab07f", "#52c569", "#86d549", "#c2df23", "#fde725"];
const lossScale = () => (isDark() ? VIRIDIS.slice(3) : VIRIDIS.slice(0, 10));
// Heights outside the axes, which go from 0 to 1: of failed trials, and of hyperparameters that a trial does not have.
const FAILED = 1.1;
const NONE = -0.1;
const MOST_ROWS = 200;

// The height of each value on an axis, and the ticks.
function parallelScale({ texts, values, log }) {
  if (texts) {
    const height = (place) => (texts.length > 1 ? place / (texts.length - 1) : 0.5);
    const every = Math.ceil(texts.length / 12);
    return { heights: values.map(height), ticks: indices(texts).filter((i) => i % every === 0).map((i) => [height(i), shortened(texts[i], 14)]) };
  }
  const numbers = values.map(toNumber);
  const range = extent(numbers);
  if (!range) return { heights: [], ticks: [] };
  const at = log ? Math.log10 : (value) => value;
  const [low, high] = range.map(at);
  const height = (value) => (high > low ? (at(value) - low) / (high - low) : 0.5);
  const distinct = [...new Set(numbers.filter(Number.isFinite))].sort((a, b) => a - b);
  const round = () => (log ? fewTicks(logTicks(range), 8) : evenTicks(range));
  const ticks = apart((distinct.length <= 9 ? distinct : round()).map((tick) => [height(tick), show(tick, 3)]));
  const none = numbers.some(Number.isNaN) ? [[NONE, "none"]] : [];
  return { heights: numbers.map((value) => (Number.isNaN(value) ? NONE : height(value))), ticks: [...none, ...ticks] };
}

// Those ticks that are far enough above the last one not to overlap it.
const apart = (ticks) => ticks.reduce((kept, tick) => (kept.length && tick[0] - kept.at(-1)[0] < 0.05 ? kept : [...kept, tick]), []);

// The axes with the heights of all trials; the last is the loss, at which failed trials lie above the axis.
function parallelAxes({ axes, losses }) {
  const numbers = losses.map(toNumber);
  const finite = numbers.filter(Number.isFinite);
  const own = { ...parallelScale({ values: finite, log: wide(extent(finite), 5) }), name: "loss" };
  // The trials are in the order of their losses, so that those which failed come last.
  return [...axes.map((one) => ({ ...one, ...parallelScale(one) })), { ...own, heights: numbers.map((loss, i) => (Number.isFinite(loss) ? own.heights[i] : FAILED)) }];
}

function parallelText({ axes, losses, failed }, i) {
  const values = axes.map(({ name, texts, values: own }) => `${short(name)} ${texts ? short(texts[own[i]]) : own[i] === null ? "none" : show(toNumber(own[i]))}`);
  return `${values.join(", ")}: ${lossText(toNumber(losses[i]), failed[i])}`;
}

const lossText = (loss, failed) => (Number.isFinite(loss) ? `loss ${show(loss)}` : "failed") + (failed ? `, ${many(failed, "failed run")}` : "");

// One trace through some trials; null leaves a gap after each.
function parallelTrace(part, axes, trials, meta, line, more = {}) {
  const [x, y, hovertext] = [[], [], []];
  for (const i of trials) {
    const text = plain(parallelText(part, i));
    axes.forEach(({ heights }, place) => {
      x.push(place);
      y.push(heights[i]);
      hovertext.push(text);
    });
    x.push(null);
    y.push(null);
    hovertext.push("");
  }
  return { meta, mode: "lines", x, y, hovertext, hoverinfo: "text", line, cliponaxis: false, ...more };
}

function parallelTraces(part, axes, count) {
  const colours = lossScale();
  const heights = axes.at(-1).heights.slice(0, count);
  const trials = indices(heights);
  const failed = trials.filter((i) => heights[i] === FAILED);
  const alpha = Math.min(0.85, Math.max(0.12, 40 / count));
  const bin = (i) => Math.min(colours.length - 1, Math.floor(heights[i] * colours.length));
  // The best are drawn last, over the others.
  const layers = indices(colours).toReversed().map((layer) =>
    parallelTrace(part, axes, trials.filter((i) => heights[i] !== FAILED && bin(i) === layer), "trials", { color: faint(colours[layer], layer < 2 ? Math.min(0.9, 2 * alpha) : alpha), width: 1.5 }),
  );
  const best = trials.length > failed.length ? [0] : [];
  return [
    parallelTrace(part, axes, failed, "failed", { color: faint(isDark() ? "#8b939d" : "#737b85", Math.max(0.3, alpha)), width: 1, dash: "dot" }),
    ...layers,
    parallelTrace(part, axes, best, "best", { color: BEST, width: 4 }),
    { meta: "failed trials", mode: "markers", x: failed.length ? [axes.length - 1] : [], y: failed.length ? [FAILED] : [], marker: { symbol: "x-thin", size: 9, line: { width: 2, color: colour("text") } }, hoverinfo: "skip", cliponaxis: false },
  ];
}

// The numbers at the axes: left of each, and right of the last. Their ground hides the lines behind them.
function tickWords(axes) {
  const last = axes.length - 1;
  const style = { showarrow: false, borderpad: 0, bgcolor: faded(colour("ground"), 0.8), font: { size: NARROW.matches ? 10 : 12, color: colour("text") } };
  return axes.flatMap(({ ticks }, x) =>
    ticks.map(([y, text]) => ({ ...style, text: plain(text), x, y, xanchor: x === last ? "left" : "right", xshift: x === last ? 8 : -5 })),
  );
}

// The lines of the axes. That of the loss has the colours of the trials.
function axisShapes(axes) {
  const last = axes.length - 1;
  const colours = lossScale();
  const line = (place, y0, y1, color, width) => ({ type: "line", x0: place, x1: place, y0, y1, layer: "below", line: { color, width } });
  return [...axes.slice(0, -1).map((_, place) => line(place, 0, 1, colour("edge"), 1.5)), ...colours.map((color, i) => line(last, i / colours.length, (i + 1) / colours.length, color, 7))];
}

function drawParallel(part) {
  const axes = parallelAxes(part);
  const share = Number(byId("parallel-best").value);
  const count = Math.max(1, Math.round((share / 100) * part.losses.length));
  const narrow = NARROW.matches;
  const failed = axes.at(-1).heights.slice(0, count).filter((height) => height === FAILED).length;
  const title = (name) => (narrow ? shortened(name, 22).split(" ").map(plain).join("<br>") : plain(shortened(name, 30)));
  const titles = axes.map(({ name }, x) => ({ text: title(capital(name)), x, y: 1.17, yanchor: "bottom", showarrow: false, font: { size: narrow ? 11 : 13, color: colour("text") } }));
  const word = { text: "failed", x: axes.length - 1, y: FAILED, xanchor: "left", xshift: 8, showarrow: false, font: { size: 12, color: colour("text") } };
  byId("parallel-best-value").textContent = share === 100 ? "all" : `the best ${share} %`;
  byId("parallel-best").setAttribute("aria-valuetext", byId("parallel-best-value").textContent);
  say("parallel-caption", parallelWords(part, count, failed));
  return plot("parallel-plot", `Hyperparameters and loss of ${many(count, "trial")} of ${short(part.label)}`, parallelTraces(part, axes, count), {
    height: narrow ? 400 : 460,
    margin: { l: narrow ? 46 : 70, r: narrow ? 46 : 70, t: 8, b: 12 },
    xaxis: { visible: false, range: [0, axes.length - 1], fixedrange: true },
    yaxis: { visible: false, range: [NONE - 0.05, narrow ? 1.42 : 1.28], fixedrange: true },
    shapes: axisShapes(axes),
    annotations: [...tickWords(axes), ...titles, ...(failed ? [word] : [])],
    hovermode: "closest",
  });
}

function parallelWords(part, count, failed) {
  const best = Number.isFinite(toNumber(part.losses[0])) ? ` The thick line is the best: ${parallelText(part, 0)}.` : " Every trial failed.";
  return (
    `Each line is a trial of ${short(part.label)}${count < part.losses.length ? `; the best ${count} of ${part.losses.length} are drawn` : ""}. Its colour is that of its loss on the last axis.${best}` +
    (failed ? ` Dotted lines to the cross above the last axis are ${many(failed, "trial")} of which most runs failed.` : "") +
    (part.left_out ? ` ${part.left_out} more trials are not drawn; these are evenly spaced by the rank of their loss.` : "")
  );
}

function parallelTable(part) {
  const { axes, losses, failed } = part;
  const rows = losses.slice(0, MOST_ROWS).map((loss, i) => [
    String(i + 1),
    ...axes.map(({ texts, values }) => (texts ? texts[values[i]] : values[i] === null ? "none" : show(toNumber(values[i])))),
    Number.isFinite(toNumber(loss)) ? show(toNumber(loss)) : "failed",
    String(failed[i]),
  ]);
  const caption = `Trials of ${short(part.label)}, the best first${rows.length < losses.length ? `; the first ${rows.length} of ${losses.length}` : ""}`;
  return tableOf(caption, ["Rank", ...axes.map(({ name }) => capital(short(name))), "Loss", "Failed runs"], rows);
}

function startParallel() {
  let shown = report.parallel[0];
  const numbers = byId("parallel-numbers");
  const draw = () => drawParallel(shown);
  byId("parallel-title").textContent = `${report.parallel_title ?? "Final loss"} by all hyperparameters that vary.`;
  whenOpened(numbers, () => parallelTable(shown));
  chooseOne("parallel-one", report.parallel, 1, (part) => {
    shown = part;
    if (numbers.open) numbers.lastElementChild.replaceWith(parallelTable(part));
    else numbers.replaceChildren(numbers.firstElementChild);
    return draw();
  });
  byId("parallel-best").addEventListener("input", draw);
  return keepDrawn(draw);
}
