"use strict";

// The workbench: momentum on ½(μx² + Ly²), with rates in closed form and paths by the recurrence, in double precision.

const MU = 1;
// Both errors begin as 1: along x, where the valley is flat, and along y, where it is steep.
const START = 1;
// Half the width of the picture: the first of these that holds all converging paths.
const WINDOWS = [1.25, 2.5, 5, 12.5];
const MAP = { low: -4, high: 1, columns: 151, rows: 101 };

// Formulas, with a = αλ for a curvature λ

const square = (x) => x * x;

// The larger modulus of the roots of r² − trace·r + determinant.
function spectralRadius(trace, determinant, discriminant) {
  return discriminant <= 0 ? Math.sqrt(Math.max(determinant, 0)) : (Math.abs(trace) + Math.sqrt(discriminant)) / 2;
}

// The discriminants (1 + β − a)² − 4β and (1 + β)²q² − 4βq, written so that near zero no digits cancel.
const heavyBallRate = (a, beta) => spectralRadius(1 + beta - a, beta, square(1 - beta) - a * (2 * (1 + beta) - a));

function nesterovRate(a, beta) {
  const q = 1 - a;
  return spectralRadius((1 + beta) * q, beta * q, q * (square(1 - beta) - square(1 + beta) * a));
}

// `style` is the index in the list of styles. `limit` is the a at which a method stops converging. `best` gives its best
// α and β for the curvatures 1 to κ. `critical` gives the β with the best rate at one a, which exists up to `criticalUpTo`.
const METHODS = {
  gradient_descent: {
    title: "gradient descent",
    style: 0,
    rate: (a) => Math.abs(1 - a),
    limit: () => 2,
    step: (w, v, beta, descent) => [w - descent, 0],
    best: (kappa) => ({ alpha: 2 / (kappa + MU), beta: 0 }),
  },
  heavy_ball: {
    title: "heavy ball",
    style: 1,
    rate: heavyBallRate,
    limit: (beta) => 2 * (1 + beta),
    step(w, v, beta, descent) {
      const next = beta * v - descent;
      return [w + next, next];
    },
    best(kappa) {
      const root = Math.sqrt(kappa);
      return { alpha: square(2 / (root + Math.sqrt(MU))), beta: square((root - 1) / (root + 1)) };
    },
    critical: (a) => square(1 - Math.sqrt(a)),
    criticalUpTo: 4,
  },
  nesterov: {
    title: "Nesterov",
    style: 2,
    rate: nesterovRate,
    limit: (beta) => (2 + 2 * beta) / (1 + 2 * beta),
    step(w, v, beta, descent) {
      const next = beta * v - descent;
      return [w + beta * next - descent, next];
    },
    best(kappa) {
      const root = Math.sqrt(3 * kappa + 1);
      return { alpha: 4 / (3 * kappa + MU), beta: (root - 2) / (root + 2) };
    },
    critical: (a) => (1 - Math.sqrt(a)) / (1 + Math.sqrt(a)),
    criticalUpTo: 1,
  },
};

const setting = { alpha: 0.02, beta: 0.7, kappa: 25, steps: 40 };

// The iterates along one direction, including the start.
function descend(method, curvature) {
  const { alpha, beta, steps } = setting;
  let [w, v] = [START, 0];
  const path = [w];
  for (let k = 0; k < steps; k++) {
    [w, v] = method.step(w, v, beta, alpha * (curvature * w));
    path.push(w);
  }
  return path;
}

function examine(method) {
  const { alpha, beta, kappa } = setting;
  const rates = { rate_mu: method.rate(alpha * MU, beta), rate_L: method.rate(alpha * kappa, beta) };
  const rate = Math.max(rates.rate_mu, rates.rate_L);
  const [x, y] = [descend(method, MU), descend(method, kappa)];
  const distance = Math.hypot(x.at(-1), y.at(-1));
  return {
    x,
    y,
    ...rates,
    rate,
    stable: alpha * kappa < method.limit(beta),
    iterations: rate < 1 ? Math.log(1000) / -Math.log(rate) : Infinity,
    // A path that overflows ends in ∞ − ∞ = NaN; its distance is infinite.
    distance: Number.isNaN(distance) ? Infinity : distance,
  };
}

