"""A campaign whose slow parts are made up: what becomes of a crystal is foretold by its formula, in no time."""

from __future__ import annotations

import itertools
import json
import random
import time
from dataclasses import dataclass, replace

import numpy as np
from pymatgen.core import Lattice, Structure

from matsearch.campaign.ledger import Ledger
from matsearch.campaign.loop import Loop
from matsearch.campaign.parts import Parts
from matsearch.campaign.progress import Progress
from matsearch.campaign.second_opinion import SecondOpinion
from matsearch.config import resolve_config
from matsearch.llm.base import Backend, SamplingOptions
from matsearch.objectives.base import Objective
from matsearch.potential.base import Potential
from matsearch.propose.proposer import Read
from matsearch.records import Completion, Prediction, Prompt, Rejection, Stage, Usage, content_hash
from matsearch.reference.known import Phase
from matsearch.relaxation.relaxer import protocol
from matsearch.search import Goal
from matsearch.store import RunStore

SYMBOLS = "Li Na K Mg Ca Sr Al Ti Fe Zn O S F Cl N".split()
PAIRS = list(itertools.combinations(SYMBOLS, 2))
FATES = ("parse", "check", "unconverged", "no_value", "low", "released", *["good"] * 6)
TOKENS = 10
"""Of a prompt and its reply together."""


class Killed(BaseException):
    """The process dies here."""


def fate(structure: Structure) -> str:
    """What becomes of a crystal, unless an earlier one is the same."""
    return FATES[digest(structure) % len(FATES)]


def digest(structure: Structure) -> int:
    return int(content_hash(structure.composition.reduced_formula)[:8], 16)


def crystal(pair: int) -> Structure:
    return Structure(Lattice.cubic(3.4), PAIRS[pair % len(PAIRS)], [[0, 0, 0], [0.5, 0.5, 0.5]])


def pause(seconds: float) -> None:
    if seconds:
        time.sleep(random.uniform(0, seconds))  # of no consequence: that is what is tested


class MadeUpBackend(Backend):
    """Writes the numbers of crystals, a few a reply, sometimes more or fewer than were asked for."""

    name = "made-up"

    def __init__(self, concurrency: int, chunk: int, seconds: float) -> None:
        super().__init__("none", SamplingOptions())
        self.concurrency, self.chunk, self._seconds = concurrency, chunk, seconds
        self.asked: list[int] = []

    def complete(self, prompts):
        pause(self._seconds)
        self.asked += [prompt.index for prompt in prompts]
        return [Completion(json.dumps(self._numbers(one)), Usage(TOKENS - 1, 1)) for one in prompts]

    @staticmethod
    def _numbers(prompt):
        rng = random.Random(f"{prompt.user}/{prompt.seed}")
        return [rng.randrange(len(PAIRS)) for _ in range(max(1, prompt.n_crystals + rng.choice([-1, 0, 0, 1])))]


class MadeUpProposer:
    """A prompt names what the engine asked for, so that a reply depends on all that it decided."""

    def prompts(self, parents, style):
        user = f"{parents.operator} {parents.ids} {parents.lessons}"
        seed = parents.proposal
        return [Prompt(user, seed=seed, index=parents.proposal, n_crystals=parents.n_children, template="chat/any")]

    def template_hash(self, style, name):
        return ""

    def read(self, prompt, completion):
        entries = [self._entry(crystal(number)) for number in json.loads(completion.text)]
        missing = Read(rejection=Rejection(Stage.PARSE, "missing"))
        return entries + [missing] * (prompt.n_crystals - len(entries))

    @staticmethod
    def _entry(structure):
        match fate(structure):
            case "parse":
                return Read(rejection=Rejection(Stage.PARSE, "unreadable"))
            case "check":
                return Read(structure, Rejection(Stage.CHECK, "too_close", "0.1 Å"))
        return Read(structure)


class MadeUpPotential(Potential):
    """Every crystal is at its minimum, or never gets there."""

    name = energy_scale = "made-up"
    elements = frozenset(SYMBOLS)

    def __init__(self, seconds: float = 0.0) -> None:
        self.device, self._seconds = "cpu", seconds

    def predict(self, structures):
        pause(self._seconds)
        return [self._prediction(one) for one in structures]

    @staticmethod
    def _prediction(structure):
        n = len(structure)
        forces = np.zeros((n, 3))
        if fate(structure) == "unconverged":
            forces[:, 0] = [5.0, -5.0]
        return Prediction(-1.0 * n, forces, np.zeros((3, 3)))


