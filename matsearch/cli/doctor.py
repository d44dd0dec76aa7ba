"""`matsearch doctor`: whether all that a campaign stands on is here and whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

if TYPE_CHECKING:
    from matsearch.config import CampaignConfig

OK, NOTE, BAD = "ok", "note", "BAD"
LEAST_SPACE = 1.0
"""GB; a run of a thousand candidates and its report take some tens of MB."""


class Finding(NamedTuple):
    """One line: `ok`, `note` (works, or is not asked for) or `BAD`, what it is of, and what there is."""

    state: str
    subject: str
    text: str


def doctor(
    campaign: Annotated[
        Path | None, typer.Argument(metavar="[CAMPAIGN.toml]", help="Also ask its LLMs, and look for its potential.")
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option("--run-dir", help="Where runs are to be written; runs/ if not given.")
    ] = None,
) -> None:
    """Look for what does not work here: versions, devices, shipped data, the run folder; exit status 1 if anything."""
    found = []
    for one in _findings(campaign, run_dir or Path("runs")):
        found.append(one)
        typer.echo(f"{one.state:4}  {one.subject:12}  {one.text}")
    if n_bad := sum(one.state == BAD for one in found):
        typer.echo(f"{n_bad} of {len(found)} are BAD")
        raise typer.Exit(1)
    typer.echo("nothing is wrong")


def _findings(campaign: Path | None, run_dir: Path) -> Iterator[Finding]:
    yield from _of_this_place(run_dir)
    if campaign is not None:
        yield from _of_campaign(campaign)


def _of_this_place(run_dir: Path) -> Iterator[Finding]:
    yield from _versions()
    yield from _extras()
    yield from _devices()
    yield from _files_of("matsearch")
    yield from _files_of("chgnet", "pretrained")
    yield from _known_phases()
    yield _run_folder(run_dir)


def _of_campaign(campaign: Path) -> Iterator[Finding]:
    from matsearch.config import load_config

    config = load_config(campaign)
    yield from _endpoints(config)
    yield _potential(config)


def _versions() -> Iterator[Finding]:
    """Python and packages against what the package requires, and against the versions that were tried together."""
    import platform
    from importlib import metadata

    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    wanted = metadata.metadata("matsearch")["Requires-Python"] or ""
    python = platform.python_version()
    yield Finding(OK if SpecifierSet(wanted).contains(python) else BAD, "Python", f"{python} (required {wanted})")
    tried, n_required, differ = _tried(), 0, []
    for text in metadata.requires("matsearch") or []:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        n_required += 1
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield Finding(BAD, "packages", f"{requirement.name} is missing: pip install '{text}'")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            yield Finding(BAD, "packages", f"{requirement.name} {version} is here: pip install '{text}'")
        elif tried.get(requirement.name, version) != version.partition("+")[0]:
            differ.append(f"{requirement.name} {version} (tried {tried[requirement.name]})")
    yield Finding(OK, "packages", f"{n_required} required")
    if differ:
        yield Finding(NOTE, "packages", f"other versions than constraints.txt: {', '.join(differ)}")
    elif not tried:
        yield Finding(NOTE, "packages", "constraints.txt is not here, so versions were held against what is required")


def _tried() -> dict[str, str]:
    """Package to version of constraints.txt: inside an installed package, or beside it in a checkout."""
    import matsearch

    package = Path(matsearch.__file__).resolve().parent
    for folder in (package, package.parent):
        if (folder / "constraints.txt").is_file():
            lines = (folder / "constraints.txt").read_text("utf-8").splitlines()
            pairs = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
            return {name.strip(): version.strip() for name, version in pairs}
    return {}


def _extras() -> Iterator[Finding]:
    from matsearch.cli.potential import is_installed

    packages = {
        "sevennet": "sevenn", "mace": "mace-torch", "phonons": "phonopy", "gpu": "nvalchemi-toolkit-ops", "vllm": "vllm"
    }  # fmt: skip
    here = [name for name, package in packages.items() if is_installed(package)]
    absent = [name for name in packages if name not in here]
    yield Finding(
        OK if not absent else NOTE,
        "extras",
        f"here: {', '.join(here) or 'none'}; not here: {', '.join(absent) or 'none'}"
        + (" (pip install 'matsearch[NAME]' where one is wanted)" if absent else ""),
    )


def _devices() -> Iterator[Finding]:
    import os

    import torch

    yield Finding(OK, "CPU", f"{os.cpu_count()} cores, torch {torch.__version__}")
    if not torch.cuda.is_available():
        yield Finding(NOTE, "GPU", "none that this torch can use; relaxations run on the CPU")
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        yield Finding(OK, "GPU", f"cuda:{index} {properties.name}, {properties.total_memory / 2**30:.0f} GiB")


def _files_of(package: str, *within: str) -> Iterator[Finding]:
    """A package's files (in a folder of it) against the SHA-256 that pip recorded when it installed them."""
    import hashlib
    from base64 import urlsafe_b64encode
    from importlib import metadata

    folder = (package, *within)
    n_whole, n_bytes, broken = 0, 0, []
    for file in metadata.files(package) or []:
        if file.hash is None or file.hash.mode != "sha256" or file.parts[: len(folder)] != folder:
            continue
        try:
            content = file.read_binary()
        except OSError:
            broken.append(f"{file} is missing")
            continue
        if urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode() != file.hash.value:
            broken.append(f"{file} was changed")
        n_whole, n_bytes = n_whole + 1, n_bytes + len(content)
    if broken:
        yield Finding(BAD, package, f"install it again: {', '.join(broken[:5])}" + (", ..." if broken[5:] else ""))
    elif n_whole:
        what = "weights" if within else "files"
        yield Finding(OK, package, f"{n_whole} {what}, {n_bytes / 1e6:.0f} MB, as they were installed (SHA-256)")
    else:
        yield Finding(NOTE, package, "an editable install, whose files nobody recorded")


