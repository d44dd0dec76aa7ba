// Hulls of the binary and ternary systems that candidates belong to.
const systemOf = (row) => [...row.elements].sort().join("-");

/** Systems of two or three elements with candidates to show: name to rows, most new metastable ones first. */
function hullSystems() {
  const found = new Map();
  for (const row of report.rows) {
    if (row.formation_energy === null || row.elements.length < 2 || row.elements.length > 3) continue;
    const name = systemOf(row);
    if (!found.has(name)) found.set(name, []);
    found.get(name).push(row);
  }
  const made = (rows) => rows.filter((row) => row.operator !== "seed").length;
  const good = (rows) => rows.filter((row) => row.flags.includes("msun")).length;
  const order = ([, a], [, b]) => good(b) - good(a) || made(b) - made(a);
  // What lies lowest is drawn last, on top of others of its composition.
  for (const rows of found.values()) rows.sort((a, b) => b[HULL] - a[HULL]);
  return new Map([...found].filter(([, rows]) => made(rows)).sort(order));
}

/** The known phases inside a system: [id, formula, formation energy, energy above the hull]. */
function phasesWithin(symbols) {
  return Object.entries(report.phases).flatMap(([name, phases]) =>
    name.split("-").every((one) => symbols.includes(one)) ? phases : [],
  );
}

const phaseText = ([id, formula, , above]) => `${formula} (${id})${above ? `, E_hull ${written(above, HULL)} eV/atom` : ", on the hull"}`;

function drawHull() {
  const rows = hullSystems().get($("system").value) ?? [];
  if (!rows.length) return;
  const symbols = $("system").value.split("-");
  const phases = phasesWithin(symbols);
  const kinds = [
    ["seeds", rows.filter((row) => row.operator === "seed"), "blue", "square"],
    ["candidates, known", rows.filter((row) => row.operator !== "seed" && !row.flags.includes("novel")), "soft", "circle"],
    ["candidates, new", rows.filter((row) => row.flags.includes("novel")), "accent", "circle"],
  ].filter(([, mine]) => mine.length);
  $("hull-note").textContent = `${phases.filter((one) => one[3] === 0).length} known phases on the hull, ${rows.filter((row) => row.operator !== "seed").length} candidates`;
  (symbols.length === 2 ? drawBinary : drawTernary)(symbols, phases, kinds);
}

function drawBinary([first, second], phases, kinds) {
  const x = (formula) => fractionsOf(formula).get(second) ?? 0;
  const stable = phases.filter((one) => one[3] === 0).sort((a, b) => x(a[1]) - x(b[1]));
  const others = phases.filter((one) => one[3] > 0);
  const known = (mine, more) => ({ type: "scatter", x: mine.map((one) => x(one[1])), y: mine.map((one) => one[2]), text: mine.map(phaseText), hovertemplate: "%{text}<extra></extra>", ...more });
  const low = Math.min(0, ...stable.map((one) => one[2]));
  const heights = kinds.flatMap(([, mine]) => mine.map((row) => row.formation_energy));
  const top = Math.min(Math.max(0.1, ...heights), low + Math.max(0.8, -2 * low));
  plot(
    "plot-hull",
    [
      known(stable, { name: "hull", mode: "lines+markers", line: { color: colour("ink"), width: 1.5 }, marker: { color: colour("ink"), size: 8 } }),
      known(others, { name: "known phases above", mode: "markers", marker: { color: colour("card"), size: 6, line: { color: colour("soft"), width: 1 } } }),
      ...kinds.map(([name, mine, shade, symbol]) => dots(mine, mine.map((row) => x(row.formula)), mine.map((row) => row.formation_energy), name, { marker: { color: colour(shade), size: 9, symbol, opacity: 0.85 } })),
    ],
    {
      xaxis: { title: { text: `share of ${second} in ${first}–${second}` }, range: [-0.03, 1.03], zeroline: false },
      yaxis: { title: { text: "formation energy, eV/atom" }, range: [Math.min(low, ...heights) - 0.08, top + 0.06] },
    },
    `Hull of ${first} and ${second}`,
  );
}