// The picture of the paths

function windowOf(paths) {
  const reach = Math.max(...paths.flat().map(Math.abs), 1);
  return WINDOWS.find((half) => half >= 1.02 * reach) ?? WINDOWS.at(-1);
}

// The points of a path up to where it leaves the window, the last one on the edge; and whether it leaves.
function cut(x, y, [halfX, halfY]) {
  const outside = x.findIndex((_, i) => !(Math.abs(x[i]) <= halfX && Math.abs(y[i]) <= halfY));
  if (outside < 1) return { x, y, left: false };
  const [x0, y0] = [x[outside - 1], y[outside - 1]];
  const fraction = Math.min(fractionToEdge(x0, x[outside], halfX), fractionToEdge(y0, y[outside], halfY));
  const at = (from, to) => (fraction > 0 ? from + fraction * (to - from) : from);
  return { x: [...x.slice(0, outside), at(x0, x[outside])], y: [...y.slice(0, outside), at(y0, y[outside])], left: true };
}

// The fraction of the step from one value to the next that lies within ±half.
const fractionToEdge = (from, to, half) => (Math.abs(to) <= half ? 1 : (Math.sign(to) * half - from) / (to - from));

// Contours around the minimum; from each to the next the loss halves.
function contours(kappa, [halfX, halfY]) {
  const [x, y] = [[], []];
  const largest = Math.hypot(halfX, Math.sqrt(kappa) * halfY);
  for (let line = 1; line <= 18; line++) {
    const radius = largest * Math.SQRT1_2 ** line;
    for (let part = 0; part <= 72; part++) {
      const angle = (part * Math.PI) / 36;
      x.push(radius * Math.cos(angle));
      y.push((radius / Math.sqrt(kappa)) * Math.sin(angle));
    }
    x.push(null);
    y.push(null);
  }
  return { meta: "contours", mode: "lines", x, y, line: { color: colour("edge"), width: 0.7 }, opacity: 0.75, hoverinfo: "skip" };
}

function pathTraces(name, { x, y, stable }, window, off) {
  const { title, style: index } = METHODS[name];
  const style = styleOf(index);
  const path = stable ? { x, y, left: false } : cut(x, y, window);
  const hover = path.x.map((_, k) => (path.left && k === path.x.length - 1 ? `${title} leaves the picture: it diverges` : `${title}, step ${k}: (${show(x[k])}, ${show(y[k])})`));
  const line = {
    name: title,
    meta: name,
    visible: !off,
    mode: "lines+markers",
    x: path.x,
    y: path.y,
    line: { color: style.color, dash: style.dash, width: 1.8 },
    marker: { color: style.color, symbol: style.symbol, size: path.x.map((_, k) => (k ? 6 : 0)) },
    hovertext: hover,
    hoverinfo: "text",
  };
  const exit = {
    name: title,
    meta: `${name} leaves`,
    visible: !off && path.left,
    mode: "markers",
    x: path.x.slice(-1),
    y: path.y.slice(-1),
    marker: { color: style.color, symbol: "x-thin", size: 13, line: { color: style.color, width: 3 } },
    hovertext: hover.slice(-1),
    hoverinfo: "text",
    cliponaxis: false,
  };
  return [line, exit];
}

