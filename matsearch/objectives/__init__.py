"""Objectives: what a search looks for in a relaxed crystal."""

from matsearch.objectives.base import Cost, Objective, ObjectiveContext, evaluate_objective
from matsearch.objectives.catalogue import Description, known_objectives, load_objective, objective

__all__ = [
    "Cost",
    "Description",
    "Objective",
    "ObjectiveContext",
    "evaluate_objective",
    "known_objectives",
    "load_objective",
    "objective",
]
