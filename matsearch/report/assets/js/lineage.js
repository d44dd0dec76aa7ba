// One crystal with all that is known of it, and where it comes from.
let current = null;

const chip = (id) => {
  const row = report.byId.get(id);
  return make("button", { type: "button", class: "link", click: () => openCrystal(id), "data-id": id }, ...formulaNodes(row?.formula), ` (${id})`);
};

const unitOf = (name) => report.objectives.find((one) => one.name === name)?.unit ?? "";
const nameOf = (name) => {
  if (!isHull(name)) return [name.replaceAll("_", " ")];
  const judge = name.slice(HULL.length + 1) || report.potential;
  return ["E", make("sub", {}, "hull"), ` by ${judge}`];
};

async function openCrystal(id) {
  const row = report.byId.get(id);
  if (!row) return;
  current = row;
  const dialog = $("crystal");
  $("crystal-title").replaceChildren(...formulaNodes(row.formula));
  const group = row.space_group === null ? "" : `${row.space_group} (${row.space_group_number}), `;
  $("crystal-subtitle").textContent = `${group}candidate ${row.id}${row.rank ? `, number ${row.rank} of the best` : ""}`;
  $("flags-of").replaceChildren(...markNodes(row));
  $("facts").replaceChildren(...factsOf(row));
  $("changes").replaceChildren(changesOf(row));
  $("family").replaceChildren(...familyOf(row));
  for (const part of ["talk", "sites", "change"]) $(part).replaceChildren();
  $("before").disabled = neighbour(-1) === null;
  $("after").disabled = neighbour(1) === null;
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  $("crystal-title").focus({ preventScroll: true });
  history.replaceState(null, "", `#candidate-${row.id}`);
  const [block] = await Promise.all([blockOf(row), library("3dmol")]);
  if (current !== row) return;
  const found = block?.candidates[row.id];
  const crystal = (side) => (found?.[side] ? crystalOf(found[side]) : null);
  shownCrystals = { proposed: crystal("proposed"), relaxed: crystal("relaxed") };
  $("charges").hidden = !shownCrystals.relaxed?.charges;
  drawCrystals();
  drawLegend(shownCrystals.relaxed ?? shownCrystals.proposed);
  $("this-cif").disabled = !shownCrystals.proposed && !shownCrystals.relaxed;
  $("sites").replaceChildren(...sitesOf(shownCrystals.relaxed ?? shownCrystals.proposed));
  $("change").replaceChildren(...changeOf(block?.replies[found?.reply]));
  $("talk").replaceChildren(...talkOf(row, block, found));
}

function closeCrystal() {
  $("crystal").close();
}

function factsOf(row) {
  const pairs = [];
  const add = (name, ...value) => { if (value.some((one) => one !== null && one !== undefined && one !== "")) pairs.push(make("dt", {}, name), make("dd", {}, ...value)); };
  for (const { name } of report.objectives) if (row[name] !== null) add(make("span", {}, ...nameOf(name)), `${written(row[name], name)} ${unitOf(name)}`);
  if (row.formation_energy !== null) add("Formation energy", `${written(row.formation_energy, "formation_energy")} eV/atom`);
  add("Competes with", decomposed(row));
  add("Cell", row.n_atoms === null ? null : `${row.n_atoms} atoms, ${row.volume.toFixed(2)} Å³/atom`);
  if (row.match) add("Nearest match", row.match.startsWith("#") && report.byId.has(Number(row.match.slice(1))) ? chip(Number(row.match.slice(1))) : row.match);
  if (row.found_again) add("Found again", `${row.found_again} times`);
  add("Made by", [row.operator, row.model && `model ${row.model}`, row.generation && `generation ${row.generation}`].filter(Boolean).join(", "));
  const fate = [row.stage, row.reason?.replaceAll("_", " ")].filter(Boolean).join(", ");
  add("Fate", [row.detail ? `${fate}: ${row.detail}` : fate, row.add_status && `(${row.add_status.replaceAll("_", " ")})`].filter(Boolean).join(" "));
  if (row.n_steps !== null) add("Relaxation", `${row.n_steps} steps, ${row.converged ? "converged" : "not converged"}, largest force ${row.max_force?.toFixed(3)} eV/Å, ${row.energy?.toFixed(4).replace("-", "−")} eV`);
  return pairs;
}

