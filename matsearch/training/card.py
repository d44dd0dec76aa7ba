"""The card of a trained potential: what it was trained on, what it knows, how well, where it ends, whose it is."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from matsearch.training.data import BadRow
from matsearch.training.epochs import CURVES, Epoch
from matsearch.training.refit import Refitted
from matsearch.training.softening import softening
from matsearch.training.targets import SCRATCH

CARD, LEFT_OUT = "MODEL_CARD.md", "left_out.csv"
MOST_COMPARED = 500
"""Structures whose forces the softening scale is of."""


def write_card(folder: Path, made: Refitted, files: Sequence[Path], bad: Sequence[BadRow], data_licence: str) -> None:
    """Write the card of a potential, and the rows that were left out, each with its reason, beside it.

    Args:
        folder: Of the potential.
        made: What training gave.
        files: What the labels are from.
        bad: Rows that could not be read.
        data_licence: Of the data, in words; empty where nobody said.
    """
    left_out = [*bad, *made.targets.bad]
    with (folder / LEFT_OUT).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["source", "reason", "trained_on"])
        writer.writerows([one.source, one.reason, "no"] for one in left_out)
        writer.writerows([one.source, one.reason, "yes"] for one in made.targets.suspects)
    lines = [
        f"# {folder.resolve().name}",
        "",
        *_facts(made, files, len(left_out), data_licence),
        "",
        *_errors(made),
        "",
        *_limits(made),
    ]
    (folder / CARD).write_text("\n".join(lines) + "\n", "utf-8")


def _facts(made: Refitted, files: Sequence[Path], n_left_out: int, data_licence: str) -> list[str]:
    targets, settings = made.targets, made.settings
    parts = ["the network and its composition energies"]
    parts += {
        "pqeq": ["PQEq less PQEq screened at 2 Å (`pqeq-far`)"],
        "latent": ["the Ewald sum of latent charges"],
    }.get(settings.long_range, [])
    parts += [] if settings.dispersion is None else [settings.dispersion]
    scratch = settings.start == SCRATCH
    held = sorted({row.structure.composition.reduced_formula for row in made.held_out})
    counts = Counter(chemical_symbols[number] for one in targets.training for number in set(one.numbers.tolist()))
    labels = {
        name: sum(bool(np.isfinite(getattr(one, name)).any()) for one in targets.training)
        for name in ("forces", "stress")
    }
    end = made.history[-1]
    own = "random weights" if scratch else f"the weights of {settings.start}"
    charges = {"pqeq": ", charges", "latent": ", charges up to one sign, Born charges"}.get(settings.long_range, "")
    moments = "" if settings.long_range == "latent" else ", magnetic moments (magnitudes)"
    weights = "none beyond the data's" if scratch else "the weights derive from CHGNet's (modified BSD)"
    share = f" by {settings.trained_share:g}, the start's by the rest" if settings.trained_share < 1 else ""
    split = ""
    if settings.long_range == "pqeq":
        beside = "" if settings.dispersion is None else ", and dispersion"
        split = f" So it is a short-ranged part, the network less screened PQEq; PQEq with Ewald sums{beside}."
    return [
        f"- **What**: CHGNet, trained from {own}; E = {' + '.join(parts)}.{split}",
        f"- **Data**: {_named(files)}: {len(targets.training)} structures to train on "
        f"({labels['forces']} with forces, {labels['stress']} with stress), {len(targets.held_out)} of {len(held)} "
        f"other formulas held out; {n_left_out} rows left out, {len(targets.suspects)} with energies far from the "
        f"rest (`{LEFT_OUT}`).",
        f"- **Energy scale** `{settings.energy_scale}`; composition energies "
        f"{'refitted' if settings.referencing else 'as they were'}.",
        f"- **Elements**: {len(targets.symbols)}; structures to train on with each: "
        f"{', '.join(f'{symbol} {counts[symbol]}' for symbol in targets.symbols)}. Others are refused by name.",
        f"- **Gives**: energy, forces, stress{moments}{charges}.",
        f"- **Training**: {end.epoch} epochs, {end.n_steps} steps of about {settings.batch_atoms} atoms, "
        f"{end.seconds / 60:.1f} min; averaged weights of epoch {made.best.epoch}{share}; learning rate "
        f"{settings.learning_rate:g}, losses of energies, forces, stresses and moments "
        f"weighted {', '.join(f'{one:g}' for one in settings.loss_weights)}, Huber's with {settings.huber:g}, seed "
        f"{settings.seed}{'; frozen: ' + ', '.join(settings.frozen) if settings.frozen else ''}. `{CURVES}` has the "
        "curves.",
        f"- **Licence**: {weights}; data: {data_licence or 'nothing was stated'}.",
    ]


def _named(files: Sequence[Path]) -> str:
    """Files by name, numbered ones together."""
    kinds: dict[str, list[str]] = {}
    for path in files:
        kinds.setdefault(re.sub(r"\d+", "*", path.name), []).append(path.name)
    words = []
    for kind, names in kinds.items():
        n_files = len(set(names))
        more = [f"{n_files} files"] if n_files > 1 else []
        more += [f"{len(names) // n_files} times"] if len(names) > n_files else []
        words.append((kind if n_files > 1 else names[0]) + (f" ({', '.join(more)})" if more else ""))
    return ", ".join(words)


def _errors(made: Refitted) -> list[str]:
    def row(what: str, epoch: Epoch) -> str:
        errors = epoch.errors
        cells = [
            "" if value is None else f"{factor * value:.{digits}f}"
            for value, factor, digits in (
                (errors.energy, 1e3, 1),
                (errors.force, 1e3, 1),
                (errors.stress, 1.0, 3),
                (errors.magmom, 1.0, 3),
            )
        ]
        return f"| {what} | {' | '.join(cells)} |"

    lines = [
        "## Errors",
        "",
        "Mean absolute ones on formulas that were held out. Where moments had no label, those of the start are.",
        "",
        "| what | meV/atom | meV/Å | GPa | μB |",
        "|---|---|---|---|---|",
        f"| {made.settings.start}, nothing but composition energies refitted | "
        f"{1e3 * made.targets.referenced_error:.1f} | | | |",
        row("before training, long-range part added", made.history[0]),
        row("this potential", made.best),
    ]
    compared = [one for one in made.held_out if one.forces is not None and one.forces.any()][:MOST_COMPARED]
    if compared:
        predicted = made.potential.predict([one.structure for one in compared])
        try:
            found = softening(
                [one.forces for one in compared if one.forces is not None], [one.forces for one in predicted]
            )
        except ValueError as err:
            lines += ["", f"No softening scale: {err}."]
        else:
            lines += [
                "",
                f"Softening scale of forces, on {len(compared)} of them: {found.slope:.3f} (mean error "
                f"{found.mae:.3f} eV/Å, {found.mae_at_slope_one:.3f} with the slope mended).",
            ]
    return lines


def _limits(made: Refitted) -> list[str]:
    limits = [
        "Held-out structures are of the kind that was trained on: how far beyond it the potential holds, they do not "
        "tell. `matsearch potential check` holds it against its own energies.",
        "The network ends at 6 Å for an isolated pair, about 24 Å through the layers of a crystal.",
        "It has no hull of known phases until `matsearch reference build` makes one.",
    ]
    if made.settings.long_range == "pqeq":
        limits += [
            "Fragments far apart feel PQEq's forces, nearer ones a part of them: Na and Cl 0.98 at 12 Å, 0.78 at 6 Å, "
            "where the network ends.",
            "Neutral fragments keep a fractional charge at any distance, and charge flows for nothing (QEq). Far "
            "apart, their energy is not the sum of theirs alone (1.09 eV for Na and Cl): it gives no energy of "
            "dissociation.",
            "In a crystal a field acts on shells alone; a crystal whose charges have no minimum has no energy.",
        ]
    elif made.settings.long_range == "latent":
        limits += [
            "Latent charges are screened ones and come up to one sign for all; `optical_dielectric` is not stated, so "
            "that Born charges are as if it were one.",
            "No magnetic moments.",
        ]
    else:
        limits.append("Short-ranged: neither charges nor dispersion beyond that.")
    return ["## Limits", "", *(f"- {one}" for one in limits)]
