// Everything together.
const fill = (select, options, chosen) => {
  const before = chosen ?? select.value;
  select.replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
  if (options.some(([value]) => String(value) === String(before))) select.value = before;
};

/** Draw all from `report`, for the first time or after news. */
function drawAll() {
  const count = (view) => report.rows.filter(VIEWS[view][1]).length;
  const views = Object.keys(VIEWS).filter((view) => view === "all" || count(view));
  if (!views.includes(state.view)) state.view = views[0];
  fill($("view"), views.map((view) => [view, `${VIEWS[view][0]} (${count(view).toLocaleString("en")})`]), state.view);
  $("table").hidden = !report.rows.length;
  drawTable();

  $("progress").hidden = !report.progress.id.length;
  if (report.progress.id.length) {
    plan("plot-energy", drawEnergies);
    plan("plot-found", drawFound);
  }
  const { front } = report;
  $("figure-front").hidden = $("figure-volume").hidden = !front;
  if (front) {
    const axes = report.objectives.map(({ name }) => [name, titleOf(name).split(", ")[0]]);
    fill($("front-x"), axes, $("front-x").value || front.goals[0]);
    fill($("front-y"), axes, $("front-y").value || front.goals[1]);
    plan("plot-front", drawFront);
    plan("plot-volume", drawVolume);
    const worst = Object.entries(front.reference).map(([name, value]) => `${name.replaceAll("_", " ")} ${written(value, name)} ${unitOf(name)}`);
    $("volume-note").textContent = `The hypervolume is that between the ${front.of} candidates and ${worst.join(", ")}, the worst that counts; below the hull counts as on it, for the front too.`;
  }

  const systems = [...hullSystems()];
  $("hulls").hidden = !systems.length;
  if (systems.length) {
    fill($("system"), systems.map(([name, rows]) => [name, `${name.replaceAll("-", "–")} (${rows.filter((row) => row.operator !== "seed").length})`]));
    plan("plot-hull", drawHull);
  }

  const best = report.rows.filter((row) => row.rank).sort((a, b) => a.rank - b.rank);
  const roots = best.length ? best : report.rows.filter((row) => row.parents.length).slice(0, 20);
  $("lineage").hidden = !roots.length;
  if (roots.length) {
    const chosen = Number($("ancestor").value);
    $("ancestor").replaceChildren(...roots.map((row) => ancestorOption(row.id)));
    const deepest = roots.map((row) => [countAncestors(row.id), row.id]).sort((a, b) => b[0] - a[0])[0][1];
    growTree(chosen && report.byId.has(chosen) ? chosen : deepest);
  }

  const populations = { best: "scored candidates", new: "metastable, unique and novel ones", all: "all candidates", seeds: "seeds" };
  const present = Object.entries(populations).filter(([view]) => count(view));
  $("made").hidden = !present.length;
  if (present.length) {
    fill($("population"), present);
    plan("plot-symmetry", () => drawSymmetry(population()));
    plan("plot-size", () => drawSizes(population()));
    plan("periodic", () => drawElements(population(), chooseElement));
  }
  drawNavigation();
}

/** Links to sections that have nothing to show are left out. */
function drawNavigation() {
  for (const link of document.querySelectorAll("nav a")) {
    const section = $(link.hash.slice(1));
    link.hidden = section.hidden || !section.childElementCount;
  }
}

const population = () => report.rows.filter(VIEWS[$("population").value][1]);

const THEMES = { auto: ["◐", "as the system has them"], light: ["○", "light"], dark: ["●", "dark"] };
const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
let theme = "auto";

