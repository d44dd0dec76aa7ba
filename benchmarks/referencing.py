"""Labels of another functional on the network of CHGNet: with and without elemental referencing.

    python benchmarks/referencing.py [--structures 800] [--seed 0]

Labels are r2SCAN energies by `chgnet-r2scan`, the network is that of `chgnet-0.3.0`; the crystals are phases on the
shipped hull of up to 12 atoms with any of the elements that both know, rattled by 0.1 Å. Prints

- how labels correlate with what 0.3.0 predicts, as they are, with each model's own references taken out, and with the
  composition energies refitted (network's part against label without them);
- the error of E_network + references on crystals that were held out, for N = 51, 200, 500 fitted: composition energies
  fitted to the labels themselves by plain least squares (as a composition model is initialised), to the residual by
  plain least squares, to the residual shrunk towards the old ones (`matsearch.training.referencing`), and, where the
  folder named in MATSEARCH_SHARED has `data/elemental_refs.parquet`, shrunk towards the old ones shifted by what the
  functionals make of the elements (lowest phase of MatPES-r2SCAN less that of MP-PBE). First for held-out crystals of
  elements that fitted ones hold, then for the others.
"""

from __future__ import annotations

import argparse
import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from matsearch.potential import load_potential
from matsearch.records import Rejection
from matsearch.reference import load_reference
from matsearch.training.referencing import composition_counts, refit

SIZES = (51, 200, 500)
HELD_OUT = 250


def crystals(n: int, elements: frozenset[str], rng: np.random.Generator) -> list:
    """Rattled phases of the hull, drawn without regard to their elements."""
    reference = load_reference("chgnet-0.3.0")
    phases = reference.phases
    phases = phases[(phases.energy_above_hull == 0) & phases.n_atoms.between(2, 12)]
    found = []
    for phase_id in rng.permutation(phases["id"].to_numpy()):
        structure = reference.structure(phase_id)
        if {element.symbol for element in structure.composition.elements} <= elements:
            found.append(structure.perturb(0.1, seed=int(rng.integers(2**31))))
        if len(found) == n:
            break
    return found


def elemental_shifts() -> dict[str, float]:
    """eV/atom from PBE to r2SCAN of the lowest phase of each element; empty without the data."""
    path = Path(os.environ.get("MATSEARCH_SHARED", "")) / "data/elemental_refs.parquet"
    if not path.is_file():
        return {}
    lowest = pd.read_parquet(path).groupby(["set", "element"])["energy_per_atom_eV"].min()
    return (lowest["MatPES-r2SCAN"] - lowest["MP-PBE"]).dropna().to_dict()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--structures", type=int, default=max(SIZES) + HELD_OUT)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    rng = np.random.default_rng(asked.seed)
    network, labeller = load_potential("chgnet-0.3.0"), load_potential("chgnet-r2scan")
    structures = crystals(asked.structures, network.elements & labeller.elements, rng)
    predicted, labels = network.energies(structures), labeller.energies(structures)
    known = [i for i in range(len(structures)) if not any(isinstance(one[i], Rejection) for one in (predicted, labels))]
    symbols, old = zip(*network.energy_references.items(), strict=True)
    counts = composition_counts([structures[i] for i in known], symbols)
    sizes, old = counts.sum(1), np.array(old)
    own = np.array([labeller.energy_references.get(symbol, np.nan) for symbol in symbols])
    predicted, labels = (np.array([one[i] for i in known]) for one in (predicted, labels))
    parts = predicted - counts @ old
    residuals = labels - parts
    shifts = (own - old)[np.isfinite(own)]
    print(f"{len(known)} crystals; references differ by {shifts.mean():.1f} +- {shifts.std():.1f} eV/atom")

    def correlation(first: np.ndarray, second: np.ndarray) -> float:
        return float(np.corrcoef(first / sizes, second / sizes)[0, 1])

    everything = refit(counts, residuals, old, symbols)
    print("correlation of labels with 0.3.0, per atom")
    print(f"  as they are               {correlation(labels, predicted):+.3f}")
    print(f"  each without its own      {correlation(labels - counts @ np.nan_to_num(own), parts):+.3f}")
    print(f"  refitted                  {correlation(labels - counts @ everything.energies, parts):+.3f}")
    print(f"  left out as wrong         {len(everything.left_out)}")
    held = slice(len(known) - HELD_OUT, None)
    known_shifts = elemental_shifts()
    shifted = old + np.array([known_shifts.get(symbol, 0.0) for symbol in symbols])
    print("held-out mean absolute error in meV/atom")
    columns = ("labels, LSQ", "residual, LSQ", "shrunk", *(["to shifted"] if known_shifts else []))
    print(f"{'N':>5} {'elements':>9} {'crystals':>14}" + "".join(f"{name:>15}" for name in columns))
    for n in SIZES:
        if n > len(known) - HELD_OUT:
            break
        shown = slice(0, n)
        seen = counts[shown].any(0)
        whole = ~counts[held][:, ~seen].any(1)
        fractions = counts[shown] / sizes[shown, None]
        on_labels = np.linalg.lstsq(fractions, labels[shown] / sizes[shown], rcond=None)[0]
        plain = np.linalg.lstsq(fractions, residuals[shown] / sizes[shown], rcond=None)[0]
        shrunk = refit(counts[shown], residuals[shown], old, symbols)
        fits = [(0.0, on_labels), (parts[held], plain), (parts[held], shrunk.energies)]
        if known_shifts:
            fits.append((parts[held], refit(counts[shown], residuals[shown], shifted, symbols).energies))
        for name, chosen in (("seen", whole), ("unseen", ~whole)):
            errors = [1000 * np.abs(labels[held] - base - counts[held] @ e) / sizes[held] for base, e in fits]
            means = "".join(f"{one[chosen].mean():15.1f}" if chosen.any() else f"{'-':>15}" for one in errors)
            print(f"{n:5} {int(seen.sum()):9} {int(chosen.sum()):7} {name:6}{means}")


if __name__ == "__main__":
    main()
