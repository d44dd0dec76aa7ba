"""Operators without an LLM: each makes crystals as a prompt of the same name asks an LLM to.

```python
import numpy as np
from matsearch.propose.operators import load_operator, propose, shipped_pool
from matsearch.propose.space import Space

rng, space = np.random.default_rng(0), Space(max_atoms=20)
parents = shipped_pool().draw_parents(space, rng, 100)       # known phases near the hull
propose("substitute", parents, space, rng)                   # ion exchange: Proposal or Rejection
propose("random_prototype", [], space, rng)                  # a random known type, random elements
```

A `Proposal` holds the structure, the operator, the ids of the parents used and what was changed, in words. It is valid
(`check_structure`), lies within the space, and is one of at most `N_TRIES` attempts. All randomness comes from the
generator: the same parents, space and state give the same proposal.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import isabstract
from typing import TYPE_CHECKING

from matsearch import plugins
from matsearch.errors import ConfigError
from matsearch.propose.operators.base import N_TRIES, Operator
from matsearch.propose.operators.pool import Pool, shipped_pool
from matsearch.propose.operators.records import Change, Parent, Proposal
from matsearch.records import Rejection

if TYPE_CHECKING:
    import numpy as np

    from matsearch.propose.space import Space

__all__ = [
    "N_TRIES",
    "OPERATORS",
    "Change",
    "Operator",
    "Parent",
    "Pool",
    "Proposal",
    "load_operator",
    "propose",
    "shipped_pool",
    "source_hash",
]

OPERATORS = {
    "analogue": "matsearch.propose.operators.substitution:Analogue",
    "crossover": "matsearch.propose.operators.crossover:Crossover",
    "distort": "matsearch.propose.operators.distortion:Distort",
    "explore": "matsearch.propose.operators.explore:Explore",
    "ion_exchange": "matsearch.propose.operators.substitution:IonExchange",
    "mutate": "matsearch.propose.operators.mixed:Mutate",
    "optimise": "matsearch.propose.operators.mixed:Optimise",
    "predict": "matsearch.propose.operators.mixed:Predict",
    "prototype": "matsearch.propose.operators.prototype:Prototype",
    "random_prototype": "matsearch.propose.operators.prototype:RandomPrototype",
    "repair": "matsearch.propose.operators.repair:Repair",
    "substitute": "matsearch.propose.operators.substitution:Substitute",
    "vacancy": "matsearch.propose.operators.vacancy:Vacancy",
    "wyckoff": "matsearch.propose.operators.wyckoff_edit:WyckoffEdit",
}
"""Name, which is also that of the prompt template, to the class."""


def load_operator(name: str, pool: Pool | None = None) -> Operator:
    """An operator by name: built in, `"pkg.module:Attr"`, or an entry point.

    Args:
        name: A key of `OPERATORS` or a path.
        pool: Known phases to draw on; None for those that come with the package, read when they are needed.

    Raises:
        ConfigError: There is none, or it is no operator.
    """
    try:
        return _class_of(name)(pool)
    except TypeError as err:
        raise ConfigError(f"operator {name!r} must take one argument, the pool of known phases: {err}") from err


def source_hash(name: str) -> str:
    """The version of an operator of somebody's own: of the file that it was imported from.

    Empty for what is built in, and where there is no such file.

    Raises:
        ConfigError: As `load_operator`.
    """
    return "" if name in OPERATORS else plugins.source_hash(_class_of(name))


def _class_of(name: str) -> type[Operator]:
    found = plugins.resolve("operator", name, OPERATORS)
    if not (isinstance(found, type) and issubclass(found, Operator)):
        raise ConfigError(f"operator {name!r} must be a subclass of matsearch.propose.operators.Operator")
    if isabstract(found) or not isinstance(getattr(found, "name", None), str):
        raise ConfigError(f"operator {name!r} must have a name and a method attempt")
    return found


def propose(
    name: str, parents: Sequence[Parent], space: Space, rng: np.random.Generator, pool: Pool | None = None
) -> Proposal | Rejection:
    """One proposal of the operator with that name.

    Args:
        name: As `load_operator`.
        parents: The operator chooses among them; some need none.
        space: Which crystals are wanted.
        rng: All randomness comes from here.
        pool: As `load_operator`.

    Returns:
        A valid crystal within the space; or a rejection of `Stage.CHECK` with the reason why the last of `N_TRIES`
        attempts made none.

    Raises:
        ConfigError: As `load_operator`.
    """
    return load_operator(name, pool).propose(parents, space, rng)