function applyTheme() {
  const dark = theme === "dark" || (theme === "auto" && systemIsDark.matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  $("theme").textContent = THEMES[theme][0];
  $("theme").setAttribute("aria-label", `Colours: ${THEMES[theme][1]}`);
}

function setUpTheme() {
  try { theme = localStorage.getItem("matsearch-theme") ?? "auto"; } catch { /* a page from disk may have no storage */ }
  if (!(theme in THEMES)) theme = "auto";
  const change = () => { applyTheme(); redraw(); };
  $("theme").hidden = false;
  $("theme").addEventListener("click", () => {
    const names = Object.keys(THEMES);
    theme = names[(names.indexOf(theme) + 1) % names.length];
    try { localStorage.setItem("matsearch-theme", theme); } catch { /* then it is asked for again */ }
    change();
  });
  systemIsDark.addEventListener("change", change);
  applyTheme();
}

function setUpControls() {
  setUpTable();
  $("front-x").addEventListener("change", drawFront);
  $("front-y").addEventListener("change", drawFront);
  $("system").addEventListener("change", drawHull);
  $("ancestor").addEventListener("change", (event) => growTree(Number(event.target.value)));
  $("population").addEventListener("change", () => { drawSymmetry(population()); drawSizes(population()); drawElements(population(), chooseElement); });
  $("close").addEventListener("click", closeCrystal);
  $("crystal").addEventListener("click", (event) => { if (event.target === $("crystal")) closeCrystal(); });
  $("crystal").addEventListener("close", () => { history.replaceState(null, "", location.pathname + location.search); });
  $("before").addEventListener("click", () => openCrystal(neighbour(-1)));
  $("after").addEventListener("click", () => openCrystal(neighbour(1)));
  $("recentre").addEventListener("click", recentre);
  $("this-cif").addEventListener("click", () => saveCif([current]));
  for (const id of ["supercell", "charges"]) {
    $(id).addEventListener("click", () => {
      $(id).setAttribute("aria-pressed", String($(id).getAttribute("aria-pressed") !== "true"));
      drawCrystals();
    });
  }
}

/** What gives the focus to the control that takes the place of this one: of the same crystal, column or text. */
function refocus(held) {
  const section = held?.closest("section");
  const name = (one) => one.closest("[data-id]")?.dataset.id ?? one.dataset.key ?? one.textContent;
  const wanted = section && name(held);
  return () => {
    if (!section || held.isConnected) return;
    [...section.querySelectorAll(held.localName)].find((one) => name(one) === wanted)?.focus({ preventScroll: true });
  };
}

/** Replace what a part of the page holds; what was unfolded stays so. */
function takeIn(part, other) {
  if (!other) return;
  const unfolded = new Set([...part.querySelectorAll("details[open] > summary")].map((one) => one.textContent));
  part.replaceChildren(...other.childNodes);
  for (const one of part.querySelectorAll("details > summary")) one.parentElement.open ||= unfolded.has(one.textContent);
}

/** Ask the server every so often; where there is news, take it in without losing what a person is looking at. */
function setUpLive() {
  const asked = document.querySelector('meta[name="matsearch-live"]');
  if (!asked) return;
  let { version } = asked.dataset;
  const look = async () => {
    const now = await (await fetch("state")).text();
    if (now === version) return;
    const news = new DOMParser().parseFromString(await (await fetch("./")).text(), "text/html");
    await read(news);
    version = news.querySelector('meta[name="matsearch-live"]').dataset.version;
    const back = refocus(document.activeElement);
    for (const part of document.querySelectorAll("[data-live]")) takeIn(part, news.getElementById(part.id));
    drawAll();
    back();
  };
  const again = () => setTimeout(() => look().catch(() => {}).finally(again), 1000 * Number(asked.content));
  again();
}

async function start() {
  setUpTheme();
  if (typeof DecompressionStream === "undefined") {
    $("broken").textContent = "This browser is too old for the table and the plots (it has no DecompressionStream).";
    $("broken").hidden = false;
    return;
  }
  await read(document);
  setUpControls();
  drawAll();
  setUpLive();
  const asked = /^#candidate-(\d+)$/.exec(location.hash);
  if (asked) openCrystal(Number(asked[1]));
  document.documentElement.dataset.ready = "yes";
}

start();
