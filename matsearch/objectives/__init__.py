"""Objectives: what a search looks for in a relaxed crystal."""

from matsearch.objectives.base import (
    Objective,
    ObjectiveContext,
    evaluate_objective,
    load_objective,
    objective,
)

__all__ = ["Objective", "ObjectiveContext", "evaluate_objective", "load_objective", "objective"]
