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

from lib.exercises import mnist
from lib.exercises._engine import Exercise, Verdict, check, register

register(mnist.EXERCISES)

__all__ = ["Exercise", "Verdict", "check"]
