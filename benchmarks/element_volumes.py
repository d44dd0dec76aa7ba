"""Fits the table of `matsearch.propose.operators.volumes` to the known phases that come with the package, and says how
well ratios of volumes come out on phases that were not fitted.

    python benchmarks/element_volumes.py [--table]
"""

from __future__ import annotations

import sys
from collections import defaultdict

import numpy as np
from scipy.optimize import nnls

from matsearch.propose.operators.oxidation import is_alloy
from matsearch.reference.catalogue import amounts_in
from matsearch.reference.known import load_reference

HEIGHT, MAX_ATOMS = 0.05, 24


def main() -> None:
    reference = load_reference("chgnet-0.3.0")
    table = reference.phases
    table = table[(table["energy_above_hull"] <= HEIGHT) & (table["n_atoms"] <= MAX_ATOMS)]
    table = table.iloc[np.random.default_rng(0).permutation(len(table))].reset_index(drop=True)
    amounts = [amounts_in(formula) for formula in table["formula"]]
    structures = (reference.structure(phase_id) for phase_id in table["id"])
    volumes = np.array([one.volume / len(one) for one in structures])
    elements = sorted({symbol for one in amounts for symbol in one})
    shares = np.array([[one.get(symbol, 0) / sum(one.values()) for symbol in elements] for one in amounts])
    alloy = np.array([is_alloy(one) for one in amounts])
    first = np.arange(len(amounts)) % 2 == 0
    half = {kind: fit(shares, volumes, first & (alloy == kind)) for kind in (False, True)}
    report(table["prototype"], amounts, shares, volumes, alloy, first, half)
    if "--table" in sys.argv:
        whole = {kind: fit(shares, volumes, alloy == kind) for kind in (False, True)}
        seen = {kind: (shares[alloy == kind] > 0).sum(axis=0) for kind in (False, True)}
        for index, symbol in enumerate(elements):
            values = [f"{whole[kind][index]:.1f}" if seen[kind][index] >= 5 else "-" for kind in (False, True)]
            if set(values) != {"-"}:
                print(symbol, *values)


def fit(shares: np.ndarray, volumes: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Volumes of the elements, positive, by least squares of relative errors; 20 Å^3 for what is not seen."""
    n = shares.shape[1]
    matrix = np.vstack([shares[chosen] / volumes[chosen][:, None], 1e-3 * np.eye(n)])
    return nnls(matrix, np.concatenate([np.ones(chosen.sum()), np.full(n, 0.02)]))[0]


def report(prototypes, amounts, shares, volumes, alloy, first, fitted) -> None:
    groups = defaultdict(list)
    for row in np.flatnonzero(~first):
        groups[prototypes[row]].append(row)
    errors = defaultdict(list)
    for rows in groups.values():
        for number, one in enumerate(rows):
            for other in rows[number + 1 : number + 12]:
                if len(set(amounts[one]) ^ set(amounts[other])) == 2 and alloy[one] == alloy[other]:
                    table = fitted[bool(alloy[one])]
                    true = np.log(volumes[other] / volumes[one])
                    expected = np.log(shares[other] @ table / (shares[one] @ table))
                    errors[bool(alloy[one])].append((true, true - expected))
    for kind, found in errors.items():
        plain, left = np.sqrt(np.mean(np.square(found), axis=0))
        print(
            f"{'alloys' if kind else 'with a non-metal'}: {len(found)} pairs of one prototype, one element different;"
            f" rms log ratio of volumes {plain:.3f}, left by the table {left:.3f}"
        )


if __name__ == "__main__":
    main()
