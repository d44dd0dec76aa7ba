// Plots in the colours of the page; each is drawn when it first comes near the screen.
const drawers = new Map();
const drawn = new Set();

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const watcher = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      watcher.unobserve(entry.target);
      drawn.add(entry.target.id);
      drawers.get(entry.target.id)();
    }
  },
  { rootMargin: "300px" },
);

/** Have a plot drawn when it is near; at once where it stands already. */
function plan(id, draw) {
  drawers.set(id, draw);
  if (drawn.has(id)) draw();
  else watcher.observe($(id));
}

const redraw = () => drawn.forEach((id) => drawers.get(id)());

/** Draw into a box. A click on a point with a candidate's id opens it. */
async function plot(id, traces, layout, label) {
  const box = $(id);
  await library("plotly");
  const axis = {
    gridcolor: colour("line"), zerolinecolor: colour("strong"), linecolor: colour("strong"), tickcolor: colour("strong"),
    automargin: true, fixedrange: true, ticks: "",
  };
  const look = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest", dragmode: false,
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("soft") },
    margin: { l: 54, r: 12, t: 8, b: 42 },
    hoverlabel: { bgcolor: colour("card"), bordercolor: colour("strong"), font: { color: colour("ink") } },
    showlegend: traces.filter((one) => one.name && one.showlegend !== false).length > 1,
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, itemclick: false, itemdoubleclick: false },
    ...layout,
    xaxis: { ...axis, ...layout.xaxis },
    yaxis: { ...axis, ...layout.yaxis },
  };
  box.setAttribute("role", "img");
  box.setAttribute("aria-label", label);
  const first = !box.classList.contains("js-plotly-plot");
  Plotly.react(box, traces, look, { displayModeBar: false, responsive: true });
  if (first) {
    box.on("plotly_click", ({ points }) => {
      const found = points.find((point) => point.customdata !== undefined && point.customdata !== null);
      if (found) openCrystal(found.customdata);
    });
  }
}

/** Text for a point: formula, id and energy. Plotly reads some tags, so that none may come from a formula. */
function pointText(row) {
  const energy = row[HULL] === null ? "" : `, E_hull ${written(row[HULL], HULL)} eV/atom`;
  return `${row.formula ?? "no crystal"} (${row.id})${energy}`.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}

const dots = (rows, x, y, name, more = {}) => ({
  type: "scatter", mode: "markers", name, x, y, text: rows.map(pointText), customdata: rows.map((row) => row.id),
  hovertemplate: "%{text}<extra></extra>", ...more,
});
const steps = (x, y, name, line) => ({ type: "scatter", mode: "lines", name, x, y, line: { shape: "hv", width: 2.5, ...line }, hoverinfo: "skip" });

function drawEnergies() {
  const { progress } = report;
  const x = progress.id.map((_, i) => i + 1);
  const groups = [[[], []], [[], []]];
  progress.id.forEach((id, i) => {
    const row = report.byId.get(id);
    if (row[HULL] === null || row[HULL] < report.thresholds.quarantine) return;
    const group = groups[row.flags.includes("unique") && row.flags.includes("novel") ? 1 : 0];
    group[0].push(row);
    group[1].push(x[i]);
  });
  const energies = groups.flatMap(([rows]) => rows.map((row) => row[HULL])).sort((a, b) => a - b);
  const top = Math.max(energies[Math.floor(0.97 * (energies.length - 1))] ?? 1, 0.15);
  const marker = (name, size) => ({ marker: { color: colour(name), size, opacity: 0.65 } });
  plot(
    "plot-energy",
    [
      dots(groups[0][0], groups[0][1], groups[0][0].map((row) => row[HULL]), "known or found before", marker("strong", 5)),
      dots(groups[1][0], groups[1][1], groups[1][0].map((row) => row[HULL]), "new", marker("bar", 6)),
      steps(x, progress.best, "lowest", { color: colour("warm"), dash: "dot" }),
      steps(x, progress.best_new, "lowest new", { color: colour("accent") }),
    ],
    {
      xaxis: { title: { text: "relaxations" }, zeroline: false, range: [0, 1.01 * x.length + 1] },
      yaxis: { title: { text: "E<sub>hull</sub>, eV/atom" }, range: [Math.min(-0.02, (energies[0] ?? 0) - 0.02), top * 1.05] },
      shapes: [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: report.thresholds.metastable, y1: report.thresholds.metastable, line: { color: colour("soft"), width: 1, dash: "dash" } }],
    },
    "Energy above the hull of each relaxed candidate, and the lowest so far",
  );
}

function drawFound() {
  const { progress } = report;
  const x = progress.id.map((_, i) => i + 1);
  plot(
    "plot-found",
    [
      steps(x, progress.n_metastable, "metastable", { color: colour("strong") }),
      steps(x, progress.n_msun, "metastable, unique and novel", { color: colour("accent") }),
      steps(x, progress.n_sun, "stable, unique and novel", { color: colour("warm") }),
    ].map((one) => ({ ...one, hoverinfo: "x+y+name" })),
    { xaxis: { title: { text: "relaxations" }, zeroline: false }, yaxis: { title: { text: "crystals" }, rangemode: "tozero" }, hovermode: "x" },
    "How many metastable crystals had been found after each relaxation",
  );
}