function drawPaths(examined, off) {
  const converging = Object.values(examined).filter((result) => result.stable);
  const window = [windowOf(converging.map((result) => result.x)), windowOf(converging.map((result) => result.y))];
  const ends = (kind, symbol, x, y) => ({
    meta: kind,
    mode: "markers",
    x: [x],
    y: [y],
    marker: { symbol, size: 13, color: colour("text"), line: { color: colour("ground"), width: 1 } },
    hovertext: [kind],
    hoverinfo: "text",
  });
  const traces = [
    contours(setting.kappa, window),
    ...Object.entries(examined).flatMap(([name, result]) => pathTraces(name, result, window, off.has(METHODS[name].title))),
    ends("start", "circle-open-dot", START, START),
    ends("minimum", "star", 0, 0),
  ];
  const cutOff = Object.keys(examined).filter((name) => traces.some((trace) => trace.meta === `${name} leaves` && trace.visible));
  const diverging = Object.keys(examined).filter((name) => !examined[name].stable);
  say(
    "wb-path-caption",
    `Paths of ${many(setting.steps, "step")} from the ring at (1, 1) to the star, the minimum. From line to line of the contours the loss halves.`,
    diverging.length ? `Not converging at this setting: ${diverging.map((name) => METHODS[name].title).join(", ")}.${cutOff.length ? " A cross marks where a diverging path leaves the picture; the rest of it is cut off." : ""}` : "",
  );
  return plot("wb-path", "Paths of the three methods over the contours of the quadratic", traces, {
    height: NARROW.matches ? 330 : 420,
    margin: { l: 50, r: 14, t: 10, b: 44 },
    xaxis: axis("x (curvature μ = 1)", { range: [-window[0], window[0]], showgrid: false }),
    yaxis: axis(`y (curvature L = ${show(setting.kappa)})`, { range: [-window[1], window[1]], showgrid: false }),
    hovermode: "closest",
  });
}

// The map of rates over a = αλ and β

// `a` holds logarithms to base 10.
const mapAxes = {
  a: Array.from({ length: MAP.columns }, (_, i) => MAP.low + (i * (MAP.high - MAP.low)) / (MAP.columns - 1)),
  beta: Array.from({ length: MAP.rows }, (_, i) => (0.999 * i) / (MAP.rows - 1)),
  aTicks: { tickvals: [-4, -3, -2, -1, 0, 1], ticktext: ["0.0001", "0.001", "0.01", "0.1", "1", "10"] },
  betaTicks: { tickvals: [0, 0.2, 0.4, 0.6, 0.8, 1] },
};

// Kept, since plotly redraws a map unless it is given the very same lists again.
const maps = {};

function mapTraces(name) {
  maps[name] ??= makeMap(METHODS[name]);
  return maps[name];
}

function makeMap(method) {
  const { a, beta } = mapAxes;
  const values = a.map((at) => 10 ** at);
  const z = beta.map((b) => values.map((at) => (at < method.limit(b) ? method.rate(at, b) : null)));
  const critical = values.filter((at) => at <= method.criticalUpTo);
  const line = (meta, x, y, dash) => [
    { meta: `${meta} below`, mode: "lines", x, y, line: { color: "#000000", width: 4.5 }, hoverinfo: "skip" },
    { meta, mode: "lines", x, y, line: { color: "#ffffff", width: 2, dash }, hoverinfo: "skip" },
  ];
  return [
    {
      type: "heatmap",
      x: a,
      y: beta,
      z,
      zmin: 0,
      zmax: 1,
      colorscale: "Viridis",
      colorbar: { ...colourBar(), title: { text: "rate ρ: the darker, the faster", side: "top" } },
      text: Array(beta.length).fill(values.map((at) => show(at, 3))),
      hovertemplate: "a %{text}, β %{y:.3f}: rate %{z:.4f}<extra></extra>",
      hoverongaps: false,
    },
    ...line("critical damping", critical.map(Math.log10), critical.map(method.critical), "dash"),
    ...line("boundary", beta.map((b) => Math.log10(method.limit(b))), beta, "solid"),
  ];
}

