"""Which potential goes by a name."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from matsearch.errors import ConfigError, MatsearchError, PotentialError
from matsearch.plugins import resolve
from matsearch.potential.base import Potential

POTENTIALS = {
    "chgnet-0.3.0": "matsearch.potential.chgnet:chgnet_030",
    "chgnet-r2scan": "matsearch.potential.chgnet:chgnet_r2scan",
    "matsearch-lr": "matsearch.potential.refitted:matsearch_lr",
    "pqeq": "matsearch.potential.longrange.pqeq:pqeq",
    "pqeq-generic": "matsearch.potential.longrange.pqeq:pqeq_generic",
    "pqeq-refitted": "matsearch.potential.longrange.pqeq:pqeq_refitted",
    "pqeq-far": "matsearch.potential.longrange.far:pqeq_far",
    "pqeq-taper": "matsearch.potential.longrange.taper:pqeq_taper",
    "pqeq-published": "matsearch.potential.longrange.taper:pqeq_published",
    "sevennet-0": "matsearch.potential.adapters.sevennet:sevennet_0",
}
FROM_FILE = {"mace": "matsearch.potential.adapters.mace:mace"}
"""Those whose weights are a file of the user: `"mace:PATH"`."""
MODEL_FILE, OF_FOLDERS = "model.json", "matsearch.potential.folder:load"
"""A folder that holds such a file is a potential that was trained or corrected, named by its path."""
WITH_OPTIONS = {"d3": "matsearch.potential.longrange.dispersion:d3"}
"""Those that take options in brackets: `"d3(pbe,bj)"`."""


def load_potential(name: str, device: str = "auto") -> Potential:
    """The potential that goes by a name.

    Args:
        name: `chgnet-0.3.0`, `chgnet-r2scan`, `sevennet-0`, `mace:PATH` (a file of weights), `pqeq`, an entry point, or
            `"pkg.module:Attr"`, where `Attr(device)` gives a `Potential`; `d3(FUNCTIONAL,DAMPING)`, as in `d3(pbe,bj)`;
            the path of a folder with a trained model, whose name is then the absolute path; or a sum of one and such
            terms, `chgnet-0.3.0+d3(pbe,bj)`.
        device: `cpu`, `cuda`, `cuda:1`, or `auto` for a GPU where there is one.

    Raises:
        ConfigError: No potential goes by that name.
        PotentialError: It cannot be loaded on that device, is no potential, or the parts of a sum do not add.
    """
    parts = summands(name)
    if len(parts) > 1:
        from matsearch.potential.sum import PotentialSum

        return PotentialSum([load_potential(part, device) for part in parts])
    kind, _, path = name.partition(":")
    if (Path(name).expanduser() / MODEL_FILE).is_file():
        # Hulls and runs are keyed by the name, and are looked for from other folders, too.
        make = partial(resolve("potential", OF_FOLDERS, {}), str(Path(name).expanduser().resolve()))
    elif kind in FROM_FILE:
        if not path:
            raise ConfigError(f'potential {name!r} takes its weights from a file: "{kind}:PATH"')
        make = partial(resolve("potential", FROM_FILE[kind], {}), path)
    elif (taken := name.partition("(")[0].strip()) in WITH_OPTIONS:
        make = partial(resolve("potential", WITH_OPTIONS[taken], {}), _options(name))
    else:
        others = {f"{kind}:PATH": where for kind, where in FROM_FILE.items()}
        others |= {f"{kind}(FUNCTIONAL,DAMPING)": where for kind, where in WITH_OPTIONS.items()}
        others[f"path of a folder with {MODEL_FILE}"] = OF_FOLDERS
        make = resolve("potential", name, POTENTIALS | others)
    if not callable(make):
        raise PotentialError(
            f"potential {name!r} is a {type(make).__name__}; it must take a device and give a Potential"
        )
    try:
        potential = make(device)
    except MatsearchError:
        raise
    except Exception as err:
        raise PotentialError(f"potential {name!r} cannot be loaded on {device!r}: {type(err).__name__}: {err}") from err
    if not isinstance(potential, Potential):
        raise PotentialError(
            f"potential {name!r} gave a {type(potential).__name__}; it must take a device and give a Potential"
        )
    return potential


def summands(name: str, folder: Path = Path()) -> list[str]:
    """The names that a name adds with `+`, which the path of a file may hold, too.

    Args:
        name: As `load_potential` takes it.
        folder: Where relative paths start from.
    """
    found: list[str] = []
    left = name.split("+")
    while left:
        joined = ["+".join(left[:count]).strip() for count in range(1, len(left) + 1)]
        whole = (count for count, one in enumerate(joined, 1) if _is_path(one, folder) or _is_plugin(one, folder))
        taken = next(whole, 1)
        found.append("+".join(left[:taken]).strip())
        left = left[taken:]
    return found


def from_folder(name: str, folder: Path) -> str:
    """The same name with absolute paths where it holds paths that start from a folder."""
    parts = summands(name, folder)
    found = [_with_path(one, folder) for one in parts]
    return name if found == parts else "+".join(found)


def _with_path(name: str, folder: Path) -> str:
    kind, _, path = name.partition(":")
    if kind in FROM_FILE:
        return f"{kind}:{folder / Path(path).expanduser()}" if path else name
    return str((folder / Path(name).expanduser()).resolve()) if _is_path(name, folder) else name


def _is_path(name: str, folder: Path) -> bool:
    """Whether a name is that of a folder with a model, or has the path of a file behind its kind."""
    kind, _, path = name.partition(":")
    if kind in FROM_FILE:
        return (folder / Path(path).expanduser()).is_file()
    return (folder / Path(name).expanduser() / MODEL_FILE).is_file()


def _is_plugin(name: str, folder: Path) -> bool:
    """Whether a name is an attribute of a file, `"my_potential.py:make"`."""
    return (folder / Path(name.rpartition(":")[0]).expanduser()).is_file()


def _options(name: str) -> list[str]:
    """What stands between the brackets of a name, in lower case.

    Raises:
        ConfigError: The brackets do not close.
    """
    _, opened, options = name.partition("(")
    if opened and not options.endswith(")"):
        raise ConfigError(f"the brackets of potential {name!r} do not close; write it as d3(pbe,bj)")
    return [option.strip().lower() for option in options.removesuffix(")").split(",") if option.strip()]
