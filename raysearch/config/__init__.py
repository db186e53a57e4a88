"""What a study and a recipe may say, checked when it is read.

A study has four parts that look different: `data`, `space` (searched), `fixed` (not searched), and
`budget` with `resources` (what the machine may spend). Every key of `space`, `fixed` and `start` is
a field of `Recipe`; `network.x` and `loss.x` reach one entry of the two mappings in it.
"""

from raysearch.config.mistakes import explain
from raysearch.config.recipe import Recipe, nest, outer
from raysearch.config.space import Choice, Dimension, Range, combinations, completed, parents_first
from raysearch.config.study import Budget, DataConfig, Goal, Objective, Resources, Study
from raysearch.config.task import Task
from raysearch.config.values import Scalar, Values

__all__ = [
    "Budget",
    "Choice",
    "DataConfig",
    "Dimension",
    "Goal",
    "Objective",
    "Range",
    "Recipe",
    "Resources",
    "Scalar",
    "Study",
    "Task",
    "Values",
    "combinations",
    "completed",
    "explain",
    "nest",
    "outer",
    "parents_first",
]
