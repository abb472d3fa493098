"use strict";

// Protocols compared: each arm is a dot with an interval, below its name.

const threeWayMetric = () => report.three_way.metrics[Number(byId("three-way-metric").value)];

// The range and the scale of the values of a metric, and where on the axis a value is drawn.
function threeWayScale(metric) {
  const arms = metric.protocols.flatMap((protocol) => protocol.arms ?? []);
  const values = arms.flatMap((arm) => [arm.value, arm.low, arm.high, ...arm.values]).map(toNumber);
  const finite = extent(values);
  const logarithmic = wide(finite, 30);
  const hasInfinite = values.includes(Infinity);
  const range = axisRange(finite ?? [0, 1], logarithmic, hasInfinite ? 0.12 : 0.04);
  const infinite = undoLog(range[1] - 0.03 * (range[1] - range[0]), logarithmic);
  return { range, logarithmic, hasInfinite, position: (value) => (value === Infinity ? infinite : value) };
}

function drawThreeWay() {
  const metric = threeWayMetric();
  const scale = threeWayScale(metric);
  const narrow = NARROW.matches;
  const traces = [];
  const annotations = [];
  const shapes = [];
  let row = 0;
  const write = (text, more = {}) =>
    annotations.push({ text, x: 0, xref: "paper", xanchor: "left", y: row, yref: "y", yanchor: "middle", showarrow: false, align: "left", ...more });
  for (const protocol of metric.protocols) {
    write(`<b>${plain(shortened(protocol.title, narrow ? 42 : 110))}</b>`, { font: { size: 14 } });
    row += 0.7;
    if (protocol.skipped) {
      write(plain(shortened(`Not compared: ${protocol.skipped}`, narrow ? 48 : 120)), { font: { color: colour("muted") } });
      row += 1.2;
      continue;
    }
    for (const arm of protocol.arms) {
      const name = plain(shortened(arm.label, narrow ? 20 : 40));
      const detail = narrow || !arm.detail ? "" : ` <span style="color:${colour("muted")}">${plain(shortened(arm.detail, 70))}</span>`;
      write(name + detail);
      write(intervalText(arm), { x: 1, xanchor: "right", align: "right" });
      traces.push(...armTraces(protocol, arm, row + 0.5, scale.position));
      shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: row + 0.9, y1: row + 0.9, line: { color: colour("line"), width: 1 } });
      row += 1.15;
    }
    row += 0.35;
  }
  threeWayWords(metric, scale.hasInfinite);
  return plot("three-way-plot", `${metric.title}, by protocol and optimizer`, traces, {
    height: Math.max(160, 52 * row + 70),
    margin: { l: 8, r: 8, t: 6, b: 48 },
    xaxis: axis(withUnit(metric.title, metric.unit) + (scale.logarithmic ? ", logarithmic" : ""), { type: scale.logarithmic ? "log" : "linear", range: scale.range }),
    yaxis: { range: [row - 0.2, -0.5], visible: false, fixedrange: true },
    annotations,
    shapes,
    hovermode: "closest",
  });
}

// An arm at the height y: a dot for each seed, and the estimate with its interval.
function armTraces(protocol, arm, y, position) {
  const style = styleOf(indexOf(arm.label));
  const [value, low, high] = [arm.value, arm.low, arm.high].map(toNumber);
  const seeds = arm.values.map(toNumber).filter((number) => !Number.isNaN(number));
  const about = plain(`${arm.label}, ${protocol.title}${arm.detail ? `, ${arm.detail}` : ""}`);
  return [
    {
      name: plain(arm.label),
      meta: "seeds",
      mode: "markers",
      x: seeds.map(position),
      y: seeds.map((_, i) => y + 0.26 * (((i * 0.618) % 1) - 0.5)),
      marker: { color: style.color, size: 5, opacity: 0.45, symbol: "circle" },
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
        size: [low, value, high].map((number, i) => (i === 1 ? 11 : Number.isFinite(number) ? 14 : 0)),
        symbol: ["line-ns", value === Infinity ? "triangle-right" : style.symbol, "line-ns"],
        line: { color: [style.color, colour("ground"), style.color], width: [2.5, 1, 2.5] },
      },
      hovertext: ["", "", ""].map(() => `${about}<br>${intervalText(arm)}`),
      hoverinfo: "text",
    },
  ];
}

function intervalText(arm) {
  const [value, low, high] = [arm.value, arm.low, arm.high].map(toNumber);
  return Number.isNaN(low) || Number.isNaN(high) ? show(value) : `${show(value)} [${show(low)}, ${show(high)}]`;
}

function threeWayWords(metric, infinite) {
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
    `The large mark is the median (of failed runs: their proportion), the bar its ${report.three_way.bar}, and each small dot a seed. ${metric.less_is_better ? "Less" : "More"} is better.` +
      (infinite ? " A mark at the right edge is infinite: failed, or never reached." : ""),
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
