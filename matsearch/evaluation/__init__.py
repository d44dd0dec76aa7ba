"""From structures to numbers in one call: scores of chosen objectives, or a verdict on crystals from anywhere."""

from matsearch.evaluation.evaluator import Evaluation, Evaluator, evaluate
from matsearch.evaluation.judging import default_phases, find_judges
from matsearch.evaluation.scoring import score

__all__ = ["Evaluation", "Evaluator", "default_phases", "evaluate", "find_judges", "score"]
