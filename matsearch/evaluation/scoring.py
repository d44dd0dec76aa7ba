"""From structures to numbers in one call."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matsearch.errors import ConfigError
from matsearch.objectives import Objective, ObjectiveContext, evaluate_objective, load_objective
from matsearch.potential import Potential, load_potential
from matsearch.records import Rejection, Relaxed, Score
from matsearch.relaxation import relax

if TYPE_CHECKING:
    import pandas as pd
    from pymatgen.core import Structure


def score(
    structures: Sequence[Structure], objectives: Sequence[str | Objective], potential: Potential | str
) -> pd.DataFrame:
    """Relax structures, then score what converged.

    Args:
        structures: Left as they are.
        objectives: Names, as `load_objective` knows them, or objectives.
        potential: A potential, or its name.

    Returns:
        One row a structure, in order: `formula`, `converged`, `n_steps`, `energy_per_atom` (eV/atom), `relax_rejected`,
        and for each objective a column of its name (its unit is in `.attrs["units"]`) with `<name>_rejected` beside it.
        A number is NaN only where the reason stands beside it: `reason: detail`, otherwise the reason is None.

    Raises:
        ConfigError: A name is unknown, is given twice, or is another column's.
        MissingReferenceError: An objective needs known phases, and none exist for this potential.
        TypeError: One structure or one objective instead of a list.
    """
    import pandas as pd

    if isinstance(objectives, str | Objective):
        raise TypeError("score takes a list of objectives; write score(structures, [objective], potential)")

    if isinstance(potential, str):
        potential = load_potential(potential)
    context = ObjectiveContext(potential=potential)
    loaded = [load_objective(one, context) for one in objectives]
    columns = ["formula", "converged", "n_steps", "energy_per_atom", "relax_rejected"]
    columns += [column for one in loaded for column in (one.name, f"{one.name}_rejected")]
    if twice := sorted({column for column in columns if columns.count(column) > 1}):
        raise ConfigError(f"two columns would be named {twice[0]!r}; name each objective once")
    results = relax(structures, potential)

    table = pd.DataFrame(
        {
            "formula": pd.Series([_formula(structure) for structure in structures], dtype=object),
            "converged": pd.Series([isinstance(one, Relaxed) and one.converged for one in results], dtype=bool),
            "n_steps": pd.Series([one.n_steps if isinstance(one, Relaxed) else None for one in results], dtype="Int64"),
            "energy_per_atom": _numbers([one.energy_per_atom if isinstance(one, Relaxed) else one for one in results]),
            "relax_rejected": _reasons(results),
        }
    )
    for objective in loaded:
        outcomes = _outcomes(objective, results)
        table[objective.name] = _numbers([one.value if isinstance(one, Score) else one for one in outcomes])
        table[f"{objective.name}_rejected"] = _reasons(outcomes)
    table.attrs["units"] = {"energy_per_atom": "eV/atom", **{one.name: one.unit for one in loaded}}
    return table


def _formula(structure: Structure) -> str:
    with warnings.catch_warnings():
        # pymatgen orders the symbols by electronegativity, and warns that helium, neon and argon have none.
        warnings.filterwarnings("ignore", message="No Pauling electronegativity")
        return str(structure.composition.reduced_formula)


def _outcomes(objective: Objective, results: Sequence[Relaxed | Rejection]) -> list[Score | Rejection]:
    """Scores of what was relaxed, and the rejections of what was not, in order."""
    scores = iter(evaluate_objective(objective, [one for one in results if isinstance(one, Relaxed)]))
    return [next(scores) if isinstance(one, Relaxed) else one for one in results]


def _numbers(values: Sequence[float | Rejection]) -> pd.Series:
    import pandas as pd

    return pd.Series([float("nan") if isinstance(one, Rejection) else one for one in values], dtype=float)


def _reasons(outcomes: Sequence[Any]) -> pd.Series:
    import pandas as pd

    # Objects, so that a column without a rejection holds None as the others do.
    texts = [f"{one.reason}: {one.detail}" if isinstance(one, Rejection) else None for one in outcomes]
    return pd.Series(texts, dtype=object)
