"""What every operator has to hold: subclass `OperatorContract` in a test file, give it two fixtures.

```python
class TestMine(OperatorContract):
    @pytest.fixture
    def operator(self):
        return MyOperator()

    @pytest.fixture
    def parents(self):
        return [...]          # `Parent`s, valid and varied; at least as many as the operator takes
```
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from pymatgen.core import Structure

from matsearch.crystal.checks import check_structure
from matsearch.propose.operators import N_TRIES, Operator, Parent, Proposal
from matsearch.propose.operators.base import check_against
from matsearch.propose.space import Space
from matsearch.records import Rejection, Stage


class OperatorContract:
    """Checks of an operator.

    Attributes:
        n_proposals: Drawn in each check, from random parents.
        least_share: Of the proposals without a narrow space that must not be rejections.
    """

    n_proposals = 20
    least_share = 0.5

    def test_makes_valid_crystals_with_lineage(self, operator: Operator, parents: Sequence[Parent]) -> None:
        made = self._propose(operator, parents, self._space(operator, parents))
        proposals = [one for one in made if isinstance(one, Proposal)]
        assert len(proposals) >= self.least_share * len(made)
        for one in proposals:
            assert check_structure(one.structure) is None
            assert one.operator == operator.name
            assert one.change
            assert 1 <= one.n_tries <= N_TRIES
            if operator.min_parents:
                assert {parent.id for parent in parents} & set(one.parents)

    def test_rejections_say_why(self, operator: Operator, parents: Sequence[Parent]) -> None:
        for one in self._propose(operator, parents, Space(elements=frozenset({"Og"}), max_atoms=1)):
            assert isinstance(one, Rejection)
            assert one.stage is Stage.CHECK
            assert one.reason.isidentifier() and one.reason == one.reason.lower()

    def test_one_seed_gives_one_crystal(self, operator: Operator, parents: Sequence[Parent]) -> None:
        once, again = (self._propose(operator, parents, self._space(operator, parents), seed=7) for _ in range(2))
        assert once == again

    def test_stays_within_elements_and_size(self, operator: Operator, parents: Sequence[Parent]) -> None:
        elements = frozenset(site.specie.symbol for parent in parents for site in parent.structure)
        space = Space(elements=elements, max_atoms=12)
        for one in self._propose(operator, parents, space):
            assert isinstance(one, Rejection) or check_against(one.structure, space) is None

    def test_keeps_a_given_composition(self, operator: Operator, parents: Sequence[Parent]) -> None:
        composition = parents[0].structure.composition.reduced_formula
        space = Space(composition=composition, max_atoms=24)
        for one in self._propose(operator, parents, space):
            assert isinstance(one, Rejection) or one.structure.composition.reduced_formula == composition

    def test_leaves_the_parents_as_they_were(self, operator: Operator, parents: Sequence[Parent]) -> None:
        before = [one.structure.copy() for one in parents]
        self._propose(operator, parents, Space())
        assert [one.structure for one in parents] == before

    def test_a_broken_parent_is_a_rejection(self, operator: Operator) -> None:
        broken = Structure(np.eye(3) * 0.1, ["Na", "Cl"], [[0, 0, 0], [0, 0, 0]])
        if operator.min_parents:
            found = operator.propose([Parent(broken, 0)], Space(), np.random.default_rng(0))
            assert isinstance(found, Rejection)
        found = operator.propose([], Space(composition="NaCl"), np.random.default_rng(0))
        assert isinstance(found, Rejection) == (operator.min_parents > 0)

    def _space(self, operator: Operator, parents: Sequence[Parent]) -> Space:
        composition = parents[0].structure.composition.reduced_formula if operator.needs_composition else None
        return Space(max_atoms=24, composition=composition)

    def _propose(
        self, operator: Operator, parents: Sequence[Parent], space: Space, seed: int = 0
    ) -> list[Proposal | Rejection]:
        if len(parents) < operator.min_parents:
            pytest.fail(f"the fixture `parents` must give at least {operator.min_parents}")
        rng = np.random.default_rng(seed)
        made = []
        for _ in range(self.n_proposals):
            chosen = rng.permutation(len(parents))[: max(2, operator.min_parents)].tolist()
            made.append(operator.propose([parents[index] for index in chosen], space, rng))
        return made