class MadeUpHull(Objective):
    name, unit, direction = "energy_above_hull", "eV/atom", "min"

    def __call__(self, relaxed):
        return [self.value(one.structure) for one in relaxed]

    @staticmethod
    def value(structure):
        if fate(structure) in ("low", "released"):
            return -0.3 - digest(structure) % 7 / 100
        return (digest(structure) // 100 % 40 - 5) / 100


class MadeUpStiffness(Objective):
    name, unit, direction = "stiffness", "GPa", "max"

    def __call__(self, relaxed):
        return [self._value(one.structure) for one in relaxed]

    @staticmethod
    def _value(structure):
        if fate(structure) == "no_value":
            return Rejection(Stage.SCORE, "no_value", "made up")
        return float(digest(structure) // 1000 % 300)


class OtherPotential(MadeUpPotential):
    """Calls half of what is too good metastable."""

    name = energy_scale = "other"

    def _prediction(self, structure):
        height = {"released": 0.02, "low": -0.4}.get(fate(structure), 0.0)
        return Prediction(height * len(structure), np.zeros((2, 3)), np.zeros((3, 3)))


class FlatHull:
    """Of `OtherPotential`: it lies at 0."""

    def energy_above_hull(self, composition, energy_per_atom):
        return energy_per_atom


@dataclass(frozen=True)
class MadeUpParts(Parts):
    """Begins with three known phases."""

    def seed_phases(self):
        found = [one for one in map(crystal, range(len(PAIRS))) if fate(one) == "good"][:3]
        return [
            Phase(f"known-{i}", one.composition.reduced_formula, one, -1.0, 0.0, True) for i, one in enumerate(found)
        ]


class MortalStore(RunStore):
    """Dies after so many commits, and from then on takes nothing."""

    def __init__(self, run_dir, commits: int | None = None) -> None:
        self._left = commits
        super().__init__(run_dir, writable=True)
        self.connection.execute("PRAGMA synchronous = OFF")  # these tests kill no machine

    def transaction(self):
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise Killed
        return super().transaction()


def make_parts(search, budget=None, *, seed=0, n_llms=1, concurrency=1, chunk=1, seconds=0.0, second=True):
    """Parts of a made-up campaign."""
    data = {
        "name": "made-up",
        "seed": seed,
        "llm": [{"backend": "embedded"}] * n_llms,
        "search": {
            "generations": 3,
            "population": 6,
            "parents_per_prompt": 2,
            "children_per_prompt": 2,
            "twins": {},
            **search,
        },
        "budget": budget or {},
        "relax": {"max_steps": 3},
    }
    config = resolve_config(data, "test")
    opinion = SecondOpinion(OtherPotential(seconds), FlatHull()) if second else None
    backends = [MadeUpBackend(concurrency, chunk, seconds) for _ in config.llm]
    objectives = [MadeUpHull(), MadeUpStiffness()]
    goals = [Goal("energy_above_hull", "min"), Goal("stiffness", "max")]
    return MadeUpParts(
        config, backends, MadeUpProposer(), MadeUpPotential(seconds), None, objectives, goals,
        protocol(config.relax), second_opinion=opinion,
    )  # fmt: skip


def run(run_dir, parts, *, commits=None, stop_after=None):
    """Run a campaign on from where its folder stands; returns how it ended, or None where it was killed."""
    if not run_dir.exists():
        described = [{"name": one.name, "unit": one.unit, "direction": one.direction} for one in parts.objectives]
        meta = {"config": json.dumps(parts.config.plain()), "objectives": json.dumps(described)}
        RunStore.create(run_dir, meta, {})
    calls = itertools.count()

    def stopping():
        return stop_after is not None and next(calls) >= stop_after

    with MortalStore(run_dir, commits) as store:
        ledger = Ledger(parts.config.budget)
        try:
            return Loop(store, parts, ledger, Progress(), stopping).run()
        except Killed:
            return None


def with_budget(parts, **budget):
    """The same parts with another budget."""
    config = parts.config.model_copy(update={"budget": parts.config.budget.model_copy(update=budget)})
    return replace(parts, config=config)


def rows(run_dir, sql):
    with RunStore(run_dir, writable=False) as store:
        return [dict(row) for row in store.rows(sql)]
