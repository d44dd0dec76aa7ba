"""`matsearch potential fine-tune`: a potential trained on labelled structures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

SHOWN = 5
"""Rows left out that are printed; a file has all."""


def fine_tune(
    data: Annotated[
        list[Path], typer.Argument(help="Labelled structures: *.extxyz, *.db or *.json (ASE database), *.parquet.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the potential; goes on with a training begun there.")],
    start: Annotated[
        str,
        typer.Option(
            "--from",
            help="chgnet-0.3.0, chgnet-r2scan, matsearch-lr, scratch, or a folder that this command wrote (none with "
            "latent charges).",
        ),
    ] = "chgnet-0.3.0",
    long_range: Annotated[
        str,
        typer.Option(
            "--long-range", help="What is added: pqeq (PQEq beyond near neighbours), latent (charges) or none."
        ),
    ] = "none",
    dispersion: Annotated[
        str | None, typer.Option("--dispersion", help="A D3 term added as well, such as 'd3(pbe,bj)'.")
    ] = None,
    energy_scale: Annotated[
        str | None,
        typer.Option(
            "--energy-scale",
            help="What the energies mean: mp2020, pbe-raw, r2scan, ...; else a name of the data's own.",
        ),
    ] = None,
    epochs: Annotated[int, typer.Option("--epochs", help="How often each structure is shown at most.")] = 50,
    patience: Annotated[int, typer.Option("--patience", help="Epochs without a gain after which training ends.")] = 10,
    learning_rate: Annotated[
        float, typer.Option("--learning-rate", help="At first; a cosine takes it to nothing.")
    ] = 1e-3,
    batch_atoms: Annotated[int, typer.Option("--batch-atoms", help="Atoms shown together.")] = 200,
    held_out: Annotated[float, typer.Option("--held-out", help="Fraction held out, by formula.")] = 0.1,
    held_out_data: Annotated[
        list[Path] | None, typer.Option("--held-out-data", help="Structures to hold out instead; may be repeated.")
    ] = None,
    freeze: Annotated[
        list[str] | None, typer.Option("--freeze", help="Weights that stay, such as atom_embedding; may be repeated.")
    ] = None,
    trained_share: Annotated[
        float, typer.Option("--trained-share", help="Share of the trained weights in the result, the rest the start's.")
    ] = 1.0,
    referencing: Annotated[
        bool, typer.Option("--referencing/--no-referencing", help="Refit composition energies first.")
    ] = True,
    energy_key: Annotated[str, typer.Option("--energy-key", help="Name of the energy in the data.")] = "energy",
    forces_key: Annotated[str, typer.Option("--forces-key", help="Of the forces, in eV/Å.")] = "forces",
    stress_key: Annotated[str, typer.Option("--stress-key", help="Of the stress.")] = "stress",
    per_atom: Annotated[bool, typer.Option("--per-atom", help="Energies are in eV/atom, not in eV.")] = False,
    stress_unit: Annotated[str, typer.Option("--stress-unit", help="eV/A^3, GPa or kbar.")] = "eV/A^3",
    stress_positive: Annotated[
        str, typer.Option("--stress-positive", help="Of what a positive stress is: tension (ASE), compression (VASP).")
    ] = "tension",
    data_licence: Annotated[str, typer.Option("--data-licence", help="Of the data, for the model card.")] = "",
    seed: Annotated[int, typer.Option("--seed", help="Of split and order.")] = 0,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, or auto for a GPU if any.")] = "auto",
) -> None:
    """Train CHGNet's weights on labelled structures, beside a long-range part.

    What comes of it loads by the folder's path wherever a potential is named. A training that was stopped goes on when
    the same command is given again.
    """
    from matsearch.training.card import CARD, LEFT_OUT, write_card
    from matsearch.training.data import LabelFormat, read_labelled
    from matsearch.training.epochs import in_words
    from matsearch.training.refit import fine_tune as train
    from matsearch.training.refit_settings import RefitSettings

    form = _checked(
        LabelFormat,
        energy=energy_key,
        forces=forces_key,
        stress=stress_key,
        per_atom=per_atom,
        stress_unit=stress_unit,
        stress_positive=stress_positive,
    )
    settings = _checked(
        RefitSettings,
        start=start,
        long_range=long_range,
        dispersion=dispersion,
        energy_scale=energy_scale or f"labels of {'+'.join(path.stem for path in data)}",
        referencing=referencing,
        held_out=held_out,
        epochs=epochs,
        patience=patience,
        batch_atoms=batch_atoms,
        learning_rate=learning_rate,
        trained_share=trained_share,
        frozen=tuple(freeze or ()),
        seed=seed,
    )
    read = read_labelled(data, form)
    looked_at = read_labelled(held_out_data, form) if held_out_data else None
    n_forces, n_stress = (sum(getattr(row, what) is not None for row in read.rows) for what in ("forces", "stress"))
    typer.echo(
        f"{len(read.rows)} labelled structures, {n_forces} with forces, {n_stress} with stress; {len(read.bad)} rows "
        "that cannot be used"
    )
    made = train(read, settings, out, held_out=looked_at, device=device, tell=typer.echo)
    unread = [*read.bad, *(looked_at.bad if looked_at else ())]
    write_card(out, made, [*data, *(held_out_data or ())], unread, data_licence)
    left_out = [*unread, *made.targets.bad]
    for one in left_out[:SHOWN]:
        typer.echo(f"left out: {one.source}: {one.reason}")
    if len(left_out) > SHOWN:
        typer.echo(f"left out: {len(left_out) - SHOWN} more ({out / LEFT_OUT})")
    if suspects := made.targets.suspects:
        typer.echo(f"{len(suspects)} energies far from the rest, trained on all the same ({out / LEFT_OUT})")
    typer.echo(
        f"{out}: epoch {made.best.epoch} of {made.history[-1].epoch}, on {len(made.targets.held_out)} structures held "
        f"out: {in_words(made.best.errors)} ({made.settings.start} with composition energies refitted: "
        f"{1e3 * made.targets.referenced_error:.1f} meV/atom); {out / CARD} says more"
    )


def _checked(kind: Any, **values: Any) -> Any:
    """Settings, or one line on what is wrong with them."""
    from pydantic import ValidationError

    from matsearch.errors import ConfigError

    try:
        return kind(**values)
    except ValidationError as err:
        first = err.errors()[0]
        name = "--" + "-".join(str(part) for part in first["loc"]).replace("_", "-")
        raise ConfigError(f"{name}: {first['msg']}, got {first['input']!r}") from err