/** A charge as it is written everywhere: signed, in e. */
const charged = (charge) => `${charge < 0 ? "−" : "+"}${Math.abs(charge).toFixed(2)}`;

/** Charges element by element: the mean, and the range where sites differ. */
function chargesOf({ species, charges }) {
  return [...new Set(species)].map((symbol) => {
    const mine = charges.filter((_, i) => species[i] === symbol);
    const [low, high] = [Math.min(...mine), Math.max(...mine)].map(charged);
    return `${symbol} ${low === high ? low : `${charged(mine.reduce((a, b) => a + b, 0) / mine.length)} (${low} to ${high})`}`;
  });
}

/** The sites of a crystal, with their charges where the potential gives any. */
function sitesOf(crystal) {
  if (!crystal) return [];
  const { species, coords, charges } = crystal;
  const head = ["Site", "x", "y", "z", ...(charges ? ["Charge, e"] : [])];
  const line = (symbol, i) => [...coords[i].map((x) => (Math.round(x * 1e4) / 1e4 + 0).toFixed(4).replace("-", "−")), ...(charges ? [charged(charges[i])] : [])];
  const table = make("table", { class: "narrow" },
    make("thead", {}, make("tr", {}, head.map((text, i) => make("th", { scope: "col", class: i ? "n" : null }, text)))),
    make("tbody", {}, species.map((symbol, i) => make("tr", {}, make("th", { scope: "row" }, `${symbol} ${i + 1}`), line(symbol, i).map((text) => make("td", { class: "n" }, text))))),
  );
  const sum = charges ? make("p", { id: "charge-sum" }, `Charges in e, by the potential: ${chargesOf(crystal).join(", ")}.`) : null;
  return [sum, make("details", { open: charges && species.length <= 12 ? "" : null }, make("summary", {}, `Its ${species.length} sites${charges ? ", with charges" : ""}`), make("div", { class: "wide" }, table))].filter(Boolean);
}

/** What an operator without an LLM says that it did: the first line of its reply, its parents to be clicked. */
function changeOf(reply) {
  if (!reply?.template.startsWith("operators/")) return [];
  const [first] = reply.text.split("\n");
  const said = /^(.*); from (.*?)(?:; (the lowest of .*))?$/.exec(first);
  if (!said) return [make("p", {}, first)];
  const [, what, parents, why] = said;
  const named = parents.split(", ").flatMap((one, i) => [i ? ", " : "", /^\d+$/.test(one) && report.byId.has(Number(one)) ? chip(Number(one)) : one]);
  return [make("p", {}, make("b", {}, what), ", made from ", named, why ? `; ${why.replace(/-(?=\d)/, "−")}` : "")];
}

