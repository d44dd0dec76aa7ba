// Crystals and tables as files that a person saves.
const PLACES = 1e5;

/** A packed crystal: lattice vectors in Å, species, fractional coordinates, and charges in e where there are any. */
function crystalOf(packed) {
  const [lattice, runs, coords, charges] = packed;
  const species = [];
  for (let i = 0; i < runs.length; i += 2) species.push(...Array(runs[i + 1]).fill(runs[i]));
  const triples = (flat) => Array.from({ length: flat.length / 3 }, (_, i) => flat.slice(3 * i, 3 * i + 3).map((x) => x / PLACES));
  return { lattice: triples(lattice), species, coords: triples(coords), charges: charges?.map((one) => one / PLACES) ?? null };
}

const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];

/** Lengths (Å) and angles (degrees) of a cell. */
function cellOf(lattice) {
  const lengths = lattice.map((vector) => Math.hypot(...vector));
  const angle = (i, j) => (180 / Math.PI) * Math.acos(dot(lattice[i], lattice[j]) / (lengths[i] * lengths[j]));
  return [...lengths, angle(1, 2), angle(0, 2), angle(0, 1)];
}

/** CIF in P1. */
function toCif(crystal, name) {
  const { lattice, species } = crystal;
  // Lengths and angles say nothing of handedness: a left-handed cell is written with its axes reversed.
  const sign = dot(lattice[0], cross(lattice[1], lattice[2])) < 0 ? -1 : 1;
  const counts = new Map();
  for (const one of species) counts.set(one, (counts.get(one) ?? 0) + 1);
  const labels = ["length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma"];
  return [
    `data_${name}`,
    "_symmetry_space_group_name_H-M   'P 1'",
    "_symmetry_Int_Tables_number   1",
    ...cellOf(lattice).map((value, i) => `_cell_${labels[i]}   ${value.toFixed(6)}`),
    `_chemical_formula_sum   '${[...counts].map(([one, n]) => one + n).join(" ")}'`,
    "loop_", " _symmetry_equiv_pos_as_xyz", "  'x, y, z'",
    "loop_", " _atom_site_type_symbol", " _atom_site_label", " _atom_site_fract_x", " _atom_site_fract_y",
    " _atom_site_fract_z", " _atom_site_occupancy",
    ...species.map((one, i) => `  ${one}  ${one}${i}  ${crystal.coords[i].map((x) => (sign * x + 0).toFixed(6)).join("  ")}  1`),
    "",
  ].join("\n");
}

/** A candidate's crystal, as relaxed or else as proposed; null where the page has none. */
async function finalCrystal(row) {
  const found = (await blockOf(row))?.candidates[row.id];
  const packed = found?.relaxed ?? found?.proposed;
  return packed ? crystalOf(packed) : null;
}

const fileName = (text) => text.replace(/[^A-Za-z0-9._-]+/g, "");

async function saveCif(rows) {
  const texts = [];
  for (const row of rows) {
    const crystal = await finalCrystal(row);
    if (crystal) texts.push(toCif(crystal, fileName(`${row.id}_${row.formula}`)));
  }
  const name = rows.length === 1 ? `${rows[0].id}_${rows[0].formula}` : `${report.folder}_${texts.length}_crystals`;
  save(`${fileName(name)}.cif`, texts.join("\n"), "chemical/x-cif");
}

/** The columns that are saved: all of the table but what only this page needs. */
const savedColumns = () => Object.keys(report.columns).filter((name) => !["place", "block"].includes(name));

function saveCsv(rows) {
  const names = savedColumns();
  const cell = (value) => {
    if (value === null || value === undefined) return "";
    if (typeof value === "number" || typeof value === "boolean") return String(value);
    let text = Array.isArray(value) ? value.join(" ") : typeof value === "object" ? JSON.stringify(value) : value;
    // A spreadsheet would take these for formulas, and an LLM may have written them.
    if (/^[=+\-@\t\r]/.test(text)) text = `'${text}`;
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const lines = [names.join(","), ...rows.map((row) => names.map((name) => cell(row[name])).join(","))];
  save(`${fileName(report.folder)}.csv`, `${lines.join("\r\n")}\r\n`, "text/csv");
}

async function saveJson(rows) {
  const names = savedColumns();
  const content = [];
  for (const row of rows) {
    const crystal = await finalCrystal(row);
    const structure = crystal && {
      lattice: crystal.lattice, species: crystal.species, frac_coords: crystal.coords,
      ...(crystal.charges && { charges: crystal.charges }),
    };
    content.push({ ...Object.fromEntries(names.map((name) => [name, row[name]])), structure });
  }
  const units = Object.fromEntries(report.objectives.map((one) => [one.name, one.unit]));
  save(`${fileName(report.folder)}.json`, JSON.stringify({ run: report.name, units, candidates: content }, null, 1), "application/json");
}

function save(name, text, kind) {
  const address = URL.createObjectURL(new Blob([text], { type: kind }));
  const link = make("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}
