"use strict";

// Shared by the figures: ranges, scales, ticks and units of their axes.

// The least and greatest finite value, or null if there is none.
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

const withUnit = (title, unit) => (unit ? `${title} (${unit})` : title);

// The title of an axis of losses, on a narrow page in two lines.
const lossAxisTitle = (title, logarithmic) => title + (logarithmic ? `,${NARROW.matches ? "\n" : " "}logarithmic` : "");

const undoLog = (value, logarithmic) => (logarithmic ? 10 ** value : value);

// The range of an axis around its values. The margin at the upper end is where infinite values are drawn.
function axisRange([low, high], logarithmic, margin) {
  const [from, to] = logarithmic ? [Math.log10(low), Math.log10(high)] : [low, high];
  const length = to - from || Math.abs(to) || 1;
  return [from - 0.04 * length, to + margin * length];
}

// Ticks at 1, 2 and 5 in each decade, and at more in a narrow range.
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

// About five round numbers in a range.
function evenTicks([low, high]) {
  if (low === high) return [low];
  const rough = (high - low) / 5;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * [1, 2, 5, 10].find((digit) => digit * unit >= rough);
  const first = Math.ceil(low / step - 1e-9);
  return indices([...Array(Math.floor(high / step + 1e-9) - first + 1)]).map((i) => Number(((first + i) * step).toPrecision(12)));
}

// At most so many of the ticks of a logarithmic axis, of more the powers of ten.
function fewTicks(ticks, most) {
  const powers = ticks.filter((tick) => Number.isInteger(Math.log10(tick)));
  const left = ticks.length > most && powers.length > 1 ? powers : ticks;
  return left.filter((_, i) => i % Math.ceil(left.length / most) === 0);
}

// A logarithmic axis over some values, with ticks also where they span less than a decade.
function logAxis(values) {
  const ticks = fewTicks(logTicks(extent(values.filter((value) => value > 0)) ?? [1, 10]), NARROW.matches || printing ? 6 : 14);
  return { type: "log", tickvals: ticks, ticktext: ticks.map((tick) => show(tick)) };
}

// A colour bar along the top of a figure.
const colourBar = () => ({ orientation: "h", yref: "container", y: 1, yanchor: "top", ypad: 0, xpad: 0, thickness: 12, len: 1, outlinewidth: 0 });

const indices = (list) => list.map((_, i) => i);
