"use strict";

// Shared by all parts of the page: the document, numbers and text, elements, the theme, figures and their legends.

const byId = (id) => document.getElementById(id);
const report = JSON.parse(byId("document").textContent);
const STYLES = JSON.parse(byId("styles").textContent);
// Below this width the page has one column.
const NARROW = matchMedia("(max-width: 40rem)");
const DARK = matchMedia("(prefers-color-scheme: dark)");

// Numbers and text

// Reads a number of the document, where null is missing (NaN) and infinities are strings.
function toNumber(value) {
  if (value === null || value === undefined) return NaN;
  return value === "inf" ? Infinity : value === "-inf" ? -Infinity : Number(value);
}

function show(value, digits = 4) {
  if (typeof value !== "number" || Number.isNaN(value)) return "missing";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  const short = Number(value.toPrecision(digits));
  const text = size !== 0 && (size < 1e-4 || size >= 1e6) ? short.toExponential() : String(short);
  return text.replace("e+", "e").replaceAll("-", "−");
}

// Escapes a text for plotly, which interprets tags, entities and %{templates}.
const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll("%{", "%&#123;");

const shortened = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);

// A label or value as it is shown: a long one is shortened, and `whole` gives the rest on hover.
const short = (text) => shortened(String(text), 40);
const whole = (text) => (String(text).length > 40 ? { title: String(text).slice(0, 1000) } : {});

// The first of many texts in a sentence, and how many are left out.
function listed(texts, most = 4) {
  return texts.slice(0, most).join("; ") + (texts.length > most ? `; and ${texts.length - most} more` : "");
}

const capital = (text) => text.slice(0, 1).toUpperCase() + text.slice(1);

const many = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

// Makes an element. A child that is a string becomes text, never markup.
function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// Fills a <details> when it is first opened or printed, since a page of many trials has large tables.
function whenOpened(details, fill) {
  details.fill = () => details.children.length === 1 && details.append(fill());
  details.addEventListener("toggle", () => details.open && details.fill());
}

const present = (list) => Array.isArray(list) && list.length > 0;

// Makes a table of texts, whose first column names the row.
function tableOf(caption, header, rows) {
  const entry = (text, column) =>
    column ? make("td", { class: "number", ...whole(text) }, short(text)) : make("th", { scope: "row", ...whole(text) }, shortened(text, 60));
  return make(
    "div",
    { class: "scroll tall", role: "region", "aria-label": caption, tabindex: "0" },
    make(
      "table",
      {},
      make("caption", {}, caption),
      make("thead", {}, make("tr", {}, ...header.map((text, i) => make("th", { scope: "col", ...(i && { class: "number" }) }, text)))),
      make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map(entry)))),
    ),
  );
}

function fillSelect(select, names, titles) {
  select.replaceChildren(...names.map((name, i) => make("option", { value: name, ...whole(titles[i]) }, short(titles[i]))));
}

// Of more optimizers than so many a field chooses the one that is shown; of fewer it is hidden.
function chooseOne(id, parts, most, redraw) {
  const select = byId(id);
  byId(`${id}-field`).hidden = parts.length <= most;
  fillSelect(select, indices(parts).map(String), parts.map(({ label }) => label));
  select.addEventListener("change", () => redraw(parts[Number(select.value)]));
}

// The style of an optimizer, by its index in the document's order. Further rounds through the colours get other dashes.
function styleOf(index) {
  const style = STYLES[index % STYLES.length];
  const round = Math.floor(index / STYLES.length);
  return { color: isDark() ? style.dark : style.light, symbol: style.symbol, dash: round ? ["dot", "dashdot"][(round - 1) % 2] : style.dash };
}

const order = new Map((report.optimizers ?? []).map((label, i) => [label, i]));

function indexOf(label) {
  if (!order.has(label)) order.set(label, order.size);
  return order.get(label);
}

// The theme

let chosenTheme = null;
let printing = false;
const redraws = [];

function isDark() {
  return !printing && (chosenTheme ? chosenTheme === "dark" : DARK.matches);
}

