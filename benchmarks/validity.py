"""Validity, uniqueness and novelty against labels that others gave.

    MATSEARCH_SHARED=FOLDER python benchmarks/validity.py

Reads from FOLDER/data: `validity_labelled_cifs.parquet` (verdicts of SMACT and of LeMat-GenBench),
`crystallm_cifs_labelled.parquet` (CIFs written by CrystaLLM-pi with its labels) and `mp_structures.parquet`.
Rates stand with 95 % Wilson intervals; every disagreement is counted by reason. Takes a few minutes on one core.
"""

import os
import random
import re
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from pymatgen.core import Composition, Lattice, Structure

from matsearch.crystal.charges import check_charges
from matsearch.crystal.checks import check_structure
from matsearch.crystal.files import cif_structure
from matsearch.crystal.identity import KnownStructures, reduced_formula
from matsearch.metrics.discovery import wilson_interval
from matsearch.records import Rejection


def main():
    folder = os.environ.get("MATSEARCH_SHARED")
    if not folder or not (Path(folder) / "data").is_dir():
        print("MATSEARCH_SHARED names no folder with data/: nothing to compare with")
        return
    data = Path(folder) / "data"
    warnings.simplefilter("ignore")
    for name, compare in (
        ("validity_labelled_cifs.parquet", compare_validity),
        ("crystallm_cifs_labelled.parquet", compare_with_crystallm),
    ):
        print(f"\n== {name}")
        if (data / name).is_file():
            compare(pd.read_parquet(data / name), data)
        else:
            print("absent: skipped")


def rate(successes, trials):
    if trials == 0:
        return "0 of 0"
    low, high = wilson_interval(int(successes), int(trials))
    return f"{int(successes):5d} of {int(trials):5d} = {successes / trials:.3f} [{low:.3f}, {high:.3f}]"


def read(cifs):
    """Structures, or what stood against reading them."""
    start = time.perf_counter()
    found = [cif_structure(text) for text in cifs]
    refused = Counter(one.reason for one in found if isinstance(one, Rejection))
    print(f"read {len(found)} CIFs in {time.perf_counter() - start:.0f} s; unreadable: {dict(refused) or 'none'}")
    return found


def judge(check, structures):
    """The rejection of each structure or None, and the times taken in ms."""
    verdicts, times = [], []
    for structure in structures:
        start = time.perf_counter()
        verdicts.append(structure if isinstance(structure, Rejection) else check(structure))
        times.append(1e3 * (time.perf_counter() - start))
    return verdicts, times


def print_reasons(kind, rejections, n_examples=6):
    """How often each reason stood, with examples."""
    reasons = Counter(one.reason for _, one in rejections)
    for reason, n in reasons.most_common():
        print(f"  {kind}: {reason} {n}")
        for formula, one in [pair for pair in rejections if pair[1].reason == reason][:n_examples]:
            print(f"    {formula}: {one.detail[:170]}")


# --- SMACT and LeMat-GenBench ------------------------------------------------------------------------------------


def compare_validity(frame, _data):
    """Recall of the rows where both checkers agree, by charge alone, by structure alone, by both."""
    structures = read(frame.cif)
    formulas = frame.cif.str.extract(r"data_(\S+)")[0]
    # Tables are read at the first call.
    check_charges(Structure(Lattice.cubic(4.2), ["Ho", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]))
    charges, charge_times = judge(check_charges, structures)
    sound, sound_times = judge(check_structure, structures)
    for name, times in (("charge_valid", charge_times), ("structurally_valid", sound_times)):
        print(
            f"{name}: mean {np.mean(times):.2f} ms, 99 % below {np.quantile(times, 0.99):.1f} ms, most {max(times):.1f}"
        )
    passes = {
        "charge_valid": np.array([one is None for one in charges]),
        "structurally_valid": np.array([one is None for one in sound]),
    }
    passes["both"] = passes["charge_valid"] & passes["structurally_valid"]
    verdict = frame.verdict.to_numpy()
    for name, ok in passes.items():
        print(f"{name}:")
        print(
            f"  recall, both say valid      {rate(ok[verdict == 'both_valid'].sum(), (verdict == 'both_valid').sum())}"
        )
        refused = (~ok)[verdict == "both_invalid"]
        print(f"  recall, both say invalid    {rate(refused.sum(), refused.size)}")
        for split in ("ours_valid_smact_invalid", "smact_valid_ours_invalid"):
            print(f"  accepted, {split:25s} {rate(ok[verdict == split].sum(), (verdict == split).sum())}")
    print("charge_valid by the seed of the sample (valid, invalid):")
    for seed, rows in pd.DataFrame({"seed": frame.seed, "verdict": verdict, "ok": passes["charge_valid"]}).groupby(
        "seed"
    ):
        valid, invalid = rows[rows.verdict == "both_valid"].ok, ~rows[rows.verdict == "both_invalid"].ok
        print(f"  {seed:10s} {valid.mean():.3f} of {valid.size}   {invalid.mean():.3f} of {invalid.size}")
    print("disagreements:")
    refused = [i for i in np.flatnonzero(verdict == "both_valid") if charges[i]]
    sides = Counter(side_of(charges[i]) for i in refused)
    print(f"  labelled valid, refused: {', '.join(f'{side} {n}' for side, n in sides.most_common())}")
    print_reasons("labelled valid", [(formulas[i], charges[i]) for i in refused], 40)
    print_reasons(
        "labelled valid", [(formulas[i], sound[i]) for i in np.flatnonzero(verdict == "both_valid") if sound[i]]
    )
    accepted = [i for i in np.flatnonzero(verdict == "both_invalid") if charges[i] is None]
    for name, found in (
        ("by composition", [i for i in accepted if is_neutral_by_composition(structures[i])]),
        ("by bonds", [i for i in accepted if not is_neutral_by_composition(structures[i])]),
    ):
        print(f"  labelled invalid, accepted {name} {len(found)}: {' '.join(formulas[i] for i in found)}")


