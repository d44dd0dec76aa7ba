// What the page holds: the table at once, crystals and texts when they are asked for.
const report = { name: "", columns: {}, rows: [], byId: new Map(), blocks: [], opened: new Map() };

const $ = (id) => document.getElementById(id);

/** A new element with attributes (functions are listeners) and children. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** What base64 of gzip holds. */
function inflate(text) {
  const bytes = Uint8Array.from(atob(text.trim()), (char) => char.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip")));
}

const unpack = (text) => inflate(text).json();

const libraries = new Map();

/** Plotly or 3Dmol, taken in when it is first needed: it is more work than the rest of the page. */
function library(name) {
  const take = async () => {
    const script = make("script");
    script.textContent = await inflate($(`library-${name}`).textContent).text();
    document.head.append(script);
  };
  if (!libraries.has(name)) libraries.set(name, take());
  return libraries.get(name);
}

/** Take the data out of a document: this one, or a newer one that the server gave. */
async function read(source) {
  const content = await unpack(source.getElementById("data").textContent);
  const { columns } = content;
  const names = Object.keys(columns);
  Object.assign(report, content);
  report.rows = columns.id.map((_, index) => Object.fromEntries(names.map((name) => [name, columns[name][index]])));
  report.byId = new Map(report.rows.map((row) => [row.id, row]));
  report.blocks = [...source.querySelectorAll("script.block")].map((one) => one.textContent);
  report.opened = new Map();
  report.children = new Map();
  for (const row of report.rows) {
    row.elements = [...amountsOf(row.formula).keys()];
    row.match = matchOf(row);
    for (const parent of row.parents) {
      if (!report.children.has(parent)) report.children.set(parent, []);
      report.children.get(parent).push(row.id);
    }
  }
}

/** What a crystal is already: a known phase or an earlier candidate, as relaxed or as turned away before. */
function matchOf(row) {
  if (row.matched_known) return row.matched_known;
  if (row.duplicate_of !== null) return `#${row.duplicate_of}`;
  if (row.stage === "novelty" && row.detail?.startsWith("matches ")) {
    return row.detail.slice("matches ".length).replace(/^candidate /, "#");
  }
  return row.operator === "seed" ? row.name : null;
}

/** The block with a candidate's crystals and texts; null for one that did not fit into the page. */
async function blockOf(row) {
  if (row.block === null) return null;
  if (!report.opened.has(row.block)) report.opened.set(row.block, unpack(report.blocks[row.block]));
  return report.opened.get(row.block);
}

const HULL = "energy_above_hull";
const isHull = (name) => name === HULL || name.startsWith(`${HULL}:`);

/** A value as the rest of the report writes it: energies above the hull to 1 meV, others to four digits. */
function written(value, name) {
  if (value === null || value === undefined) return "";
  let text;
  if (isHull(name) || name === "formation_energy") text = (Math.round(value * 1000) / 1000 + 0).toFixed(3);
  else text = String(Number(value.toPrecision(4)));
  return text.replace("-", "−");
}

const FLAG_NAMES = {
  sun: ["stable, new", "good"],
  msun: ["metastable, new", "good"],
  stable: ["stable", ""],
  metastable: ["metastable", ""],
  quarantined: ["far below", "doubt"],
  memorised: ["memorised", "known"],
  waiting: ["waiting", ""],
};

/** The marks of a row: text and kind. */
function marksOf(row) {
  const held = new Set(row.flags);
  if (held.has("sun")) ["msun", "stable", "metastable"].forEach((one) => held.delete(one));
  if (held.has("msun") || held.has("stable")) held.delete("metastable");
  const marks = Object.keys(FLAG_NAMES).filter((one) => held.has(one)).map((one) => FLAG_NAMES[one]);
  if (row.operator === "seed") marks.push(["seed", "known"]);
  else if (row.matched_known || row.reason === "known") marks.push(["known phase", "known"]);
  if (row.duplicate_of !== null || row.reason === "duplicate") marks.push(["found before", ""]);
  const told = ["known", "duplicate", "quarantined"];
  if (row.reason && !told.includes(row.reason)) marks.push([row.reason.replaceAll("_", " "), "bad"]);
  return marks;
}

const markNodes = (row) => marksOf(row).map(([text, kind]) => make("span", { class: `flag ${kind} text` }, text));

/** What a composition falls apart into, as text. */
function decomposed(row) {
  if (!row.decomposition) return "";
  const parts = Object.entries(row.decomposition);
  return parts.length === 1 ? parts[0][0] : parts.map(([formula, share]) => `${share.toFixed(2)} ${formula}`).join(" + ");
}
