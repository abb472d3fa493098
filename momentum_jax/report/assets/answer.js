"use strict";

// The first screen: what the answer is in each protocol, how sure it is, and what could change it.

const KINDS = {
  helps: { symbol: "▲", tone: "better" },
  "does not help": { symbol: "▼", tone: "worse" },
  "no difference found": { symbol: "○", tone: "" },
  "cannot be told": { symbol: "?", tone: "" },
};
const MOST_NAMES = 4;
const MOST_WARNINGS = 3;

// A label in an element, shortened, with the whole on hover.
const named = (label) => make("span", whole(label), short(label));

const symbol = (text) => make("span", { class: "symbol", "aria-hidden": "true" }, text);

function showAnswer() {
  const { parts, sure, warnings } = report.answer;
  const protocols = [...new Set(parts.map((part) => part.title))];
  byId("answer-parts").hidden = !present(parts);
  byId("answer-parts").append(...protocols.map((title) => protocolItem(title, parts.filter((part) => part.title === title))));
  if (sure) byId("answer-sure").append(make("strong", {}, "How sure: "), sure);
  byId("answer-sure").hidden = !sure;
  const more = warnings.length - MOST_WARNINGS;
  const items = warnings.slice(0, MOST_WARNINGS).map((text) => make("li", {}, symbol("⚠"), make("span", { class: "hidden" }, "Warning: "), text));
  if (more > 0) items.push(make("li", {}, make("a", { href: "#notes" }, `${many(more, "more warning")} among the notes`)));
  byId("answer-warnings").hidden = !present(items);
  byId("answer-warnings").append(...items);
}

// One protocol: what it says of the optimizer that is judged; of several, which are alike.
function protocolItem(title, parts) {
  const kinds = Object.keys(KINDS).filter((kind) => parts.some((part) => part.kind === kind));
  const lines = kinds.map((kind) => {
    const alike = parts.filter((part) => part.kind === kind);
    const { symbol: sign, tone } = KINDS[kind];
    const told = make("p", { class: `outcome ${tone}` }, symbol(sign), kind);
    if (parts.length === 1) told.append(...(alike[0].why ? [make("span", { class: "why" }, `, ${alike[0].why}`)] : []));
    else told.append(make("span", { class: "why" }, ": ", ...namesOf(alike.map((part) => part.a), parts.length)));
    return told;
  });
  return make("li", {}, make("p", { class: "protocol" }, capital(title)), ...lines);
}

function namesOf(labels, of) {
  if (labels.length > MOST_NAMES) return [`${labels.length} of ${of}`];
  return labels.flatMap((label, i) => (i ? [", ", named(label)] : [named(label)]));
}
