"""`matsearch potential`: which potentials there are, whether one works here, and training one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from matsearch.cli.fine_tune import fine_tune

if TYPE_CHECKING:
    from pymatgen.core import Structure

app = typer.Typer(help="Potentials: which there are, whether one works here, and training one.", no_args_is_help=True)
app.command("fine-tune")(fine_tune)


class Needs(NamedTuple):
    """What a potential needs, told without loading it.

    Attributes:
        package: That it is from.
        install: The command that brings it.
        is_term: Whether it adds to another and stands for no whole energy.
        text: In words.
    """

    package: str
    install: str
    is_term: bool
    text: str


_PQEQ = Needs("matsearch", "", True, "charges and response; adds only to a potential refitted beside it")
_CHGNET = Needs("chgnet", "pip install chgnet", False, "weights in the chgnet package")
NEEDS = {
    "chgnet-0.3.0": _CHGNET,
    "chgnet-r2scan": _CHGNET,
    "matsearch-lr": Needs("matsearch", "", False, "CHGNet refitted beside pqeq-far: charges, long range"),
    "pqeq": _PQEQ,
    "pqeq-generic": _PQEQ,
    "pqeq-refitted": _PQEQ,
    "pqeq-far": Needs("matsearch", "", True, 'PQEq beyond near neighbours; adds to others: "chgnet-0.3.0+pqeq-far"'),
    "pqeq-taper": _PQEQ,
    "pqeq-published": _PQEQ,
    "sevennet-0": Needs("sevenn", "pip install 'matsearch[sevennet]'", False, "weights in the sevenn package"),
    "mace:PATH": Needs("mace-torch", "pip install 'matsearch[mace]'", False, "weights in a file of yours"),
    "d3(FUNCTIONAL,DAMPING)": Needs("matsearch", "", True, 'dispersion; adds to others: "chgnet-0.3.0+d3(pbe,bj)"'),
}


@app.command("list")
def list_potentials() -> None:
    """The names that a potential goes by, what each needs, and whether a hull of known phases comes with it."""
    from matsearch.plugins import entry_point_names
    from matsearch.potential.names import FROM_FILE, MODEL_FILE, POTENTIALS, WITH_OPTIONS
    from matsearch.reference.energies import potentials_in
    from matsearch.reference.known import shipped_folder

    hulls = potentials_in(shipped_folder())
    names = [
        *POTENTIALS,
        *(f"{kind}:PATH" for kind in FROM_FILE),
        *(f"{kind}(FUNCTIONAL,DAMPING)" for kind in WITH_OPTIONS),
    ]
    width = max(map(len, names)) + 2
    for name in names:
        needs = NEEDS.get(name)
        words = [] if needs is None else [needs.text]
        if name in hulls:
            words.append("hull of known phases comes with it")
        elif needs is not None and not needs.is_term:
            words.append("no hull yet (matsearch reference build)")
        here = needs is None or is_installed(needs.package)
        if needs is not None and not here:
            words.insert(0, f"needs {needs.install}")
        typer.echo(f"{name:{width}}{'ready  ' if here else 'missing'}  {'; '.join(words)}".rstrip())
    for name in entry_point_names("matsearch.potentials"):
        typer.echo(f"{name:{width}}plug-in")
    typer.echo(
        f"\nAlso: the path of a folder with {MODEL_FILE} (trained or corrected), a sum such as "
        '"chgnet-0.3.0+d3(pbe,bj)", "pkg.module:Attr".'
    )


@app.command("check")
def check(
    name: Annotated[str, typer.Argument(help="The potential's name, as campaigns take it.")],
    files: Annotated[
        list[Path] | None, typer.Argument(help="Crystals to check it on, instead of four small ones.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, or auto for a GPU if any.")] = "auto",
) -> None:
    """Hold a potential against its own energies and the symmetries of nature; exit status 1 if something fails."""
    from matsearch.potential import load_potential
    from matsearch.potential.checks import check_potential

    crystals = None if not files else [crystal for path in files for crystal in _crystals(path)]
    potential = load_potential(name, device)
    precision = (
        "a copy in double precision" if hasattr(potential, "double") else "as it is, no copy in double precision"
    )
    typer.echo(
        f"{potential.name} on {potential.device}: {precision}; energy scale {potential.energy_scale}, "
        f"{len(potential.elements)} elements"
    )
    checks = check_potential(potential, crystals)
    for one in checks:
        typer.echo(
            f"{'pass' if one.passed else 'FAIL'}  {one.name:28} {one.deviation:8.1e} of {one.tolerance:.0e} "
            f"{one.unit:8}  ({one.where})"
        )
    failed = sum(not one.passed for one in checks)
    typer.echo(f"{failed} of {len(checks)} checks FAILED" if failed else f"all {len(checks)} checks pass")
    if failed:
        raise typer.Exit(1)


def is_installed(package: str) -> bool:
    """Whether a package is installed, told without importing it."""
    from importlib import metadata

    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _crystals(path: Path) -> list[Structure]:
    from matsearch.crystal.files import read_structures
    from matsearch.errors import InputError
    from matsearch.records import Rejection

    found = read_structures(path)
    for one in found:
        if isinstance(one, Rejection):
            raise InputError(f"{path}: {one.detail}")
    return [one for one in found if not isinstance(one, Rejection)]
