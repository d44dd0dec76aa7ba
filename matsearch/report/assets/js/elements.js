// Elements: place in the periodic table, and covalent radii in Å (B. Cordero et al., Dalton Trans. 2008, 2832).
const SYMBOLS = `
H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb Mo Tc
Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi
Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr
`.split(/\s+/).filter(Boolean);
const RADII = [
  0.31, 0.28, 1.28, 0.96, 0.84, 0.76, 0.71, 0.66, 0.57, 0.58, 1.66, 1.41, 1.21, 1.11, 1.07, 1.05, 1.02, 1.06, 2.03,
  1.76, 1.7, 1.6, 1.53, 1.39, 1.39, 1.32, 1.26, 1.24, 1.32, 1.22, 1.22, 1.2, 1.19, 1.2, 1.2, 1.16, 2.2, 1.95, 1.9,
  1.75, 1.64, 1.54, 1.47, 1.46, 1.42, 1.39, 1.45, 1.44, 1.42, 1.39, 1.39, 1.38, 1.39, 1.4, 2.44, 2.15, 2.07, 2.04,
  2.03, 2.01, 1.99, 1.98, 1.98, 1.96, 1.94, 1.92, 1.92, 1.89, 1.9, 1.87, 1.87, 1.75, 1.7, 1.62, 1.51, 1.44, 1.41,
  1.36, 1.36, 1.32, 1.45, 1.46, 1.48, 1.4, 1.5, 1.5, 2.6, 2.21, 2.15, 2.06, 2, 1.96, 1.9, 1.87, 1.8, 1.69, 2, 2, 2, 2,
  2, 2, 2,
];
const NUMBER = new Map(SYMBOLS.map((symbol, index) => [symbol, index + 1]));

/** Covalent radius in Å; 1.5 for what has none. */
const radiusOf = (symbol) => RADII[(NUMBER.get(symbol) ?? 0) - 1] ?? 1.5;

/** Row and column (from 1) in the table of 18 columns; lanthanides and actinides stand in rows 8 and 9. */
function placeOf(number) {
  if (number >= 57 && number <= 71) return [8, number - 57 + 3];
  if (number >= 89) return [9, number - 89 + 3];
  const noble = [0, 2, 10, 18, 36, 54, 86];
  const row = noble.findLastIndex((last) => number > last) + 1;
  const position = number - noble[row - 1];
  if (row === 1) return [1, number === 1 ? 1 : 18];
  if (row < 4) return [row, position <= 2 ? position : position + 10];
  if (row < 6) return [row, position];
  return [row, position <= 2 ? position : position - 14];
}

/** Element to amount of a formula such as Ca(AlO2)2. */
function amountsOf(formula) {
  const stack = [new Map()];
  const add = (symbol, n) => stack.at(-1).set(symbol, (stack.at(-1).get(symbol) ?? 0) + n);
  for (const [whole, symbol, n, outer] of (formula ?? "").matchAll(/([A-Z][a-z]?)(\d*\.?\d*)|\(|\)(\d*\.?\d*)/g)) {
    if (symbol) add(symbol, Number(n || 1));
    else if (whole === "(") stack.push(new Map());
    else if (stack.length > 1) for (const [one, m] of stack.pop()) add(one, m * Number(outer || 1));
  }
  return stack[0];
}

/** Element to share of the atoms. */
function fractionsOf(formula) {
  const amounts = amountsOf(formula);
  const sum = [...amounts.values()].reduce((a, b) => a + b, 0);
  return new Map([...amounts].map(([symbol, n]) => [symbol, n / sum]));
}

/** A formula as nodes, its numbers set low. */
function formulaNodes(formula) {
  return [...(formula ?? "no crystal").matchAll(/([A-Z][a-z]?|\))(\d+\.?\d*)|[^]/gu)].map(([whole, before, digits]) => {
    if (digits === undefined) return whole;
    const low = document.createElement("sub");
    low.textContent = digits;
    const pair = document.createElement("span");
    pair.append(before, low);
    return pair;
  });
}
