"""Checks that answer at once: is this answer to an exercise right, and if not, which property does it break?

    >>> from lib.exercises import check
    >>> def smooth_cross_entropy_gradient(logits, labels):
    ...     "An answer to an exercise that does not exist."
    >>> check(smooth_cross_entropy_gradient)
    Traceback (most recent call last):
    ...
    ValueError: no exercise is called 'smooth_cross_entropy_gradient'; is it 'smoothed_cross_entropy_gradient'?

A check knows properties of the right answer, not wordings of it: it runs the function on several hundred generated
inputs, names the first property that fails and shows the first input on which it does. It never shows the solution.
"""

import importlib
import pkgutil

from lib.exercises._engine import Exercise, Verdict, check, register

# One module for each chapter, or part of the course; its name does not begin with an underscore.
for _module in pkgutil.iter_modules(__path__):
    if not _module.name.startswith("_"):
        register(importlib.import_module(f"{__name__}.{_module.name}").EXERCISES)

__all__ = ["Exercise", "Verdict", "check"]