def side_of(rejection):
    """Which charge was left over in the assignment that came nearest."""
    found = re.search(r"nearest ([+-])", rejection.detail)
    return "no assignment" if found is None else "cations left over" if found[1] == "+" else "anions left over"


def is_neutral_by_composition(structure):
    """The verdict when the atoms are too far apart for any bond."""
    apart = structure.copy()
    apart.scale_lattice(64 * apart.volume)
    return check_charges(apart) is None


# --- CrystaLLM-pi ------------------------------------------------------------------------------------------------


def compare_with_crystallm(frame, data):
    """Its labels: valid by bond lengths and consistency; unique by a hash; novel against its training set."""
    structures = read(frame.Generated_CIF)
    sound, _ = judge(check_structure, structures)
    charges, _ = judge(check_charges, structures)
    label = frame.is_valid.to_numpy()
    sound_ok, charge_ok = (np.array([one is None for one in found]) for found in (sound, charges))
    for name, ok in (
        ("structurally_valid", sound_ok),
        ("charge_valid", charge_ok),
        ("both", sound_ok & charge_ok),
    ):
        print(f"{name}: of its valid   {rate(ok[label].sum(), label.sum())}")
        print(f"{'':{len(name)}s}  of its invalid {rate(ok[~label].sum(), (~label).sum())}")
    print("labelled valid, refused here:")
    print_reasons("structure", [(formula_of(structures[i]), sound[i]) for i in np.flatnonzero(label) if sound[i]])
    print_reasons("charge", [(formula_of(structures[i]), charges[i]) for i in np.flatnonzero(label) if charges[i]])
    explain_invalid(frame, structures, np.flatnonzero(~label & sound_ok))
    compare_unique(frame, structures)
    compare_novel(frame, structures, data)


def formula_of(structure):
    return "?" if isinstance(structure, Rejection) else structure.composition.reduced_formula


def explain_invalid(frame, structures, rows):
    """Why it calls invalid what is structurally valid here: its rule, applied to a sample."""
    print(
        f"labelled invalid, structurally valid here: {len(rows)}. Its rule asks for equal formulas in the header,\n"
        "  multiplicities that give them, the stated space group, and every CrystalNN bond within 32 % of the sum of\n"
        "  the radii (below 2.5 times where H is bonded); charges play no part"
    )
    reasons = Counter()
    sample = random.Random(0).sample(list(rows), min(60, len(rows)))
    for i in sample:
        reasons[why_invalid(frame.Generated_CIF[i], structures[i])] += 1
    for reason, n in reasons.most_common():
        print(f"  of a sample of {len(sample)}: {reason} {n}")


def why_invalid(text, structure):
    stated = re.search(r"_chemical_formula_sum\s+'([^']*)'", text)
    if stated is None or Composition(stated[1]).reduced_formula != structure.composition.reduced_formula:
        return "the sites do not give the stated formula"
    odd = worst_bond(structure)
    if odd is None:
        return "no bonds"
    ratio, has_hydrogen = odd
    if has_hydrogen:
        return "a bond of H beyond 2.5 times the radii"
    if not 0.68 < ratio < 1.32:
        return f"a bond {'shorter than 0.68' if ratio < 1 else 'longer than 1.32'} times the radii"
    return "none of these (multiplicities or space group)"


