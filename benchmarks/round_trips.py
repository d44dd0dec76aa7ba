"""Phases of the shipped reference, written in every representation and read back from a reply.

    python benchmarks/round_trips.py [number of crystals, 2000 by default]

The crystals are spread evenly over the space groups (seed 0). A reply holds one crystal between prose, in a code fence
or, for JSON, bare. Prints how many were written, read and are the same (site by site where the cell is kept, else by
StructureMatcher), by how much the volume changed and how far the sites moved (root mean square of a crystal), how long
the text is and what it costs.
"""

import sys
import time
import warnings
from collections import Counter

import numpy as np
from pymatgen.analysis.structure_matcher import StructureMatcher

from matsearch.crystal.representations import REPRESENTATIONS
from matsearch.propose import parse_reply
from matsearch.records import Rejection
from matsearch.reference import load_reference

MATCHER = StructureMatcher(ltol=0.01, stol=0.02, angle_tol=0.5, scale=False)


def spread_sample(reference, number):
    """Crystals, one of every space group in turn."""
    phases = reference.phases.sample(frac=1, random_state=0)
    turn = phases.groupby("spacegroup").cumcount()
    chosen = phases.assign(turn=turn).sort_values(["turn", "spacegroup"], kind="stable").head(number)
    return [reference.structure(one) for one in chosen.id]


def distance(crystal, found):
    """Root mean square in Å by which sites moved; None for another crystal."""
    if np.allclose(crystal.lattice.parameters, found.lattice.parameters, atol=1e-3) and len(crystal) == len(found):
        one, other = (sorted(each, key=lambda site: site.specie.symbol) for each in (crystal, found))
        if [site.specie for site in one] == [site.specie for site in other]:
            apart = np.array([a.frac_coords - b.frac_coords for a, b in zip(one, other, strict=True)])
            moved = np.linalg.norm((apart - np.round(apart)) @ crystal.lattice.matrix, axis=1)
            if moved.max() < 0.02:
                return float(np.sqrt((moved**2).mean()))
    matched = MATCHER.get_rms_dist(crystal, found)
    return None if matched is None else matched[0] * (crystal.volume / len(crystal)) ** (1 / 3)


def main():
    warnings.simplefilter("ignore")
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    crystals = spread_sample(load_reference("chgnet-0.3.0"), number)
    print(f"{len(crystals)} crystals, {np.mean([len(one) for one in crystals]):.1f} atoms on average")
    print(
        "               written   read   same   volume, % (max)   sites, Å (mean, max)   characters   write, read, ms"
    )
    for name, representation in REPRESENTATIONS.items():
        n_written = n_read = 0
        reasons, moved, strained, lengths = Counter(), [], [], []
        write_time = read_time = 0.0
        for crystal in crystals:
            start = time.perf_counter()
            try:
                text = representation.write(crystal)
            except ValueError as err:
                reasons[str(err)[:70]] += 1
                continue
            finally:
                write_time += time.perf_counter() - start
            n_written += 1
            lengths.append(len(text))
            reply = text if representation.schema else f"Here it is:\n\n```\n{text}```\nIt may be stable."
            start = time.perf_counter()
            (found,) = parse_reply(reply)
            read_time += time.perf_counter() - start
            if isinstance(found, Rejection):
                reasons[f"{found.reason}: {found.detail}"[:70]] += 1
                continue
            n_read += 1
            away = distance(crystal, found)
            if away is None:
                reasons[f"another crystal: {crystal.formula}"] += 1
                continue
            moved.append(away)
            strained.append(abs(found.volume / len(found) / crystal.volume * len(crystal) - 1))
        print(
            f"{name:14s} {n_written:7d} {n_read:6d} {len(moved):6d} {100 * max(strained):17.4f} "
            f"{np.mean(moved):14.5f} {max(moved):7.4f} {np.mean(lengths):12.0f} "
            f"{1e3 * write_time / len(crystals):11.2f} {1e3 * read_time / max(n_written, 1):9.2f}"
        )
        for reason, count in reasons.most_common(8):
            print(f"    {count:5d}  {reason}")


if __name__ == "__main__":
    main()
