// A crystal in 3D, before and after relaxation, turned together.
const NONMETALS = new Set("H B C N O F Si P S Cl As Se Br Te I".split(" "));
const viewers = {};
let shownCrystals = {};

/** 3Dmol's viewer in a box; null where the browser has no WebGL. */
function viewerIn(side) {
  if (side in viewers) return viewers[side];
  const box = $(`view-${side}`);
  // The wheel scrolls the page; with Ctrl it zooms, as two fingers do.
  box.addEventListener("wheel", (event) => { if (!event.ctrlKey) event.stopPropagation(); }, { capture: true, passive: true });
  const canvas = document.createElement("canvas");
  const able = canvas.getContext("webgl2") ?? canvas.getContext("webgl");
  viewers[side] = able ? $3Dmol.createViewer(box, { backgroundAlpha: 0, disableFog: true, antialias: true }) : null;
  if (viewers.proposed && viewers.relaxed) {
    viewers.proposed.linkViewer(viewers.relaxed);
    viewers.relaxed.linkViewer(viewers.proposed);
  }
  return viewers[side];
}

const place = (lattice, f) => [0, 1, 2].map((k) => f[0] * lattice[0][k] + f[1] * lattice[1][k] + f[2] * lattice[2][k]);

/** Atoms of a cell (or 2 x 2 x 2 of them), those on its faces shown on all of them, with bonds. */
function atomsOf(crystal, n) {
  const atoms = [];
  crystal.species.forEach((elem, i) => {
    const wrapped = crystal.coords[i].map((x) => { const w = x - Math.floor(x + 1e-4); return Math.abs(w) < 1e-4 ? 0 : w; });
    const images = wrapped.map((w) => Array.from({ length: n + 1 }, (_, k) => w + k).filter((x) => x <= n + 0.01));
    for (const a of images[0]) for (const b of images[1]) for (const c of images[2]) {
      const [x, y, z] = place(crystal.lattice, [a, b, c]);
      atoms.push({ elem, x, y, z, bonds: [], bondOrder: [], serial: atoms.length });
    }
  });
  const mixed = crystal.species.some((one) => NONMETALS.has(one)) && crystal.species.some((one) => !NONMETALS.has(one));
  const bonded = (a, b) => !mixed || NONMETALS.has(a.elem) !== NONMETALS.has(b.elem);
  if (atoms.length > 1200) return atoms;
  for (let i = 0; i < atoms.length; i++) for (let j = i + 1; j < atoms.length; j++) {
    const [a, b] = [atoms[i], atoms[j]];
    const reach = 1.15 * (radiusOf(a.elem) + radiusOf(b.elem));
    const distance = Math.hypot(a.x - b.x, a.y - b.y, a.z - b.z);
    if (distance < reach && distance > 0.4 && bonded(a, b)) {
      a.bonds.push(j); a.bondOrder.push(1); b.bonds.push(i); b.bondOrder.push(1);
    }
  }
  return atoms;
}

function drawCrystal(side, crystal) {
  const box = $(`view-${side}`);
  box.querySelector(".none")?.remove();
  const viewer = crystal ? viewerIn(side) : viewers[side];
  viewer?.clear();
  if (!crystal || !viewer) {
    const why = crystal ? "This browser shows no 3D here (WebGL is off)." : side === "relaxed" ? "Not relaxed." : "No crystal.";
    box.append(make("span", { class: "none" }, why));
    viewer?.render();
    return;
  }
  const n = $("supercell").getAttribute("aria-pressed") === "true" ? 2 : 1;
  viewer.addModel().addAtoms(atomsOf(crystal, n));
  viewer.setStyle({}, { sphere: { scale: 0.28, colorscheme: "Jmol" }, stick: { radius: 0.11, colorscheme: "Jmol" } });
  const corners = [0, 1].flatMap((a) => [0, 1].flatMap((b) => [0, 1].map((c) => [a, b, c])));
  for (const from of corners) for (const axis of [0, 1, 2]) {
    if (from[axis]) continue;
    const to = from.map((value, k) => (k === axis ? 1 : value));
    const [start, end] = [from, to].map((f) => { const [x, y, z] = place(crystal.lattice, f); return { x, y, z }; });
    viewer.addCylinder({ start, end, radius: 0.035, color: colour("soft") });
  }
}

function drawCrystals() {
  for (const side of ["proposed", "relaxed"]) drawCrystal(side, shownCrystals[side]);
  recentre();
}

function recentre() {
  const shown = ["proposed", "relaxed"].map((side) => shownCrystals[side] && viewers[side]).filter(Boolean);
  for (const viewer of shown) {
    viewer.resize();
    viewer.setView([0, 0, 0, 0, 0.24, 0.12, 0.03, 0.96]);
    viewer.zoomTo();
  }
  // They are linked: what the last one does the other follows.
  shown.at(-1)?.zoom(1.2);
  for (const viewer of shown) viewer.render();
}

function drawLegend(crystal) {
  const symbols = [...new Set(crystal?.species ?? [])];
  $("legend").replaceChildren(
    ...symbols.map((symbol) => {
      const dot = make("i");
      dot.style.background = `#${($3Dmol.elementColors.Jmol[symbol] ?? 0xff1493).toString(16).padStart(6, "0")}`;
      return make("span", {}, dot, symbol);
    }),
  );
}
