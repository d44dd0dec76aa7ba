// The table of crystals: views, filters, sorting, pages, selection.
const PAGE = 50;
const state = { view: "best", words: "", elements: [], ceiling: null, sort: "place", descending: false, page: 0, chosen: new Set() };
let matching = [];

const VIEWS = {
  best: ["Best first: scored", (row) => row.stage === "scored" && row.operator !== "seed"],
  new: ["Metastable, unique and novel", (row) => row.flags.includes("msun")],
  front: ["Pareto front", (row) => report.front?.ids.includes(row.id)],
  rejected: ["Stopped before scoring", (row) => row.stage !== "scored"],
  seeds: ["Seeds", (row) => row.operator === "seed"],
  all: ["All candidates", () => true],
};

/** Columns: key, title nodes, cell nodes, whether a number, and whether only wide screens have room. */
function tableColumns() {
  const objectives = report.objectives.map(({ name, unit }) => ({
    key: name,
    title: isHull(name)
      ? ["E", make("sub", {}, "hull"), make("small", {}, name.slice(HULL.length + 1) || report.potential), make("small", {}, unit)]
      : [name.replaceAll("_", " "), make("small", {}, unit)],
    cell: (row) => written(row[name], name),
    number: true,
    wide: name !== HULL,
  }));
  const text = (key, title, more = {}) => ({ key, title: [title], cell: (row) => make("div", { class: "cut text", title: row[key] ?? "" }, row[key] ?? ""), wide: true, ...more });
  return [
    { key: "rank", title: ["#"], cell: (row) => row.rank ?? "", number: true, wide: true },
    { key: "formula", title: ["Formula"], cell: (row) => [make("button", { type: "button", class: "link text", "data-id": row.id, click: () => openCrystal(row.id) }, ...formulaNodes(row.formula))] },
    { key: "space_group_number", title: ["Space group"], cell: (row) => (row.space_group === null ? "" : `${row.space_group} (${row.space_group_number})`), nowrap: true, wide: true },
    { key: "n_atoms", title: ["Atoms"], cell: (row) => row.n_atoms ?? "", number: true, wide: true },
    ...objectives,
    { key: "flags", title: ["Marks"], cell: (row) => make("div", { class: "flags" }, markNodes(row)), by: (row) => marksOf(row).map(([name]) => name).join(" ") },
    { key: "decomposition", title: ["Competes with"], cell: (row) => make("div", { class: "cut small", title: decomposed(row) }, decomposed(row)), by: decomposed, wide: true },
    text("match", "Nearest match", { cell: (row) => make("div", { class: "cut text", title: row.match ?? "" }, row.match ?? (row.flags.includes("novel") ? make("span", { class: "soft" }, "none") : "")) }),
    text("operator", "Operator"),
    text("model", "Model"),
    { key: "generation", title: ["Gen."], cell: (row) => row.generation, number: true, wide: true },
    { key: "parents", title: ["Parents"], cell: (row) => row.parents.join(", "), by: (row) => row.parents[0] ?? null, nowrap: true, wide: true },
    { key: "id", title: ["Id"], cell: (row) => row.id, number: true, wide: true },
  ].filter((column) => column.key !== "decomposition" || report.rows.some((row) => row.decomposition));
}

/** What the words of the filter are looked for in. */
function haystack(row) {
  row.hay ??= [
    row.formula, row.space_group, row.space_group_number, row.operator, row.model, row.stage, row.reason, row.detail, row.match,
    row.name, `#${row.id}`, ...marksOf(row).map(([name]) => name), decomposed(row),
  ].join(" ").toLowerCase();
  return row.hay;
}

function filterRows() {
  const words = state.words.toLowerCase().split(/\s+/).filter(Boolean);
  const keep = VIEWS[state.view][1];
  matching = report.rows.filter(
    (row) =>
      keep(row) &&
      state.elements.every((one) => row.elements.includes(one)) &&
      (state.ceiling === null || (row[HULL] !== null && row[HULL] <= state.ceiling)) &&
      words.every((word) => haystack(row).includes(word)),
  );
  const column = tableColumns().find((one) => one.key === state.sort);
  const value = column?.by ?? ((row) => row[state.sort]);
  const sign = state.descending ? -1 : 1;
  const keyed = matching.map((row) => [value(row), row]);
  const empty = (one) => one === null || one === undefined || one === "";
  keyed.sort(([a, first], [b, second]) => {
    if (empty(a) || empty(b)) return empty(a) - empty(b) || first.place - second.place;
    const order = typeof a === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
    return sign * order || first.place - second.place;
  });
  matching = keyed.map(([, row]) => row);
}

/** Those that files are written of: the ticked ones, or all that are shown. */
const selection = () => (state.chosen.size ? report.rows.filter((row) => state.chosen.has(row.id)) : matching);