def _known_phases() -> Iterator[Finding]:
    """The shipped phases against their own digest, and the energies against the phases."""
    from matsearch.errors import MatsearchError
    from matsearch.reference.catalogue import read_catalogue
    from matsearch.reference.energies import potentials_in
    from matsearch.reference.known import load_reference, shipped_folder

    try:
        catalogue = read_catalogue(shipped_folder())
        if not catalogue.is_whole():
            yield Finding(BAD, "known phases", "they are not those that their digest was made of; install again")
            return
        yield Finding(OK, "known phases", f"{len(catalogue)}, whole (digest {catalogue.digest[:8]})")
        for name in potentials_in(shipped_folder()):
            reference = load_reference(name)
            yield Finding(OK, "hull", f"{name}: {len(reference.phases)} phases, {len(reference.elements)} elements")
    except MatsearchError as err:
        yield Finding(BAD, "known phases", str(err))


def _run_folder(folder: Path) -> Finding:
    """Whether a run could be written, tried in the nearest folder above it that is there."""
    import shutil
    import tempfile

    place = folder.absolute()
    while not place.exists():
        place = place.parent
    try:
        with tempfile.NamedTemporaryFile(dir=place) as file:
            file.write(b"matsearch")
            file.flush()
    except OSError as err:
        return Finding(BAD, "run folder", f"{place} cannot be written: {err.strerror}; name another with --run-dir")
    free = shutil.disk_usage(place).free / 1e9
    state, advice = (OK, "") if free >= LEAST_SPACE else (BAD, f"; make room ({LEAST_SPACE:g} GB) or use another disk")
    return Finding(state, "run folder", f"{folder} can be written, {free:.1f} GB free{advice}")


def _endpoints(config: CampaignConfig) -> Iterator[Finding]:
    """Whether each LLM of a campaign can answer; an endpoint is asked for a few tokens."""
    from matsearch.errors import MatsearchError
    from matsearch.llm.base import load_backend

    for llm in config.llm:
        subject = f"{llm.backend} {llm.model}"
        try:
            backend = load_backend(llm.backend, llm.model, llm.options)
            try:
                backend.check()
            finally:
                backend.close()
        except MatsearchError as err:
            yield Finding(BAD, "LLM", f"{subject}: {err}")
        else:
            yield Finding(OK, "LLM", f"{subject} can answer")


def _potential(config: CampaignConfig) -> Finding:
    from matsearch.errors import MatsearchError
    from matsearch.potential import load_potential

    name, device = config.potential.name, config.potential.device
    try:
        potential = load_potential(name, device)
    except MatsearchError as err:
        return Finding(BAD, "potential", str(err))
    return Finding(OK, "potential", f"{potential.name} on {potential.device}, {len(potential.elements)} elements")