/** The parents beside the child, property by property. */
function changesOf(row) {
  const parents = row.parents.map((id) => report.byId.get(id)).filter(Boolean);
  if (!parents.length) return make("p", { class: "soft" }, row.operator === "seed" ? "A known phase that the search began with." : "It was proposed without parents.");
  const [last, others] = [row, parents];
  const difference = (value, other, show) => {
    if ([value, other].some((one) => one === null || one === undefined)) return null;
    const text = show(value - other);
    return make("span", { class: "sub" }, /[1-9]/.test(text) ? `child ${value > other ? "+" : ""}${text}` : "the same");
  };
  const line = (title, show, change) => make("tr", {}, make("th", { scope: "row" }, ...title), ...others.map((one) => make("td", {}, show(one), change ? change(one) : null)), make("td", {}, show(last)));
  const numeric = (title, name, show) => line(title, (one) => (one[name] === null ? "–" : show(one[name])), (one) => difference(last[name], one[name], show));
  const exchanged = (one) => {
    const gone = one.elements.filter((e) => !last.elements.includes(e)).map((e) => `− ${e}`);
    const come = last.elements.filter((e) => !one.elements.includes(e)).map((e) => `+ ${e}`);
    return make("span", { class: "sub" }, [...gone, ...come].join("  ") || (one.formula === last.formula ? "same formula" : "same elements"));
  };
  const rows = [
    line(["Formula"], (one) => make("span", {}, ...formulaNodes(one.formula)), exchanged),
    line(["Space group"], (one) => (one.space_group === null ? "–" : `${one.space_group} (${one.space_group_number})`)),
    numeric(["Atoms"], "n_atoms", (n) => String(n).replace("-", "−")),
    numeric(["Volume, Å³/atom"], "volume", (v) => v.toFixed(2).replace("-", "−")),
    ...report.objectives.map(({ name, unit }) => numeric([...nameOf(name), `, ${unit}`], name, (value) => written(value, name))),
  ];
  const head = make("tr", {}, make("td"), ...others.map((one) => make("th", { scope: "col" }, "Parent ", chip(one.id))), make("th", { scope: "col" }, `Child (${row.id})`));
  return make("div", { class: "wide" }, make("table", {}, make("thead", {}, head), make("tbody", {}, rows)));
}

function familyOf(row) {
  const children = report.children.get(row.id) ?? [];
  const read = children.filter((one) => report.byId.get(one).formula !== null);
  const shown = read.sort((a, b) => report.byId.get(a).place - report.byId.get(b).place).slice(0, 24);
  const unread = children.length - read.length;
  const counted = `${children.length} children${unread ? `, ${unread} of them without a crystal` : ""}`;
  const parts = [];
  if (row.parents.length) parts.push("Parents:", ...row.parents.map(chip));
  parts.push(make("p", {}, children.length ? `${counted}${shown.length < read.length ? `; the best ${shown.length}:` : shown.length ? ":" : "."}` : "No children."), ...shown.map(chip));
  const show = () => { closeCrystal(); growTree(row.id); $("lineage").scrollIntoView(); };
  parts.push(make("p", {}, make("button", { type: "button", click: show }, "Show the family tree")));
  return parts;
}

function talkOf(row, block, found) {
  if (block === null) return [make("p", { class: "soft" }, `Not in this page, which would grow too large: matsearch show ${report.folder} ${row.id}`)];
  const reply = block.replies[found.reply];
  if (!reply) return [make("p", { class: "soft" }, "No model was asked for it.")];
  const [system, user, length] = block.prompts[reply.prompt_hash] ?? ["", "", 0];
  const tokens = ["prompt", "completion", "cached", "reasoning"].filter((kind) => reply[`${kind}_tokens`] !== null).map((kind) => `${reply[`${kind}_tokens`]} ${kind} tokens`);
  const facts = [`Template ${reply.template}`, reply.template_hash, `model ${reply.model || row.model}`, `seed ${reply.seed}`, ...tokens, `finish: ${reply.finish_reason}`, `${reply.seconds.toFixed(1)} s`];
  const cut = (shown, all) => (shown < all ? make("p", { class: "note" }, `The first ${shown.toLocaleString("en")} of ${all.toLocaleString("en")} characters; all of it: matsearch show ${report.folder} ${row.id}`) : null);
  const prompt = [system, user].filter(Boolean).join("\n\n");
  return [
    make("p", { class: "soft text" }, facts.filter(Boolean).join(", ")),
    make("details", { open: prompt.length < 1500 ? "" : null }, make("summary", {}, "Prompt"), make("pre", { tabindex: 0, id: "prompt-text" }, prompt), cut(system.length + user.length, length)),
    make("details", { open: "" }, make("summary", {}, "Reply"), make("pre", { tabindex: 0, id: "reply-text" }, reply.text), cut(reply.text.length, reply.length)),
  ];
}

const N_ANCESTORS = 40;
const N_CHILDREN = 8;

