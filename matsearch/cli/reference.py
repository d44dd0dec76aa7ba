"""`matsearch reference`: the known phases and their hulls, what there is of them and how to make more."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Known phases and their hulls: what there is, and making more.", no_args_is_help=True)


@app.command("info")
def info(
    folder: Annotated[
        Path | None, typer.Option("--reference", help="A folder made by `reference build`; else the package's own.")
    ] = None,
) -> None:
    """What the references cover, and what not."""
    from matsearch.errors import MissingReferenceError
    from matsearch.reference.catalogue import read_catalogue
    from matsearch.reference.energies import potentials_in
    from matsearch.reference.known import load_reference, shipped_folder

    place = folder or shipped_folder()
    catalogue = read_catalogue(place)
    typer.echo(f"{len(catalogue)} known phases with {len(catalogue.elements)} elements, from {catalogue.source}")
    typer.echo(catalogue.attribution)
    names = potentials_in(place)
    if not names:
        raise MissingReferenceError(f"{place} holds no energies; make them with `matsearch reference build`")
    for name in names:
        reference = load_reference(name, folder)
        phases = reference.phases
        typer.echo(f"\n{name} (energy scale {reference.energy_scale})")
        typer.echo(f"  phases with an energy  {len(phases)} of {len(catalogue)}")
        if reference.n_missing:
            typer.echo(f"  not computed yet       {reference.n_missing}, the largest cells")
        typer.echo(f"  relaxed                {int(phases.relaxed.sum())}, the others as listed ({reference.protocol})")
        stable = phases[phases.energy_above_hull == 0]
        typer.echo(f"  on the hull            {len(stable)}, of these relaxed {int(stable.relaxed.sum())}")
        typer.echo(f"  near it, not relaxed   {reference.n_pending}")
        missing = sorted(catalogue.elements - reference.elements)
        typer.echo(f"  elements               {len(reference.elements)}; without: {', '.join(missing) or 'none'}")


@app.command("build")
def build(
    out: Annotated[Path, typer.Option("--out", help="Folder for the reference; one that is there is continued.")],
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Known phases: mp-api (key in MP_API_KEY), a Parquet or CSV file, or a folder of crystal files. "
            "Without it, those that come with matsearch.",
        ),
    ] = None,
    potential: Annotated[str, typer.Option("--potential", help="The potential's name.")] = "chgnet-0.3.0",
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, or auto for a GPU if any.")] = "auto",
    elements: Annotated[
        str | None, typer.Option("--elements", help="Symbols, separated by commas: phases of these alone.")
    ] = None,
    within: Annotated[
        float | None,
        typer.Option(
            "--within", help="Relax up to so many eV/atom above the hull; else 0.1 on a CPU, all on a GPU.", min=0.0
        ),
    ] = None,
    minutes: Annotated[float | None, typer.Option("--minutes", help="Stop relaxing after so long.", min=0.0)] = None,
    attribution: Annotated[
        str | None, typer.Option("--attribution", help="Whose data the phases are, and their licence.")
    ] = None,
) -> None:
    """Compute the energies of known phases by a potential; what was stopped goes on with the same command."""
    from matsearch.potential import load_potential
    from matsearch.reference.build import build as build_reference

    symbols = None if elements is None else [symbol.strip() for symbol in elements.split(",") if symbol.strip()]
    loaded = load_potential(potential, device)
    try:
        build_reference(
            loaded, out, _say, source=source, attribution=attribution, elements=symbols, within=within, minutes=minutes
        )
    except KeyboardInterrupt:
        _say("stopped; the same command goes on")
        raise typer.Exit(130) from None


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)
