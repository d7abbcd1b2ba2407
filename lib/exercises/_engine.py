"""What every check shares: an exercise, its properties, and the verdict."""

import copy
import difflib
import inspect
import textwrap
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

Property = Callable[..., str | None]
"""``property(function, *inputs)`` returns None where it holds, else what was found. Its docstring is its name.

A property that takes the function alone brings its own inputs and is tried once.
"""


@dataclass(frozen=True)
class Exercise:
    """An exercise: what the function is called, what it is tried on, and what must hold.

    Args:
        name: the name that the stub gives to the function.
        inputs: returns the tuples of arguments, the same ones at every call, the easiest to read first.
        properties: from the most basic to the most demanding; the first one that fails is reported.
    """

    name: str
    inputs: Callable[[], list[tuple]]
    properties: tuple[Property, ...]


@dataclass(frozen=True)
class Verdict:
    """The answer of a check: whether the function passed, which property failed, and how to read it."""

    passed: bool
    failed_property: str | None
    text: str

    def __repr__(self) -> str:
        return self.text


_EXERCISES: dict[str, Exercise] = {}


def register(exercises: Iterable[Exercise]) -> None:
    """Make exercises known to ``check``; a name can be taken once."""
    for exercise in exercises:
        if exercise.name in _EXERCISES:
            raise ValueError(f"two exercises are called {exercise.name!r}; rename one")
        _EXERCISES[exercise.name] = exercise


def check(function: Callable) -> Verdict:
    """Try an answer to the exercise of the same name on several hundred inputs.

    Args:
        function: the reader's function, under the name that the stub gave it.

    Returns:
        A verdict that prints itself: right, not yet filled in, or which property fails and on what input.

    Raises:
        TypeError: if ``function`` is not a function.
        ValueError: if no exercise has its name.
    """
    name = getattr(function, "__name__", None)
    if not callable(function) or name is None:
        raise TypeError(f"check takes the function itself, as in check(my_function), got {type(function).__name__}")
    if name not in _EXERCISES:
        near = difflib.get_close_matches(name, _EXERCISES, n=1, cutoff=0.4)
        wanted = f"is it {near[0]!r}?" if near else f"there are {', '.join(map(repr, _EXERCISES))}"
        raise ValueError(f"no exercise is called {name!r}; {wanted}")
    return _judge(function, _EXERCISES[name])


def _judge(function: Callable, exercise: Exercise) -> Verdict:
    inputs = exercise.inputs()
    for requirement in exercise.properties:
        takes_inputs = len(inspect.signature(requirement).parameters) > 1
        for number, arguments in enumerate(inputs if takes_inputs else [()], start=1):
            headline = f"Not right: {exercise.name} lacks a property."
            try:
                found = requirement(_on_copies(function), *arguments)
            except _Unanswered:
                text = f"Not yet: {exercise.name} returns nothing. Fill in its steps and run the cell again."
                return Verdict(False, "Returns something.", text)
            except Exception as error:
                headline = f"Not right: {exercise.name} stops with an error."
                found = f"{type(error).__name__}: {error}{_line_of(error, function)}"
            if found is not None:
                lines = [headline, f"  Wanted: {requirement.__doc__}", f"  Found:  {found}"]
                if takes_inputs:
                    lines += [f"  On input {number} of {len(inputs)}:", *_named(function, arguments)]
                return Verdict(False, requirement.__doc__, "\n".join(lines))
    count = len(exercise.properties)
    return Verdict(True, None, f"Right: {exercise.name} has all {count} properties on {len(inputs)} inputs.")


class _Unanswered(Exception):  # noqa: N818 - a signal, not an error
    """The function returned None: a stub whose steps are still to be filled in."""


def _on_copies(function: Callable) -> Callable:
    """Return the function, fed with copies: an answer that changes its arguments must not spoil the next input."""

    def call(*arguments):
        answer = function(*copy.deepcopy(arguments))
        if answer is None or answer is ...:
            raise _Unanswered
        return answer

    return call


def _line_of(error: Exception, function: Callable) -> str:
    """Return where in the reader's function the error arose, if it did."""
    code = getattr(function, "__code__", None)
    lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code is code]
    return f" (line {lines[-1] - code.co_firstlineno + 1} of the function)" if lines else ""


def _named(function: Callable, arguments: tuple) -> list[str]:
    """Return the arguments of one input under the names that the function gives them, short enough to be read."""
    names = [*inspect.signature(function).parameters, *("argument" for _ in arguments)]
    with torch._tensor_str.printoptions(precision=3, threshold=24, edgeitems=2, linewidth=90, sci_mode=False):
        shown = [f"{name} = {argument}" for name, argument in zip(names, arguments, strict=False)]
    return [textwrap.indent(text, "    ") for text in shown]
