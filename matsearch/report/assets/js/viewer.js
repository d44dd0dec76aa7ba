// A crystal in 3D, before and after relaxation, turned together.
const NONMETALS = new Set("H B C N O F Si P S Cl As Se Br Te I".split(" "));
const viewers = {};
let shownCrystals = {};
const reached = {}; // what must be seen of each: places of its atoms and of the cell's corners

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
    const wrapped = crystal.coords[i].map((x) => x - Math.floor(x));
    // On a face is what is near it from either side: relaxed, an atom of a corner may lie at 0.9998.
    const images = wrapped.map((w) => Array.from({ length: n + 2 }, (_, k) => w + k - 1).filter((x) => x >= -0.01 && x <= n + 0.01));
    for (const a of images[0]) for (const b of images[1]) for (const c of images[2]) {
      const [x, y, z] = place(crystal.lattice, [a, b, c]);
      atoms.push({ elem, x, y, z, bonds: [], bondOrder: [], serial: atoms.length, site: i });
    }
  });
  const mixed = crystal.species.some((one) => NONMETALS.has(one)) && crystal.species.some((one) => !NONMETALS.has(one));
  // Radii of metals reach far: beside nonmetals they bond to those alone. Nonmetals also bond to each other (CO3, PO4).
  const bonded = (a, b) => !mixed || NONMETALS.has(a.elem) || NONMETALS.has(b.elem);
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
  reached[side] = [];
  if (!crystal || !viewer) {
    const why = crystal ? "This browser shows no 3D here (WebGL is off)." : side === "relaxed" ? "Not relaxed." : "No crystal.";
    box.append(make("span", { class: "none" }, why));
    viewer?.render();
    return;
  }
  const n = $("supercell").getAttribute("aria-pressed") === "true" ? 2 : 1;
  const atoms = atomsOf(crystal, n);
  viewer.addModel().addAtoms(atoms);
  if (crystal.charges && $("charges").getAttribute("aria-pressed") === "true") {
    for (const { x, y, z, site } of atoms) {
      viewer.addLabel(charged(crystal.charges[site]), {
        position: { x, y, z }, fontSize: 11, fontColor: colour("ink"), backgroundColor: colour("card"), backgroundOpacity: 0.8, alignment: "center", inFront: true,
      });
    }
  }
  viewer.setStyle({}, { sphere: { scale: 0.28, colorscheme: "Jmol" }, stick: { radius: 0.11, colorscheme: "Jmol" } });
  reached[side] = atoms.map(({ x, y, z }) => [x, y, z]);
  const corners = [0, 1].flatMap((a) => [0, 1].flatMap((b) => [0, 1].map((c) => [a, b, c])));
  reached[side].push(...corners.map((f) => place(crystal.lattice, f)));
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

const VIEW = [0.24, 0.12, 0.03, 0.962]; // a quaternion: the third vector up, and none hidden behind another
const [HALF_ANGLE, CAMERA] = [Math.PI / 18, 150]; // of 3Dmol's camera: half of what it sees, and Å from the origin

/** A vector turned as the view is. */
function turned([x, y, z]) {
  const [a, b, c, w] = VIEW;
  const [u, v, s] = cross([a, b, c], [x, y, z]).map((one, k) => one + w * [x, y, z][k]);
  return cross([a, b, c], [u, v, s]).map((one, k) => [x, y, z][k] + 2 * one);
}

/** Show both from the same side, as large as there is room for. */
function recentre() {
  const sides = ["proposed", "relaxed"].filter((side) => shownCrystals[side] && viewers[side]);
  if (!sides.length) return;
  const points = sides.flatMap((side) => reached[side]);
  const middle = (values) => (Math.min(...values) + Math.max(...values)) / 2;
  const centre = [0, 1, 2].map((k) => middle(points.map((one) => one[k])));
  const box = $(`view-${sides[0]}`);
  const slope = Math.tan(HALF_ANGLE);
  const wide = slope * Math.max(0.2, box.clientWidth / Math.max(1, box.clientHeight));
  const away = points.map((point) => {
    const [right, up, near] = turned(point.map((one, k) => one - centre[k]));
    return near + Math.max((Math.abs(up) + 0.9) / slope, (Math.abs(right) + 0.9) / wide);
  });
  for (const side of sides) viewers[side].resize();
  // They are linked: what the last one does the other follows.
  viewers[sides.at(-1)].setView([...centre.map((one) => -one), CAMERA - Math.max(...away), ...VIEW]);
  for (const side of sides) viewers[side].render();
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