/** Triples of stable phases with nothing below them: the facets of the hull, each as three places in the list. */
function facets(points) {
  const found = [];
  if (points.length > 60) return found;
  for (let i = 0; i < points.length; i++) for (let j = i + 1; j < points.length; j++) for (let k = j + 1; k < points.length; k++) {
    const [a, b, c] = [points[i], points[j], points[k]];
    const minus = (p, q) => [p[0] - q[0], p[1] - q[1], p[2] - q[2]];
    const normal = cross(minus(b, a), minus(c, a));
    if (Math.abs(normal[2]) < 1e-9) continue;
    const below = points.some((p, n) => n !== i && n !== j && n !== k && dot(normal, minus(p, a)) / normal[2] < -1e-7);
    if (!below) found.push([i, j, k]);
  }
  return found;
}

function drawTernary([first, second, third], phases, kinds) {
  const at = (formula) => {
    const shares = fractionsOf(formula);
    const [b, c] = [shares.get(second) ?? 0, shares.get(third) ?? 0];
    return [b + c / 2, (c * Math.sqrt(3)) / 2];
  };
  const stable = phases.filter((one) => one[3] === 0);
  const places = stable.map((one) => [...at(one[1]), one[2]]);
  const lines = { x: [], y: [] };
  for (const corners of facets(places)) {
    for (const corner of [...corners, corners[0]]) {
      lines.x.push(places[corner][0]);
      lines.y.push(places[corner][1]);
    }
    lines.x.push(null);
    lines.y.push(null);
  }
  const all = kinds.flatMap(([, mine]) => mine);
  const heights = all.map((row) => row[HULL] ?? 0);
  const highest = Math.max(0.1, Math.min(0.3, ...heights));
  const lowest = Math.max(report.thresholds.quarantine, Math.min(0, ...heights));
  const corner = (x, y, text, yshift) => ({ x, y, text, showarrow: false, yshift, font: { size: 14, color: colour("ink") } });
  plot(
    "plot-hull",
    [
      { type: "scatter", mode: "lines", x: [0, 1, 0.5, 0], y: [0, 0, Math.sqrt(3) / 2, 0], line: { color: colour("strong"), width: 1.5 }, hoverinfo: "skip", showlegend: false },
      { type: "scatter", mode: "lines", ...lines, line: { color: colour("strong"), width: 1 }, hoverinfo: "skip", showlegend: false },
      { type: "scatter", mode: "markers", name: "known, on the hull", x: places.map((p) => p[0]), y: places.map((p) => p[1]), text: stable.map(phaseText), hovertemplate: "%{text}<extra></extra>", marker: { color: colour("ink"), size: 8 } },
      ...kinds.map(([name, mine, , symbol], i) =>
        dots(mine, mine.map((row) => at(row.formula)[0]), mine.map((row) => at(row.formula)[1]), name, {
          marker: {
            color: mine.map((row) => row[HULL]), cmin: lowest, cmax: highest + 0.1, size: i === kinds.length - 1 ? 12 : 9, symbol: `${symbol}${name.includes("new") ? "" : "-open"}`,
            colorscale: [[0, colour("accent")], [0.5, colour("warm")], [1, colour("rose")]], line: { color: colour("card"), width: name.includes("new") ? 1 : 2 },
            ...(i === 0 && { showscale: true, colorbar: { title: { text: "E_hull, eV/atom", side: "top" }, orientation: "h", y: -0.02, yanchor: "top", thickness: 10, lenmode: "pixels", len: 260, outlinewidth: 0 } }),
          },
        }),
      ),
    ],
    {
      xaxis: { visible: false, range: [-0.06, 1.06] },
      yaxis: { visible: false, range: [-0.07, 0.95], scaleanchor: "x" },
      margin: { l: 8, r: 8, t: 8, b: 64 },
      annotations: [corner(0, 0, first, -16), corner(1, 0, second, -16), corner(0.5, Math.sqrt(3) / 2, third, 16)],
    },
    `Hull of ${first}, ${second} and ${third}, seen from below`,
  );
}
