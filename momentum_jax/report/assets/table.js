"use strict";

// The table of runs: sorting, filtering, and download of the rows that are left.

const STEP = 25;

// A value as exact text, for the filter and the file.
function exact(value) {
  return value === null || value === undefined ? "" : String(value);
}

// CSV by RFC 4180: fields are quoted where needed, and quotes inside are doubled. A spreadsheet would compute a text that
// begins like a formula, so such a text gets an apostrophe in front; numbers are left as they are.
function csvOf(columns, rows) {
  const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const inert = (text) => (/^\s*[=+\-@]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text);
  const cell = (value, i) => (columns[i].kind === "number" ? exact(value) : inert(exact(value)));
  const lines = [columns.map((column) => inert(column.name)), ...rows.map((row) => row.map(cell))];
  return lines.map((line) => line.map(quoted).join(",") + "\r\n").join("");
}

// Negative if a comes first. Missing values come last in either direction.
function compare(a, b, kind, direction) {
  const missing = (value) => value === null || value === undefined;
  if (missing(a) || missing(b)) return missing(a) - missing(b);
  if (kind === "number") return direction * Math.sign(toNumber(a) - toNumber(b) || 0);
  if (kind === "bool") return direction * (Number(a) - Number(b));
  return direction * String(a).localeCompare(String(b), "en", { numeric: true });
}

function rowsOf({ columns, rows }) {
  const length = Math.max(0, ...columns.map((column) => (rows[column.name] ?? []).length));
  // A column of texts has positions among them.
  const value = ({ name, texts }, i) => (texts ? texts[rows[name][i]] : rows[name]?.[i]) ?? null;
  return Array.from({ length }, (_, i) => columns.map((column) => value(column, i)));
}

function startTable() {
  const { columns, left_out: leftOut } = report.table;
  const all = rowsOf(report.table);
  const texts = all.map((row) => row.map(exact).join("\n").toLowerCase());
  const state = { sorted: null, direction: 1, limit: STEP, rows: all };
  const body = make("tbody");
  const headers = columns.map((column, i) => {
    const button = make("button", { type: "button", ...whole(column.title) }, short(column.title));
    button.addEventListener("click", () => {
      state.direction = state.sorted === i ? -state.direction : 1;
      state.sorted = i;
      update();
    });
    return make("th", { scope: "col", "aria-sort": "none", ...(column.kind === "number" && { class: "number" }) }, button);
  });
  byId("runs-table").append(make("table", {}, make("thead", {}, make("tr", {}, ...headers)), body));

  function update() {
    const words = byId("runs-filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    state.rows = all.filter((_, i) => words.every((word) => texts[i].includes(word)));
    if (state.sorted !== null) {
      const kind = columns[state.sorted].kind;
      state.rows.sort((a, b) => compare(a[state.sorted], b[state.sorted], kind, state.direction));
    }
    headers.forEach((header, i) => header.setAttribute("aria-sort", i !== state.sorted ? "none" : state.direction > 0 ? "ascending" : "descending"));
    fill();
  }

  function fill() {
    const shown = state.rows.slice(0, state.limit);
    body.replaceChildren(...shown.map((row) => make("tr", {}, ...row.map((value, i) => tableCell(value, columns[i].kind)))));
    byId("runs-more").hidden = shown.length === state.rows.length;
    byId("runs-more").textContent = `Show ${Math.min(STEP, state.rows.length - shown.length)} more`;
    byId("runs-count").textContent =
      `${many(state.rows.length, "run")}${state.rows.length < all.length ? ` of ${all.length}` : ""}` +
      (shown.length < state.rows.length ? `, the first ${shown.length} shown` : "") +
      (leftOut ? `; ${leftOut} more are not in this page` : "") +
      ".";
  }

  byId("runs-filter").addEventListener("input", () => {
    state.limit = STEP;
    update();
  });
  byId("runs-more").addEventListener("click", () => {
    const first = state.limit;
    state.limit += STEP;
    fill();
    // The button may be hidden now, so the keyboard focus moves to the first new row.
    const next = body.rows[first];
    next.tabIndex = -1;
    next.focus();
  });
  byId("runs-csv").addEventListener("click", () => {
    save(new Blob([csvOf(columns, state.rows)], { type: "text/csv;charset=utf-8" }), "runs.csv");
  });
  update();
}

function tableCell(value, kind) {
  if (kind === "number") {
    const number = toNumber(value);
    return make("td", { class: "number" }, Number.isNaN(number) ? "" : show(number, 5));
  }
  if (kind === "bool") return make("td", {}, value === null ? "" : value ? "yes" : "no");
  return make("td", whole(exact(value)), short(exact(value)));
}

function save(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  // The browser must have begun to read the file before its address is revoked.
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
