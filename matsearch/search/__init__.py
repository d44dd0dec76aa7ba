"""The evolutionary search: ask and tell. Knows neither torch nor an LLM."""

from matsearch.search.engine import Engine
from matsearch.search.selection import Goal, best_first, goal_from, preference_order
from matsearch.search.settings import SearchSettings

__all__ = ["Engine", "Goal", "SearchSettings", "best_first", "goal_from", "preference_order"]