const titleOf = (name) => {
  const unit = report.objectives.find((one) => one.name === name)?.unit;
  return `${isHull(name) ? `E_hull by ${name.slice(HULL.length + 1) || report.potential}` : name.replaceAll("_", " ")}${unit ? `, ${unit}` : ""}`.replaceAll("<", "&lt;");
};

function drawFront() {
  const names = [$("front-x").value, $("front-y").value];
  const scored = report.rows.filter(
    (row) => row.stage === "scored" && !row.flags.includes("quarantined") && names.every((name) => row[name] !== null),
  );
  const on = new Set(report.front.ids);
  const parts = [
    ["seeds", scored.filter((row) => row.operator === "seed"), { color: colour("blue"), size: 6, opacity: 0.5, symbol: "square" }],
    ["candidates", scored.filter((row) => row.operator !== "seed" && !on.has(row.id)), { color: colour("strong"), size: 6, opacity: 0.7 }],
    ["front", scored.filter((row) => on.has(row.id)).sort((a, b) => a[names[0]] - b[names[0]]), { color: colour("accent"), size: 9 }],
  ];
  plot(
    "plot-front",
    parts.map(([name, rows, marker]) =>
      dots(rows, rows.map((row) => row[names[0]]), rows.map((row) => row[names[1]]), name, {
        marker,
        ...(name === "front" && report.front.goals.length === 2 && { mode: "lines+markers", line: { color: colour("accent"), width: 1.5 } }),
      }),
    ),
    { xaxis: { title: { text: titleOf(names[0]) } }, yaxis: { title: { text: titleOf(names[1]) } } },
    "Scored candidates by two objectives, with the Pareto front",
  );
}

function drawVolume() {
  const place = new Map(report.progress.id.map((id, i) => [id, i + 1]));
  const { curve, curve_ids } = report.front;
  const x = [0, ...curve_ids.map((id) => place.get(id)), report.progress.id.length];
  const y = [0, ...curve, curve.at(-1) ?? 0];
  plot(
    "plot-volume",
    [{ ...steps(x, y, "hypervolume", { color: colour("accent") }), fill: "tozeroy", fillcolor: `${colour("accent")}22`, hoverinfo: "x+y" }],
    { xaxis: { title: { text: "relaxations" }, zeroline: false }, yaxis: { title: { text: "hypervolume" }, rangemode: "tozero" } },
    `Hypervolume of the ${report.front.of} candidates after each relaxation`,
  );
}

const SYSTEMS = [
  ["triclinic", 2], ["monoclinic", 15], ["orthorhombic", 74], ["tetragonal", 142], ["trigonal", 167], ["hexagonal", 194], ["cubic", 230],
];

function drawSymmetry(rows) {
  const counts = new Map();
  for (const row of rows) {
    if (row.space_group === null) continue;
    const key = `${row.space_group} (${row.space_group_number})`;
    const one = counts.get(key) ?? { n: 0, number: row.space_group_number };
    counts.set(key, { ...one, n: one.n + 1 });
  }
  const order = [...counts].sort((a, b) => a[1].number - b[1].number);
  const shades = ["soft", "blue", "bar", "warm", "rose", "accent", "ink"];
  const traces = SYSTEMS.map(([system, last], i) => {
    const first = i ? SYSTEMS[i - 1][1] : 0;
    const mine = order.filter(([, one]) => one.number > first && one.number <= last);
    return {
      type: "bar", name: system, x: mine.map(() => system), y: mine.map(([, one]) => one.n), text: mine.map(([name]) => name),
      textposition: "none", hovertemplate: "%{text}: %{y}<extra></extra>", showlegend: false,
      marker: { color: colour(shades[i]), line: { color: colour("card"), width: 1 } },
    };
  });
  plot("plot-symmetry", traces, { barmode: "stack", yaxis: { title: { text: "crystals" } }, xaxis: { tickangle: -30 } }, "Crystals by crystal system and space group");
}

function drawSizes(rows) {
  const counts = new Map();
  for (const row of rows) if (row.n_atoms !== null) counts.set(row.n_atoms, (counts.get(row.n_atoms) ?? 0) + 1);
  const sizes = [...counts.keys()].sort((a, b) => a - b);
  plot(
    "plot-size",
    [{ type: "bar", x: sizes, y: sizes.map((n) => counts.get(n)), marker: { color: colour("bar") }, hovertemplate: "%{x} atoms: %{y}<extra></extra>" }],
    { xaxis: { title: { text: "atoms" }, zeroline: false }, yaxis: { title: { text: "crystals" } } },
    "Crystals by the number of atoms in the cell",
  );
}

/** The periodic table, darker where more crystals hold the element. */
function drawElements(rows, choose) {
  const counts = new Map();
  for (const row of rows) for (const one of row.elements) counts.set(one, (counts.get(one) ?? 0) + 1);
  const most = Math.max(1, ...counts.values());
  $("periodic").replaceChildren(
    ...SYMBOLS.map((symbol, index) => {
      const [row, column] = placeOf(index + 1);
      const n = counts.get(symbol) ?? 0;
      const button = make(
        "button",
        { type: "button", "aria-label": `${symbol}: ${n}`, title: `${symbol}: ${n}`, disabled: n === 0 ? "" : null, click: () => choose(symbol) },
        symbol, n ? make("small", {}, n) : null,
      );
      button.style.gridArea = `${row} / ${column}`;
      if (n) button.style.setProperty("--share", (0.12 + 0.88 * Math.sqrt(n / most)).toFixed(2));
      return button;
    }),
  );
}
