"use strict";

// The matrix of verdicts: metrics by protocols, for one pair of optimizers or for all that are held against one.

const OUTCOMES = {
  better: { tone: "better" },
  worse: { tone: "worse" },
  equivalent: { symbol: "=", tone: "" },
  "no difference found": { symbol: "○", tone: "" },
  "no verdict": { symbol: "–", tone: "" },
};
const MIRRORED = { better: "worse", worse: "better" };

// The verdicts on a held against b, by metric; of a pair that the document has the other way round, mirrored.
function cellsOf(a, b) {
  const { pairs } = report.matrix;
  const there = pairs.find((pair) => pair.a === a && pair.b === b);
  if (there) return there.cells;
  const back = pairs.find((pair) => pair.a === b && pair.b === a);
  return back?.cells.map((row) => row.map((cell) => cell && { ...cell, outcome: MIRRORED[cell.outcome] ?? cell.outcome, size: cell.mirrored, difference: -toNumber(cell.difference) }));
}

function arrow({ outcome, difference }) {
  return OUTCOMES[outcome]?.symbol ?? (toNumber(difference) < 0 ? "↓" : "↑");
}

function matrixCell(cell) {
  if (!cell) return make("td", {}, make("span", { class: "none" }, "–"));
  const text = cell.outcome === "no verdict" ? "" : cell.size;
  const button = make(
    "button",
    { type: "button", class: `verdict ${OUTCOMES[cell.outcome]?.tone ?? ""}`, "aria-label": `${text} ${cell.outcome}: ${cell.sentence}`.trim() },
    make("span", { class: "size" }, symbol(arrow(cell)), text),
    make("span", { class: "outcome" }, cell.outcome),
  );
  for (const event of ["focus", "pointerenter", "click"]) button.addEventListener(event, () => spell(cell.sentence));
  return make("td", {}, button);
}

// Writes out the verdict that is pointed at or focused. Screen readers have the sentence as the cell's name.
function spell(sentence) {
  byId("verdicts-spelled").textContent = sentence;
}

// A table with a row for each name that has any verdict.
function verdictTable(caption, corner, rows) {
  const { protocols } = report.matrix;
  const head = [corner, ...protocols.map((protocol) => capital(protocol.title))];
  return make(
    "table",
    { class: "matrix" },
    make("caption", {}, ...caption),
    make("thead", {}, make("tr", {}, ...head.map((text) => make("th", { scope: "col" }, text)))),
    make("tbody", {}, ...rows.filter(({ cells }) => cells.some(Boolean)).map(({ name, cells }) => make("tr", {}, make("th", { scope: "row" }, name), ...cells.map(matrixCell)))),
  );
}

// What the rows of a pair's table are: metrics, or the tasks of a comparison over tasks, which may have pages of their own.
const rowsName = () => report.matrix.rows ?? "Metric";
const rowName = ({ title, page }) => (page ? make("a", { href: page }, title) : rowsName() === "Metric" ? capital(title) : title);

function pairTable(a, b) {
  const cells = cellsOf(a, b);
  const rows = report.matrix.metrics.map((metric, i) => ({ name: rowName(metric), cells: cells[i] }));
  return verdictTable([named(a), " held against ", named(b)], rowsName(), rows);
}

function drawMatrix() {
  const { metrics, pairs } = report.matrix;
  const b = report.optimizers[Number(byId("verdicts-against").value)];
  const others = report.optimizers.filter((label) => label !== b && cellsOf(label, b));
  if (pairs.length === 1) return byId("verdicts-matrix").replaceChildren(pairTable(pairs[0].a, pairs[0].b));
  const first = verdictTable([`${capital(metrics[0].title)}, each held against `, named(b)], "Optimizer", others.map((a) => ({ name: named(a), cells: cellsOf(a, b)[0] })));
  const folded = others.map((a) => {
    const details = make("details", {}, make("summary", {}, `Every ${rowsName().toLowerCase()}: `, named(a), " against ", named(b)));
    whenOpened(details, () => pairTable(a, b));
    return details;
  });
  byId("verdicts-matrix").replaceChildren(first, ...folded);
}

function sentences() {
  const { protocols, pairs, left_out: leftOut } = report.matrix;
  const of = (i) => pairs.flatMap((pair) => pair.cells.map((row) => row[i])).filter(Boolean);
  return make(
    "div",
    {},
    ...protocols.flatMap((protocol, i) => [make("h3", {}, capital(protocol.title)), make("ul", {}, ...of(i).map((cell) => make("li", {}, cell.sentence)))]),
    ...(leftOut ? [make("p", {}, `${many(leftOut, "more pair")} of optimizers are not in this page.`)] : []),
  );
}

function showMatrix() {
  const { pairs, left_out: leftOut, note } = report.matrix;
  // Of a page that leaves pairs out, only the first optimizer has all of its own.
  const against = leftOut ? report.optimizers.slice(0, 1) : report.optimizers;
  fillSelect(byId("verdicts-against"), against.map((_, i) => String(i)), against.map(short));
  byId("verdicts-against").addEventListener("change", drawMatrix);
  byId("verdicts-controls").hidden = pairs.length === 1;
  byId("verdicts-note").textContent = `Point at a verdict, or go to it with the Tab key, to read it in a sentence with its interval. ${note ?? ""}`;
  whenOpened(byId("verdicts-sentences"), sentences);
  drawMatrix();
}
