"use strict";

// Protocols compared: a panel for each, and in it a row for each optimizer with an estimate, an interval and a dot per seed.

// Where the panels have room beside each other.
const BESIDE = matchMedia("(min-width: 56rem)");
const isStacked = () => printing || !BESIDE.matches;

// Of more optimizers a panel has the first and those with the best medians in the last protocol. A telephone has less height.
const mostArms = () => (NARROW.matches ? 9 : 14);

const threeWayMetric = () => report.three_way.metrics[Number(byId("three-way-metric").value)];

// The range and the scale of the values of a metric, and where on the axis a value is drawn: infinite ones at an edge.
function threeWayScale(arms) {
  const values = arms.flatMap((arm) => [arm.value, arm.low, arm.high, ...arm.values]).map(toNumber);
  const finite = extent(values);
  const logarithmic = wide(finite, 30);
  const [from, to] = axisRange(finite ?? [0, 1], logarithmic, values.includes(Infinity) ? 0.12 : 0.04);
  const range = [values.includes(-Infinity) ? from - 0.08 * (to - from) : from, to];
  const edge = 0.03 * (range[1] - range[0]);
  const position = (value) =>
    value === Infinity ? undoLog(range[1] - edge, logarithmic) : value === -Infinity ? undoLog(range[0] + edge, logarithmic) : value;
  return { range, logarithmic, position };
}

// The scale of each protocol: one for all, unless the values of each would fill less than a quarter of it.
function threeWayScales(protocols) {
  const armsOf = (protocol) => (protocol.skipped ? [] : protocol.arms.filter(Boolean));
  const shared = threeWayScale(protocols.flatMap(armsOf));
  const widthOn = (protocol) => {
    const values = armsOf(protocol).flatMap((arm) => [arm.value, arm.low, arm.high, ...arm.values]).map(toNumber);
    const [low, high] = (extent(values) ?? [1, 1]).map((value) => (shared.logarithmic ? Math.log10(value) : value));
    return (high - low) / (shared.range[1] - shared.range[0]);
  };
  const own = Math.max(...protocols.map(widthOn)) < 0.25;
  return { own, scales: protocols.map((protocol) => (own && armsOf(protocol).length ? threeWayScale(armsOf(protocol)) : shared)) };
}

// The labels that get rows, in the document's order.
function labelsDrawn(metric) {
  const protocols = metric.protocols.filter((protocol) => !protocol.skipped);
  const labels = [...new Set(protocols.flatMap((protocol) => protocol.arms.map((arm) => arm.label)))];
  if (labels.length <= mostArms()) return labels;
  const worst = metric.less_is_better ? Infinity : -Infinity;
  const medians = new Map(protocols.at(-1).arms.map((arm) => [arm.label, toNumber(arm.value)]));
  const rank = (label) => (metric.less_is_better ? 1 : -1) * (medians.get(label) ?? worst);
  const best = labels.slice(1).sort((a, b) => rank(a) - rank(b) || 0);
  const kept = new Set([labels[0], ...best.slice(0, mostArms() - 1)]);
  return labels.filter((label) => kept.has(label));
}