// The colour of a style sheet variable in the current theme.
function colour(name) {
  const probe = make("span", { hidden: "" });
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

const faint = (color, alpha) => color.replace(/^#(..)(..)(..)$/, (_, ...hex) => `rgba(${hex.slice(0, 3).map((h) => parseInt(h, 16))},${alpha})`);

// The same for a computed colour, rgb(…).
const faded = (color, alpha) => color.replace(/^rgb\((.*)\)$/, `rgba($1,${alpha})`);

// Draws now, and again when the theme, the width or printing changes.
function keepDrawn(draw) {
  redraws.push(draw);
  return draw();
}

const redrawAll = () => Promise.all(redraws.map((draw) => draw()));

function applyTheme() {
  document.documentElement.style.colorScheme = chosenTheme ?? "";
  byId("theme").textContent = isDark() ? "Light theme" : "Dark theme";
}

function startTheme() {
  try {
    chosenTheme = sessionStorage.getItem("momentum-jax-theme");
  } catch {
    // Some browsers give file: pages no storage. The choice then lasts as long as the page.
  }
  applyTheme();
  byId("theme").addEventListener("click", () => {
    chosenTheme = isDark() ? "light" : "dark";
    try {
      sessionStorage.setItem("momentum-jax-theme", chosenTheme);
    } catch {
      // As above.
    }
    applyTheme();
    redrawAll();
  });
  DARK.addEventListener("change", () => {
    applyTheme();
    redrawAll();
  });
  NARROW.addEventListener("change", redrawAll);
  for (const [event, value] of [["beforeprint", true], ["afterprint", false]]) {
    addEventListener(event, () => {
      printing = value;
      document.body.classList.toggle("printing", value);
      redrawAll();
    });
  }
}

// Figures

const CONFIG = {
  displaylogo: false,
  displayModeBar: false,
  responsive: true,
  showTips: false,
  // A dollar sign in a label must not start a formula.
  typesetMath: false,
};

function axis(title, more = {}) {
  return {
    title: { text: plain(title).replaceAll("\n", "<br>"), standoff: 8 },
    automargin: true,
    gridcolor: colour("line"),
    linecolor: colour("edge"),
    tickcolor: colour("edge"),
    ticks: "outside",
    zeroline: false,
    ...more,
  };
}

// A word in a figure on what its marks at an edge mean. `at` places it, in fractions of the figure unless it says otherwise.
const edgeWord = (text, at) => ({
  text: plain(text),
  showarrow: false,
  xref: "paper",
  yref: "paper",
  font: { size: 12, color: colour("muted") },
  bgcolor: colour("ground"),
  borderpad: 1,
  ...at,
});

// Draws a figure. Screen readers get its name and its caption; the table below it has the numbers.
function plot(id, name, traces, layout) {
  const target = byId(id);
  const caption = byId(id.replace(/plot$/, "caption")) ?? byId(`${id}-caption`);
  target.setAttribute("role", "img");
  target.setAttribute("aria-label", name);
  if (caption) target.setAttribute("aria-describedby", caption.id);
  return Plotly.react(
    target,
    traces,
    {
      autosize: true,
      showlegend: false,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: colour("text") },
      margin: { l: 50, r: 12, t: 12, b: 44 },
      hoverlabel: { bgcolor: colour("raised"), bordercolor: colour("edge"), font: { color: colour("text") }, align: "left", namelength: -1 },
      // On a touch screen, dragging over a figure must scroll the page.
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
      ...layout,
    },
    CONFIG,
  );
}

function say(id, ...paragraphs) {
  byId(id).replaceChildren(...paragraphs.filter(Boolean).map((text) => make("p", {}, text)));
}

// Legends: a checkbox for each label, with a swatch of its line

const SWATCHES = {
  circle: "M20 4a4 4 0 1 0 .01 0z",
  square: "M16 4h8v8h-8z",
  "triangle-up": "M20 3l5 9h-10z",
  "triangle-down": "M20 13l5-9h-10z",
  diamond: "M20 3l5 5-5 5-5-5z",
  cross: "M18.5 3.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
  x: "M17 3l3 3 3-3 2 2-3 3 3 3-2 2-3-3-3 3-2-2 3-3-3-3z",
};
const SWATCH_DASHES = { solid: "", dash: "6 4", dot: "2 3", dashdot: "6 3 2 3" };

function swatch({ color, symbol, dash }) {
  const drawn = (tag, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };
  const picture = drawn("svg", { width: 40, height: 16, "aria-hidden": "true" });
  picture.append(
    drawn("path", { d: "M1 8h38", stroke: color, "stroke-width": 2, "stroke-dasharray": SWATCH_DASHES[dash] }),
    drawn("path", { d: SWATCHES[symbol], fill: color, stroke: "none" }),
  );
  return picture;
}

// More lines than these are not told apart. The others are switched off at first.
const SHOWN_AT_FIRST = 12;

// Fills a fieldset with a checkbox per label. Returns the set of labels that are switched off, which stays up to date.
function legend(id, labels, redraw, style = (label) => styleOf(indexOf(label))) {
  const off = new Set(labels.slice(SHOWN_AT_FIRST));
  if (off.size) byId(id).firstElementChild.append(`, at first ${SHOWN_AT_FIRST} of ${labels.length}`);
  const swatches = labels.map((label) => {
    const box = make("input", { type: "checkbox" });
    box.checked = !off.has(label);
    box.addEventListener("change", () => {
      if (box.checked) off.delete(label);
      else off.add(label);
      redraw();
    });
    const holder = make("span");
    byId(id).append(make("label", { class: "choice", ...whole(label) }, box, holder, short(label)));
    return () => holder.replaceChildren(swatch(style(label)));
  });
  keepDrawn(() => swatches.forEach((colourIn) => colourIn()));
  return off;
}
