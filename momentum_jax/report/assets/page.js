"use strict";

// Assembles the page: shows the sections that the document has, and leaves the others hidden.

// A few notes are shown at once.
const MOST_OPEN_NOTES = 3;

function showNotes() {
  byId("notes-details").open = report.notes.length <= MOST_OPEN_NOTES;
  byId("notes-count").textContent = many(report.notes.length, "note");
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
  ["profile", present(report.profile?.protocols), startProfile],
  ["verdicts", present(report.matrix?.pairs), showMatrix],
  ["notes", present(report.notes), showNotes],
  ["three-way", present(report.three_way?.metrics), startThreeWay],
  ["curves", present(report.curves), startCurves],
  ["heatmaps", present(report.heatmaps), startHeatmaps],
  ["parallel", present(report.parallel), startParallel],
  ["sensitivity", present(report.sensitivity), startSensitivity],
  ["budget", present(report.budget), startBudget],
  ["runs", present(report.table?.columns), startTable],
  ["workbench", true, startWorkbench],
  ["again", Boolean(report.command || report.files || report.config || report.provenance), showAgain],
];

// By the kind of the page: which section has the figure of the first screen. The first that the document has moves there.
const FIRST = {
  comparison: ["three-way", "curves"],
  training: ["curves", "three-way"],
  sweep: ["heatmaps", "sensitivity", "curves"],
  tasks: ["profile"],
};

const nextFrame = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));

async function start() {
  byId("kind").textContent = report.kind ?? "";
  startTheme();
  if (report.answer) showAnswer();
  const there = SECTIONS.filter(([, has]) => has);
  const first = there.find(([id]) => id === (FIRST[report.kind] ?? []).find((own) => there.some(([other]) => other === own)));
  if (first) byId("first-figure").append(byId(first[0]));
  // Several tasks have more warnings than the first screen has room for.
  if (report.kind === "tasks") byId("first-figure").after(byId("answer-warnings"));
  byId("answer").hidden = !report.answer && !first;
  byId("answer-heading").hidden = !report.answer;
  const ordered = first ? [first, ...there.filter((section) => section !== first)] : there;
  for (const [id] of ordered) {
    byId(id).hidden = false;
    byId("sections").append(make("li", {}, make("a", { href: `#${id}` }, byId(`${id}-heading`).textContent)));
  }
  for (const [, , begin] of ordered) {
    await begin();
    // The browser paints, and answers the reader, before the next section is drawn.
    await nextFrame();
  }
  // Plotly measures text in this element; screen readers must skip it.
  byId("js-plotly-tester")?.setAttribute("aria-hidden", "true");
  document.documentElement.dataset.ready = "true";
}

// Longer tables and lists stay folded on paper.
const MOST_PRINTED = 100;

// On paper what is folded is open.
function startPrinting() {
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const details of opened) {
      details.fill?.();
      details.open = details.querySelectorAll("tr, li").length <= MOST_PRINTED;
    }
  });
  addEventListener("afterprint", () => {
    for (const details of opened) details.open = false;
  });
}

startPrinting();
start();