function drawThreeWay() {
  const metric = threeWayMetric();
  const labels = labelsDrawn(metric);
  const protocols = metric.protocols.map((protocol) => ({ ...protocol, arms: labels.map((label) => (protocol.arms ?? []).find((arm) => arm.label === label)) }));
  const { own, scales } = threeWayScales(protocols);
  const panels = panelsOf(protocols, labels.length, isStacked(), own);
  const titled = (scale) => capital(withUnit(metric.title, metric.unit)) + (scale.logarithmic ? ", logarithmic" : "");
  const names = labels.map((label) => shortened(label, isStacked() ? 16 : 24));
  const left = 14 + Math.max(...names.map(widthOf));
  const layout = { height: panels.height, margin: { l: left, r: 56, t: TITLE, b: AXIS }, annotations: [], hovermode: "closest" };
  const traces = [];
  for (const [i, protocol] of protocols.entries()) {
    const [number, { x, y, labelled, chars }, scale] = [i ? i + 1 : "", panels.places[i], scales[i]];
    const write = (text, more) => layout.annotations.push({ text, showarrow: false, xref: "paper", yref: "paper", xanchor: "left", ...more });
    write(`<b>${plain(shortened(capital(protocol.title), chars))}</b>`, { x: x[0], y: y[1], yanchor: "bottom", xshift: x[0] ? 0 : -left });
    layout[`xaxis${number}`] = axis(panels.places[i].titled ? titled(scale) : "", { domain: x, anchor: `y${number}`, type: scale.logarithmic ? "log" : "linear", range: scale.range, nticks: 5, fixedrange: false, visible: !protocol.skipped, showticklabels: panels.ticked(i) });
    layout[`yaxis${number}`] = axis("", {
      domain: y,
      anchor: `x${number}`,
      range: [labels.length - 0.4, -0.6],
      tickvals: indices(labels),
      ticktext: names.map(plain),
      tickfont: { size: 12 },
      automargin: false,
      showticklabels: labelled && !protocol.skipped,
      ticks: "",
      fixedrange: true,
    });
    if (protocol.skipped) {
      write(wrapped(`Not compared: ${protocol.skipped}`, chars).map(plain).join("<br>"), { x: x[0], xshift: x[0] ? 0 : -left, align: "left", y: y[1], yanchor: "top", font: { color: colour("muted") } });
      continue;
    }
    for (const [row, arm] of protocol.arms.entries()) {
      if (!arm) continue;
      const value = toNumber(arm.value);
      write(plain(Number.isFinite(value) ? show(value, 3) : (metric.infinite ?? show(value))), { x: x[1], xshift: 6, y: row, yref: `y${number}`, yanchor: "middle", font: { size: 12 } });
      traces.push(...armTraces(protocol, arm, row, scale.position).map((trace) => ({ ...trace, xaxis: `x${number}`, yaxis: `y${number}` })));
    }
  }
  threeWayWords(metric, labels, own);
  return plot("three-way-plot", `${capital(metric.title)}, by protocol and optimizer`, traces, layout);
}

// Above each panel stands its title, this many pixels high, and below the last one the axis; below one with a scale of
// its own its ticks.
const [TITLE, AXIS, TICKS] = [22, 46, 22];

// Where the panels are: beside each other, or where there is no room, below each other.
function panelsOf(protocols, rows, stacked, own) {
  const count = protocols.length;
  const height = rows * (rows <= 4 ? 30 : stacked ? 17 : 20) + 8;
  const shown = indices(protocols).filter((i) => !protocols[i].skipped);
  if (!stacked) {
    const gap = 0.075;
    const width = (1 - gap * (count - 1)) / count;
    const place = (i) => ({ x: [i * (width + gap), i * (width + gap) + width], y: [0, 1], labelled: i === shown[0], titled: i === shown[0], chars: Math.round(110 / count) });
    return { height: TITLE + height + AXIS, places: indices(protocols).map(place), ticked: () => true };
  }
  const last = shown.at(-1);
  const below = protocols.map((protocol, i) => (own && !protocol.skipped && i !== last ? TICKS : 0));
  const heights = protocols.map((protocol, i) => TITLE + (protocol.skipped ? 46 : height) + below[i]);
  const top = (i) => heights.slice(0, i).reduce((a, b) => a + b, 0);
  // The margin above is the first title.
  const inside = top(count) - TITLE;
  const place = (i) => ({ x: [0, 1], y: [1 - (top(i + 1) - below[i] - TITLE) / inside, 1 - top(i) / inside].map((at) => Math.max(0, at)), labelled: true, titled: i === last, chars: 40 });
  return { height: top(count) + AXIS, places: indices(protocols).map(place), ticked: (i) => own || i === last };
}

// The width of a tick label, in pixels.
function widthOf(text) {
  const context = make("canvas").getContext("2d");
  context.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  return context.measureText(text).width;
}

