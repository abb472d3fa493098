"use strict";

// Assembles the page: shows the sections that the document has, and leaves the others hidden.

const OUTCOMES = { better: "▲", worse: "▼", equivalent: "=", "no difference found": "○", "no verdict": "–" };

function showVerdicts() {
  const protocols = [...new Set(report.verdicts.map((verdict) => verdict.protocol))];
  for (const protocol of protocols) {
    const own = report.verdicts.filter((verdict) => verdict.protocol === protocol);
    byId("verdicts-list").append(make("h3", {}, protocol), make("ul", { class: "verdicts" }, ...own.map(verdictItem)));
  }
}

function verdictItem({ outcome, sentence, metric, a, b }) {
  return make(
    "li",
    { class: outcome in OUTCOMES ? outcome.replaceAll(" ", "-") : "no-verdict" },
    make("p", { class: "outcome" }, make("span", { class: "symbol", "aria-hidden": "true" }, OUTCOMES[outcome] ?? "–"), outcome),
    make("div", {}, make("p", {}, sentence), make("p", { class: "metric" }, `${metric}: ${a} against ${b}`)),
  );
}

function showNotes() {
  byId("notes-list").append(...report.notes.map((note) => make("li", {}, note)));
}

function showAgain() {
  byId("again-command").hidden = !report.command;
  byId("command").textContent = report.command ?? "";
  byId("files").textContent = report.files ?? "";
  for (const part of ["config", "provenance"]) {
    byId(`${part}-details`).hidden = !report[part];
    byId(part).textContent = report[part] ? JSON.stringify(report[part], null, 2) : "";
  }
  byId("copy").addEventListener("click", async () => {
    byId("copied").textContent = (await copied(report.command)) ? "Copied." : "Your browser does not let a page copy: the command is selected.";
  });
}

// Copies with the clipboard API, or if the browser refuses it, by selecting the text.
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    getSelection().selectAllChildren(byId("command"));
    return document.execCommand("copy");
  }
}

// In the page's order: the section, whether the document has it, and what shows it.
const SECTIONS = [
  ["verdicts", present(report.verdicts), showVerdicts],
  ["notes", present(report.notes), showNotes],
  ["three-way", present(report.three_way?.metrics), startThreeWay],
  ["curves", present(report.curves), startCurves],
  ["heatmaps", present(report.heatmaps), startHeatmaps],
  ["sensitivity", present(report.sensitivity), startSensitivity],
  ["budget", present(report.budget), startBudget],
  ["runs", present(report.table?.columns), startTable],
  ["workbench", true, startWorkbench],
  ["again", Boolean(report.command || report.files || report.config || report.provenance), showAgain],
];

async function start() {
  byId("kind").textContent = report.kind ?? "";
  startTheme();
  const drawn = [];
  for (const [id, there, begin] of SECTIONS) {
    if (!there) continue;
    byId(id).hidden = false;
    byId("sections").append(make("li", {}, make("a", { href: `#${id}` }, byId(`${id}-heading`).textContent)));
    drawn.push(begin());
  }
  await Promise.all(drawn);
  // Plotly measures text in this element; screen readers must skip it.
  byId("js-plotly-tester")?.setAttribute("aria-hidden", "true");
  document.documentElement.dataset.ready = "true";
}

start();