// The setting's two points on the map. They are shapes, since a trace that moves would redraw the map.
function mapPoints(inside, beyond) {
  const { beta } = setting;
  const [white, black] = [{ color: "#ffffff", width: 1.5 }, { color: "#000000", width: 2 }];
  const mark = (name, a, shape) => ({ name, xsizemode: "pixel", ysizemode: "pixel", xanchor: a, yanchor: beta, fillcolor: "#ffffff", line: black, ...shape });
  return {
    shapes: [
      { type: "line", x0: inside[0], x1: inside[1], y0: beta, y1: beta, line: { ...white, dash: "dot" } },
      mark("αμ", inside[0], { type: "circle", x0: -7, x1: 7, y0: -7, y1: 7 }),
      beyond
        ? mark("αL", inside[1], { type: "path", path: "M-7,-8L7,0L-7,8Z" })
        : mark("αL", inside[1], { type: "rect", x0: -6, x1: 6, y0: -6, y1: 6 }),
    ],
    annotations: ["αμ", "αL"].map((text, i) => ({
      text,
      x: inside[i],
      y: beta,
      yshift: i ? 17 : -17,
      showarrow: false,
      font: { color: "#ffffff", size: 14, shadow: SHADOW },
    })),
  };
}

function drawMap() {
  const name = byId("wb-method").value;
  const method = METHODS[name];
  const { alpha, beta, kappa } = setting;
  const ends = [alpha * MU, alpha * kappa];
  const inside = ends.map((a) => Math.min(Math.max(Math.log10(a), MAP.low), MAP.high));
  const beyond = ends[1] > 10 ** MAP.high;
  say(
    "wb-map-caption",
    `Rate of ${method.title} by a = αλ and β. The solid line is the edge of stability: at β = ${show(beta)} it converges for a below ${show(method.limit(beta))}. Grey is unstable. On the dashed line damping is critical.`,
    `Yours: αμ = ${show(ends[0])} (circle), αL = ${show(ends[1])} (${beyond ? "triangle: beyond the right edge" : "square"}).`,
  );
  return plot("wb-map", `Convergence rate of ${method.title} over αλ and β`, mapTraces(name), {
    height: NARROW.matches ? 360 : 440,
    margin: { l: 50, r: 14, t: 64, b: 44 },
    plot_bgcolor: colour("unstable"),
    xaxis: axis("a = αλ, logarithmic", { range: [MAP.low, MAP.high], ...mapAxes.aTicks, showgrid: false }),
    yaxis: axis("Momentum β", { range: [-0.03, 1.03], ...mapAxes.betaTicks, showgrid: false }),
    hovermode: "closest",
    ...mapPoints(inside, beyond),
  });
}

// The numbers

const NUMBERS = {
  rate: ["Worst rate", (value) => show(value, 5)],
  rate_mu: ["Rate at μ", (value) => show(value, 5)],
  rate_L: ["Rate at L", (value) => show(value, 5)],
  stable: ["Converges", (value) => (value ? "yes" : "no")],
  iterations: ["Iterations for a factor 1000", (value) => (value === Infinity ? "never" : String(Math.max(1, Math.ceil(value - 1e-9))))],
  distance: ["Distance after the steps", (value) => show(value)],
};

function makeNumbers() {
  const methods = Object.entries(METHODS);
  // Screen readers hear one sentence about a change (wb-status) and not each output.
  const output = (name, column) => make("td", { class: "number" }, make("output", { id: `wb-${name}-${column}`, "aria-live": "off" }));
  byId("wb-numbers").append(
    make("thead", {}, make("tr", {}, make("td"), ...methods.map(([, method]) => make("th", { scope: "col", class: "number" }, method.title)))),
    make(
      "tbody",
      {},
      ...Object.entries(NUMBERS).map(([column, [title]]) => make("tr", {}, make("th", { scope: "row" }, title), ...methods.map(([name]) => output(name, column)))),
    ),
  );
}

function writeNumbers(examined) {
  for (const [name, result] of Object.entries(examined)) {
    for (const [column, [, write]] of Object.entries(NUMBERS)) {
      const output = byId(`wb-${name}-${column}`);
      output.textContent = write(result[column]);
      output.dataset.value = String(result[column]);
    }
  }
}