/** Ancestors left, the crystal, its best children right. */
function growTree(id) {
  const depth = new Map([[id, 0]]);
  const edges = [];
  const waiting = [id];
  while (waiting.length && depth.size < N_ANCESTORS) {
    const one = waiting.shift();
    for (const parent of report.byId.get(one)?.parents ?? []) {
      edges.push([parent, one]);
      if (!depth.has(parent) && report.byId.has(parent)) {
        depth.set(parent, depth.get(one) - 1);
        waiting.push(parent);
      }
    }
  }
  const children = [...(report.children.get(id) ?? [])].sort((a, b) => report.byId.get(a).place - report.byId.get(b).place);
  for (const child of children.slice(0, N_CHILDREN)) {
    if (!depth.has(child)) depth.set(child, 1);
    edges.push([id, child]);
  }
  const columns = new Map();
  for (const [one, level] of depth) columns.set(level, [...(columns.get(level) ?? []), one]);
  const levels = [...columns.keys()].sort((a, b) => a - b);
  const tallest = Math.max(...[...columns.values()].map((one) => one.length));
  const [wide, high] = [244, 66];
  const places = new Map();
  levels.forEach((level, column) => {
    const members = columns.get(level);
    members.forEach((one, i) => places.set(one, [column * wide, (i + (tallest - members.length) / 2) * high]));
  });
  const paths = edges.filter(([from, to]) => places.has(from) && places.has(to)).map(([from, to]) => {
    const [x1, y1] = places.get(from);
    const [x2, y2] = places.get(to);
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", `M${x1 + 192} ${y1 + 26}C${x1 + 220} ${y1 + 26} ${x2 - 28} ${y2 + 26} ${x2} ${y2 + 26}`);
    if (to === id || from === id) path.setAttribute("class", "main");
    return path;
  });
  const lines = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  lines.append(...paths);
  lines.setAttribute("aria-hidden", "true");
  const nodes = [...places].map(([one, [x, y]]) => {
    const row = report.byId.get(one);
    const energy = row[HULL] === null ? row.reason?.replaceAll("_", " ") ?? row.stage : `${written(row[HULL], HULL)} eV/atom`;
    const node = make("button", { type: "button", class: one === id ? "node here" : "node", "data-id": one, click: () => openCrystal(one) }, ...formulaNodes(row.formula), ` (${one})`, make("small", {}, `${energy}, ${row.operator}`));
    node.style.left = `${x}px`;
    node.style.top = `${y}px`;
    return node;
  });
  const box = make("div", { class: "grown" }, lines, nodes);
  box.style.width = `${levels.length * wide - 48}px`;
  box.style.height = `${tallest * high}px`;
  $("tree").replaceChildren(box);
  lines.style.width = box.style.width;
  lines.style.height = box.style.height;
  const [x, y] = places.get(id);
  $("tree").scrollTo(Math.max(0, x - $("tree").clientWidth / 2 + 100), Math.max(0, y - $("tree").clientHeight / 2 + 40));
  const select = $("ancestor");
  if (![...select.options].some((option) => option.value === String(id))) select.append(ancestorOption(id));
  select.value = String(id);
  const more = children.length > N_CHILDREN ? `; ${N_CHILDREN} of ${children.length} children` : "";
  $("lineage-note").textContent = `Ancestors to the left, children to the right${more}. A click opens a crystal with its prompt, its reply and what changed.`;
}

/** How many candidates one descends from, as far as the tree shows. */
function countAncestors(id) {
  const found = new Set();
  const waiting = [id];
  while (waiting.length && found.size < N_ANCESTORS) {
    for (const parent of report.byId.get(waiting.shift())?.parents ?? []) {
      if (!found.has(parent)) waiting.push(parent);
      found.add(parent);
    }
  }
  return found.size;
}

const ancestorOption = (id) => {
  const row = report.byId.get(id);
  return make("option", { value: id }, `${row.rank ? `${row.rank}. ` : ""}${row.formula ?? "no crystal"} (${id})`);
};