def worst_bond(structure):
    """Length over sum of radii of the bond furthest outside its limits; None without bonds."""
    from pymatgen.analysis.local_env import CrystalNN

    finder = CrystalNN()
    worst = None
    for i, site in enumerate(structure):
        for found in finder.get_nn_info(structure, i):
            if found["site_index"] == i:
                continue
            low, high = sorted((site.specie, found["site"].specie), key=lambda element: element.X)
            if high.X - low.X >= 1.7:
                expected = low.average_cationic_radius + high.average_anionic_radius
            else:
                expected = low.atomic_radius + high.atomic_radius
            ratio = site.distance(found["site"]) / expected if expected else np.inf
            has_hydrogen = "H" in (low.symbol, high.symbol)
            excess = ratio / 2.5 if has_hydrogen else max(ratio / 1.32, 0.68 / ratio)
            if worst is None or excess > worst[0]:
                worst = (excess, ratio, has_hydrogen and excess > 1)
    return None if worst is None else worst[1:]


def compare_unique(frame, structures):
    """Its uniqueness is a hash of bonds, space group and formula, and keeps the best of equals, not the first."""
    known, chosen, ours = KnownStructures(), KnownStructures(), []
    start = time.perf_counter()
    rows = np.flatnonzero(frame.is_valid)
    for i in rows:
        ours.append(known.match_any(structures[i]) is None)
        known.add(i, structures[i])
    spent = time.perf_counter() - start
    unique = frame.is_unique.to_numpy()[rows]
    each = 1e3 * spent / len(rows)
    print(f"unique among its {len(rows)} valid: label {unique.sum()}, here {sum(ours)} ({each:.1f} ms each)")
    merged = 0
    for i in rows[unique]:
        merged += chosen.match_any(structures[i]) is not None
        chosen.add(i, structures[i])
    print(f"  label unique, but the same here as an earlier label unique {rate(merged, unique.sum())}")
    again = sum(chosen.match_any(structures[i]) is not None for i in rows[~unique])
    print(f"  label duplicate, and the same here as a label unique       {rate(again, (~unique).sum())}")
    print("  (the rest of either: its hash tells apart, or takes as one, what StructureMatcher does not)")


def compare_novel(frame, structures, data):
    """Its novelty is asked of unique crystals only, against its own training set, by the same StructureMatcher."""
    path = data / "mp_structures.parquet"
    if not path.is_file():
        print("novel: mp_structures.parquet is absent: skipped")
        return
    rows = np.flatnonzero(frame.is_unique)
    wanted = {reduced_formula(structures[i]) for i in rows}
    known, listed = load_known(path, wanted)
    start = time.perf_counter()
    ours = np.array([known.match_any(structures[i]) is None for i in rows])
    spent = time.perf_counter() - start
    label = frame.is_novel.to_numpy()[rows]
    print(
        f"novel among its {len(rows)} unique: label {label.sum()}, here {ours.sum()} "
        f"against {len(known)} Materials Project structures of these formulas ({1e3 * spent / len(rows):.1f} ms each)"
    )
    print(f"  agree {rate((ours == label).sum(), len(rows))}")
    with_formula = np.array([reduced_formula(structures[i]) in listed for i in rows])
    print(f"  label novel, known here: {(label & ~ours).sum()} (its training set is not the whole of this snapshot)")
    missed = ~label & ours
    print(
        f"  label known, novel here: {missed.sum()}; of these {(missed & ~with_formula).sum()} have a formula that the "
        "snapshot lacks (its training set holds other crystals)"
    )


def load_known(path, wanted):
    """Structures of the formulas wanted, by id, and the formulas found."""
    formulas = pq.read_table(path, columns=["formula"]).column("formula").to_pylist()
    keys = {formula: Composition(formula).reduced_formula for formula in set(formulas)}
    asked = {Composition(formula).reduced_formula for formula in wanted}
    hits = np.flatnonzero([keys[formula] in asked for formula in formulas])
    table = pq.read_table(path, columns=["material_id", "lattice", "species", "frac_coords"]).take(hits).to_pylist()
    known, listed = KnownStructures(), set()
    for row in table:
        coords = np.array(row["frac_coords"], dtype=float).reshape(-1, 3)
        structure = Structure(Lattice.from_parameters(*row["lattice"]), row["species"], coords)
        known.add(row["material_id"], structure)
        listed.add(reduced_formula(structure))
    return known, listed


if __name__ == "__main__":
    sys.exit(main())