// An arm at the height y: a dot for each seed, and the estimate with its interval.
function armTraces(protocol, arm, y, position) {
  const style = styleOf(indexOf(arm.label));
  const [value, low, high] = [arm.value, arm.low, arm.high].map(toNumber);
  const seeds = arm.values.map(toNumber).filter((number) => !Number.isNaN(number));
  const about = plain(shortened(`${shortened(arm.label, 60)}, ${protocol.title}${arm.detail ? `, ${arm.detail}` : ""}`, 160));
  return [
    {
      name: plain(arm.label),
      meta: "seeds",
      mode: "markers",
      x: seeds.map(position),
      y: seeds.map((_, i) => y + 0.4 * (((i * 0.618) % 1) - 0.5)),
      marker: { color: style.color, size: 4, opacity: 0.45, symbol: "circle" },
      hovertext: seeds.map((number) => `${about}<br>one seed: ${show(number)}`),
      hoverinfo: "text",
    },
    {
      name: plain(arm.label),
      meta: "interval",
      mode: "lines+markers",
      x: [low, value, high].map(position),
      y: [y, y, y],
      line: { color: style.color, width: 3 },
      marker: {
        color: style.color,
        size: [low, value, high].map((number, i) => (i === 1 ? 11 : Number.isFinite(number) ? 12 : 0)),
        symbol: ["line-ns", value === Infinity ? "triangle-right" : value === -Infinity ? "triangle-left" : style.symbol, "line-ns"],
        line: { color: [style.color, colour("ground"), style.color], width: [2.5, 1, 2.5] },
      },
      hovertext: ["", "", ""].map(() => `${about}<br>${intervalText(arm)}`),
      hoverinfo: "text",
    },
  ];
}

// A text in lines of at most so many characters.
function wrapped(text, chars) {
  const lines = [""];
  for (const word of shortened(text, 4 * chars).split(" ")) {
    if (lines.at(-1) && lines.at(-1).length + word.length >= chars) lines.push("");
    lines.push(`${lines.pop()} ${shortened(word, chars)}`.trim());
  }
  return lines;
}

function intervalText(arm) {
  const [value, low, high] = [arm.value, arm.low, arm.high].map(toNumber);
  return Number.isNaN(low) || Number.isNaN(high) ? show(value) : `${show(value)} [${show(low)}, ${show(high)}]`;
}

const comparedIn = (metric) => metric.protocols.filter((protocol) => !protocol.skipped);

function threeWayTable() {
  const metric = threeWayMetric();
  const rows = comparedIn(metric).flatMap((protocol) =>
    protocol.arms.map((arm) => [
      `${protocol.title}: ${arm.label}`,
      arm.detail ?? "",
      ...[arm.value, arm.low, arm.high].map((number) => show(toNumber(number))),
      String(arm.values.length),
    ]),
  );
  return tableOf(withUnit(metric.title, metric.unit), ["Protocol: optimizer", "With", "Estimate", "Low", "High", "Seeds"], rows);
}

function threeWayWords(metric, labels, own) {
  const arms = comparedIn(metric).flatMap((protocol) => protocol.arms);
  const infinite = arms.some((arm) => [arm.value, ...arm.values].some((value) => Math.abs(toNumber(value)) === Infinity));
  const count = new Set(arms.map((arm) => arm.label)).size;
  say(
    "three-way-caption",
    `Each large mark is the ${metric.name === "failed" ? "proportion" : "median"}, with its value at the right; the bar is its ${report.three_way.bar}, and each dot a seed. ${metric.less_is_better ? "Less" : "More"} is better.` +
      (infinite ? ` A mark at the edge is a run or a median that has no number: ${metric.infinite ?? "infinite"}.` : ""),
    own ? "Each panel has its own scale, since their ranges are far apart." : "The panels share one scale, so that a small difference looks small.",
    labels.length < count ? `Of ${count} optimizers, the first and the ${labels.length - 1} with the best medians in the last protocol are drawn. The numbers below are of all.` : "",
    ...metric.protocols.filter((protocol) => protocol.skipped).map((protocol) => `${capital(protocol.title)}: not compared: ${protocol.skipped}`),
    report.three_way.note,
  );
  const details = byId("three-way-numbers");
  details.querySelector(".scroll")?.remove();
  if (details.open) details.fill();
}

function startThreeWay() {
  const select = byId("three-way-metric");
  const metrics = report.three_way.metrics;
  fillSelect(select, metrics.map((_, i) => String(i)), metrics.map((metric) => capital(withUnit(metric.title, metric.unit))));
  select.addEventListener("change", drawThreeWay);
  BESIDE.addEventListener("change", drawThreeWay);
  whenOpened(byId("three-way-numbers"), threeWayTable);
  return keepDrawn(drawThreeWay);
}