/** The crystal before or after the opened one in the table's order; null at an end. */
function neighbour(step) {
  const at = matching.findIndex((row) => row.id === current?.id);
  return at < 0 ? null : (matching[at + step]?.id ?? null);
}

function drawTable() {
  filterRows();
  const columns = tableColumns();
  const pages = Math.max(1, Math.ceil(matching.length / PAGE));
  state.page = Math.min(state.page, pages - 1);
  const shown = matching.slice(state.page * PAGE, (state.page + 1) * PAGE);
  const all = make("input", { type: "checkbox", "aria-label": "Select all that are shown", change: (event) => chooseAll(event.target.checked) });
  all.checked = matching.length > 0 && matching.every((row) => state.chosen.has(row.id));
  const classes = (column) => [column.number && "n", column.wide && "wide-only", column.nowrap && "nowrap"].filter(Boolean).join(" ");
  $("candidates").tHead.replaceChildren(
    make("tr", {}, make("th", { class: "tick" }, all), ...columns.map((column) =>
      make("th", { class: classes(column), scope: "col", "aria-sort": column.key === state.sort ? (state.descending ? "descending" : "ascending") : null },
        make("button", { type: "button", "data-key": column.key, click: () => sortBy(column.key) }, ...column.title)))),
  );
  $("candidates").tBodies[0].replaceChildren(
    ...shown.map((row) => {
      const tick = make("input", { type: "checkbox", "aria-label": `Select ${row.formula ?? "candidate"} ${row.id}`, change: (event) => choose(row.id, event.target.checked) });
      tick.checked = state.chosen.has(row.id);
      return make("tr", { "data-id": row.id, "aria-selected": tick.checked ? "true" : null }, make("td", { class: "tick" }, tick), ...columns.map((column) => make("td", { class: classes(column) }, column.cell(row))));
    }),
  );
  $("page").textContent = `${state.page + 1} of ${pages}`;
  for (const id of ["first", "previous"]) $(id).disabled = state.page === 0;
  for (const id of ["last", "next"]) $(id).disabled = state.page >= pages - 1;
  document.querySelector(".pager").hidden = pages === 1;
  drawCounts();
}

function drawCounts() {
  const total = report.rows.length.toLocaleString("en");
  const ticked = state.chosen.size ? ` ${state.chosen.size.toLocaleString("en")} selected.` : "";
  $("shown").textContent = `${matching.length.toLocaleString("en")} of ${total} candidates.${ticked} Save ${state.chosen.size ? "the selected ones" : "these"} as`;
  for (const id of ["save-cif", "save-csv", "save-json"]) $(id).disabled = !selection().length;
}

function sortBy(key) {
  if (state.sort === key) state.descending = !state.descending;
  else Object.assign(state, { sort: key, descending: false });
  state.page = 0;
  drawTable();
  document.querySelector(`#candidates button[data-key="${key}"]`)?.focus();
}

function choose(id, on) {
  if (on) state.chosen.add(id);
  else state.chosen.delete(id);
  const row = document.querySelector(`#candidates tr[data-id="${id}"]`);
  if (on) row?.setAttribute("aria-selected", "true");
  else row?.removeAttribute("aria-selected");
  drawCounts();
}

function chooseAll(on) {
  for (const row of matching) if (on) state.chosen.add(row.id); else state.chosen.delete(row.id);
  drawTable();
}

function turn(page) {
  state.page = page;
  drawTable();
}

/** Show what holds an element, or all again. */
function chooseElement(symbol) {
  const input = $("elements");
  const chosen = new Set(input.value.split(/[\s,]+/).filter(Boolean));
  if (chosen.has(symbol)) chosen.delete(symbol); else chosen.add(symbol);
  input.value = [...chosen].join(" ");
  input.dispatchEvent(new Event("input"));
  $("crystals").scrollIntoView();
}

function setUpTable() {
  const restart = (change) => (event) => { Object.assign(state, change(event.target.value), { page: 0 }); drawTable(); };
  $("view").addEventListener("change", restart((view) => ({ view })));
  $("find").addEventListener("input", restart((words) => ({ words })));
  $("elements").addEventListener("input", restart((text) => ({ elements: text.split(/[\s,-]+/).filter(Boolean).map((one) => one[0].toUpperCase() + one.slice(1)) })));
  $("ceiling").addEventListener("input", restart((text) => ({ ceiling: text === "" ? null : Number(text) })));
  $("first").addEventListener("click", () => turn(0));
  $("previous").addEventListener("click", () => turn(state.page - 1));
  $("next").addEventListener("click", () => turn(state.page + 1));
  $("last").addEventListener("click", () => turn(Math.ceil(matching.length / PAGE) - 1));
  $("save-cif").addEventListener("click", () => saveCif(selection()));
  $("save-csv").addEventListener("click", () => saveCsv(selection()));
  $("save-json").addEventListener("click", () => saveJson(selection()));
}