function sentence(examined) {
  const { alpha, beta, kappa, steps } = setting;
  const parts = Object.entries(examined).map(([name, result]) => {
    const title = METHODS[name].title;
    return result.stable ? `${title}: worst rate ${show(result.rate)}, distance ${show(result.distance)}` : `${title} does not converge`;
  });
  return `Learning rate ${show(alpha)}, momentum ${show(beta)}, condition number ${show(kappa)}, ${many(steps, "step")}. ${parts.join("; ")}.`;
}

// The controls: a slider, and a field for the exact number

const CONTROLS = {
  alpha: { name: "Learning rate α", low: 1e-4, high: 10, toSlider: Math.log10, fromSlider: (position) => Number((10 ** position).toPrecision(3)) },
  beta: { name: "Momentum β", low: 0, high: 0.999, toSlider: (value) => value, fromSlider: (position) => position },
  kappa: { name: "Condition number κ", low: 1, high: 1000, toSlider: Math.log10, fromSlider: (position) => Number((10 ** position).toPrecision(3)) },
  steps: { name: "Steps", low: 1, high: 500, toSlider: (value) => value, fromSlider: (position) => position, whole: true },
};

function startWorkbench() {
  makeNumbers();
  let spoken = null;
  let asked = false;
  const off = legend("wb-legend", Object.values(METHODS).map((method) => method.title), () => update(), (title) => styleOf(Object.values(METHODS).find((method) => method.title === title).style));

  function update() {
    const examined = Object.fromEntries(Object.entries(METHODS).map(([name, method]) => [name, examine(method)]));
    writeNumbers(examined);
    return Promise.all([drawPaths(examined, off), drawMap()]).then(() => examined);
  }

  // Redraws at most once per frame, and announces the result when the slider rests.
  function change(values) {
    Object.assign(setting, values);
    byId("wb-problem").textContent = "";
    for (const [key, control] of Object.entries(CONTROLS)) {
      const [slider, field] = [byId(`wb-${key}-slider`), byId(`wb-${key}`)];
      if (document.activeElement !== slider) slider.value = control.toSlider(setting[key]);
      slider.setAttribute("aria-valuetext", show(setting[key]));
      if (document.activeElement !== field) field.value = String(setting[key]);
      field.removeAttribute("aria-invalid");
    }
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      update().then((examined) => {
        clearTimeout(spoken);
        spoken = setTimeout(() => (byId("wb-status").textContent = sentence(examined)), 500);
      });
    });
  }

  for (const [key, control] of Object.entries(CONTROLS)) {
    const [slider, field] = [byId(`wb-${key}-slider`), byId(`wb-${key}`)];
    slider.addEventListener("input", () => change({ [key]: Math.min(Math.max(control.fromSlider(Number(slider.value)), control.low), control.high) }));
    field.addEventListener("input", () => {
      const value = field.value === "" ? NaN : Number(field.value);
      if (value >= control.low && value <= control.high && (!control.whole || Number.isInteger(value))) {
        change({ [key]: value });
        return;
      }
      field.setAttribute("aria-invalid", "true");
      byId("wb-problem").textContent = `${control.name} must be ${control.whole ? "a whole number" : "a number"} from ${control.low} to ${control.high}; the picture is still that of ${setting[key]}.`;
    });
  }
  for (const [name, method] of Object.entries(METHODS)) byId(`wb-best-${name}`).addEventListener("click", () => change(method.best(setting.kappa)));
  byId("wb-critical").addEventListener("click", () => {
    const method = METHODS[byId("wb-method").value];
    const a = setting.alpha * MU;
    if (a <= method.criticalUpTo) change({ beta: Math.min(method.critical(a), CONTROLS.beta.high) });
    else byId("wb-problem").textContent = `${method.title} has no critical damping at αμ = ${show(a)}: it needs αμ of at most ${method.criticalUpTo}.`;
  });
  byId("wb-method").addEventListener("change", drawMap);
  change({});
  return keepDrawn(update);
}
