"""The rooms that one campaign connects, built from its configuration and checked before any work starts."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matsearch.campaign.second_opinion import SecondOpinion, load_second_opinion
from matsearch.campaign.seeds import choose_seeds
from matsearch.campaign.single_points import SinglePoints
from matsearch.config import CampaignConfig, composition_elements
from matsearch.errors import ConfigError, MissingReferenceError
from matsearch.llm.base import Backend, load_backend
from matsearch.objectives.base import Objective, ObjectiveContext
from matsearch.objectives.cascade import by_cost
from matsearch.objectives.catalogue import find_objective, load_objective
from matsearch.potential.base import Potential
from matsearch.potential.batched import BatchedPotential
from matsearch.potential.names import load_potential
from matsearch.propose.operators import OPERATORS, load_operator, source_hash
from matsearch.propose.operators.backend import OperatorsBackend
from matsearch.propose.proposer import Proposer
from matsearch.propose.templates import Templates
from matsearch.propose.wording import wish
from matsearch.records import HULL, Rejection, Relaxed, content_hash
from matsearch.reference.known import Phase, Reference, reference_of
from matsearch.relaxation.relaxer import protocol
from matsearch.search import Goal, goal_from
from matsearch.search.operators import has_template

if TYPE_CHECKING:
    from pymatgen.core import Structure

VERSIONED = (
    "matsearch torch chgnet pymatgen ase numpy pandas moyopy transformers tokenizers openai pydantic jinja2".split()
)


@dataclass(frozen=True)
class Parts:
    """Everything a campaign's loop calls.

    Attributes:
        backends: One for each `[[llm]]`.
        reference: Known phases; None where the potential has none and no objective needs them.
        objectives: The cheapest first, else in the order of the configuration; `energy_above_hull` is added at the
            front where it is missing, but not under pressure: the hull is that at zero pressure.
        goals: What selection sees: the configured objectives only.
        protocol: What, with structure and potential, determines a relaxation.
        also_known: Id and crystal of phases that no hull holds and that are not new all the same.
        second_opinion: Another potential that is asked about energies too good to be true; None: nobody is.
    """

    config: CampaignConfig
    backends: list[Backend]
    proposer: Proposer
    potential: Potential
    reference: Reference | None
    objectives: list[Objective]
    goals: list[Goal]
    protocol: dict[str, Any]
    also_known: Sequence[tuple[str, Structure]] = ()
    second_opinion: SecondOpinion | None = None

    @classmethod
    def build(cls, config: CampaignConfig, *, check_backends: bool = False) -> Parts:
        """Load all parts.

        Args:
            config: The campaign's.
            check_backends: Ask every backend whether it can answer, before what takes longer to load.

        Raises:
            MatsearchError: A name, an option or a combination is wrong; or a backend cannot answer.
        """
        backends = [load_backend(llm.backend, llm.model, llm.options) for llm in config.llm]
        if check_backends:
            _check(backends)
        wanted = [setting.name for setting in config.objectives] if config.relax.pressure_gpa else []
        if on_hull := [name for name in wanted if "hull" in getattr(find_objective(name), "needs", ())]:
            raise ConfigError(
                f"the hull of known phases is that at zero pressure, so {on_hull[0]} says nothing of crystals relaxed "
                f"at relax.pressure_gpa = {config.relax.pressure_gpa:g}; set it to 0, or name other [[objectives]]"
            )
        potential = load_potential(config.potential.name, config.potential.device)
        reference = _reference(potential, config)
        objectives, goals = _objectives(config, potential, reference)
        space = config.space.space(_hidden(config))
        units = {objective.name: objective.unit for objective in objectives}
        sought = tuple(
            {
                "name": goal.name,
                "unit": units[goal.name],
                "direction": goal.better,
                "target": goal.target,
                "wish": wish(goal, units[goal.name]),
            }
            for goal in goals
            if goal.name != HULL
        )
        search = config.search
        templates = Templates(search.prompts)
        proposer = Proposer(space, sought, search.show, search.show_scores, config.seed, templates)
        for name in {*search.operators, *search.twins} - set(OPERATORS):
            load_operator(name)  # one of somebody's own: what is wrong with it is said now
            source_hash(name)
        for style in sorted({backend.style for backend in backends}):
            proposer.check(style)
            if style != "operators" and (names := sorted(one for one in search.operators if not has_template(one))):
                raise ConfigError(
                    f"[search] operators {', '.join(names)} are no prompts for an LLM; name them under "
                    '[search.twins], or with backend = "operators" alone'
                )
        second = None
        if search.second_opinion is not None and HULL in [objective.name for objective in objectives]:
            folder = None if config.reference.path is None else Path(config.reference.path)
            second = load_second_opinion(search.second_opinion, config.potential.device, potential, folder)
        _let_choose(backends, config, potential, reference)
        return cls(
            config,
            backends,
            proposer,
            potential,
            reference,
            objectives,
            goals,
            protocol(config.relax),
            second_opinion=second,
        )

    def with_phases(self, settled: Sequence[tuple[str, Relaxed]], unsettled: Sequence[tuple[str, Structure]]) -> Parts:
        """The same parts, with more known phases.

        Args:
            settled: Id and relaxed crystal of those that join the hull.
            unsettled: Id and crystal of those that are only known.
        """
        reference = self.reference
        if reference is None or not settled:
            return replace(self, also_known=[*self.also_known, *unsettled])
        reference = reference.extended(settled)
        objectives, _ = _objectives(self.config, self.potential, reference)
        _let_choose(self.backends, self.config, self.potential, reference)
        return replace(self, reference=reference, objectives=objectives, also_known=[*self.also_known, *unsettled])

    def reference_hash(self) -> str:
        """What the known phases and their energies are, in short; empty where there are none."""
        if self.reference is None:
            return ""
        phases = self.reference.phases
        digest = hashlib.sha256("\n".join(phases["id"]).encode())
        digest.update(phases["energy_per_atom"].to_numpy().round(6).tobytes())
        return content_hash([self.reference.potential, len(phases), digest.hexdigest()])

    @property
    def arms(self) -> dict[tuple[str, int], float]:
        """Weight of each (operator, number of the backend): LLMs are asked for `operators`, the others do `twins`."""
        search, llms = self.config.search, self.config.llm
        largest = max(llm.weight for llm in llms)
        return {
            (operator, number): weight * llm.weight / largest
            for number, (llm, backend) in enumerate(zip(llms, self.backends, strict=True))
            for operator, weight in (
                search.twins if backend.style == "operators" and search.twins else search.operators
            ).items()
        }

    def seed_phases(self) -> list[Phase]:
        """The known phases that start the search.

        Raises:
            ConfigError: There is none.
        """
        space = self.config.space
        if self.reference is None:
            return []
        phases = choose_seeds(self.reference, space, self.config.search.n_seeds, self.config.seed)
        if not phases and space.composition is None:
            raise ConfigError(
                f"no known phase with elements {', '.join(space.allowed or ['any'])}, at most {space.max_atoms} atoms "
                "and the stoichiometry and symmetry that [space] asks for, to start from; widen [space]. The reference "
                f"of {self.reference.potential} covers "
                f"{', '.join(sorted(self.reference.elements))}"
            )
        return phases

    def above_all_known(self, relaxed: Relaxed, height: float) -> float:
        """A crystal's energy above the hull of all known phases, hidden ones too, given that above the campaign's.

        What lies far below the hull of the phases that are left is a hidden phase more often than an error.
        """
        if self.reference is None or not self.reference.hidden:
            return height
        whole = self.reference.whole.height(relaxed)
        return height if isinstance(whole, Rejection) else whole

    def decomposition(self, structure: Structure) -> dict[str, float]:
        """What a crystal competes with: formula of a known phase to its share of the atoms, rounded.

        Empty where there is no hull, or none that counts: under pressure, or where prompts tell no energies.
        """
        if self.reference is None or self.config.relax.pressure_gpa or not self.config.search.show_scores:
            return {}
        found = self.reference.decomposition(structure.composition)
        # Rounded, so that the last bits of a linear programme cannot change a prompt.
        return {} if isinstance(found, Rejection) else {formula: round(share, 3) for formula, share in found.items()}

    def close(self) -> None:
        """Give back what the backends hold."""
        for backend in self.backends:
            backend.close()


def _check(backends: Sequence[Backend]) -> None:
    """Make sure that all of them can answer; else close them, and raise what is wrong."""
    try:
        for backend in backends:
            backend.check()
    except BaseException:
        for backend in backends:
            backend.close()
        raise


def _let_choose(
    backends: Sequence[Backend], config: CampaignConfig, potential: Potential, reference: Reference | None
) -> None:
    """Operators without an LLM choose among several crystals of theirs, where there is a hull that counts.

    They ask the potential in another thread, while it relaxes other crystals: only batched potentials must bear that.
    """
    heights = None
    if reference is not None and not config.relax.pressure_gpa and isinstance(potential, BatchedPotential):
        heights = SinglePoints(potential, reference, config.search.energy_floor)
    for backend in backends:
        if isinstance(backend, OperatorsBackend):
            backend.choose_lowest(config.search.choices, heights)


def _objectives(
    config: CampaignConfig, potential: Potential, reference: Reference | None
) -> tuple[list[Objective], list[Goal]]:
    """What candidates are scored for, the hull included where there is one, and what of that is sought.

    Raises:
        ConfigError: A name is unknown, or two objectives go by one.
    """
    context = ObjectiveContext(potential, reference, config.relax.pressure_gpa)
    wanted = {
        setting.name: load_objective(setting.name, context, setting.options, setting.timeout)
        for setting in config.objectives
    }
    goals = [
        goal_from(setting.model_dump(), wanted[setting.name].name, wanted[setting.name].direction)
        for setting in config.objectives
    ]
    if not any(goal.is_sought for goal in goals):
        raise ConfigError("[[objectives]] are constraints alone; give one a direction or a target")
    names = [objective.name for objective in wanted.values()]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"[[objectives]] holds two objectives that are called {', '.join(sorted(twice))}")
    objectives = [objective for objective in wanted.values() if objective.name != HULL]
    if reference is not None and not config.relax.pressure_gpa:
        # The hull first: it is the cheapest, and what lies far below it needs no other score.
        objectives.insert(0, wanted.get(HULL) or load_objective(HULL, context))
    return by_cost(objectives), goals


def _reference(potential: Potential, config: CampaignConfig) -> Reference | None:
    """Known phases in this potential's own energies, checked against the space.

    Raises:
        MissingReferenceError: There are none, and the campaign asks for the hull or names their folder.
        MixedHullError: Those in the folder that it names are another potential's, or of other weights.
        ConfigError: They do not cover the elements asked for.
    """
    folder = config.reference.path
    try:
        reference = reference_of(potential, None if folder is None else Path(folder))
    except MissingReferenceError:
        if folder is not None or any(setting.name == HULL for setting in config.objectives):
            raise
        return None
    try:
        reference = reference.hiding(_hidden(config))
    except ValueError as err:
        raise ConfigError(f"[reference] hide: {err}; give ids and formulas of known phases") from err
    wanted = set(config.space.allowed or ())
    if config.space.composition is not None:
        wanted |= composition_elements(config.space.composition)
    if missing := sorted(wanted - reference.elements):
        raise ConfigError(
            f"[space] asks for {', '.join(missing)}, but the hull of {potential.name} covers only "
            f"{', '.join(sorted(reference.elements))}; choose among these"
        )
    return reference


def _hidden(config: CampaignConfig) -> list[str]:
    """Ids and formulas of the known phases that the search must not know of: those of what it is to predict, too."""
    target = config.space.composition if config.task == "predict" else None
    return [*config.reference.hide, *([target] if target is not None else [])]


def versions() -> dict[str, str]:
    """Versions of all that a result depends on."""
    found = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "executable": sys.implementation.name,
    }
    for package in VERSIONED:
        found[package] = importlib.metadata.version(package)
    return found
