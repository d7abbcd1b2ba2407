"""What the catalogue says of a loss. Each statement that is a claim is checked by tests/test_catalog.py."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch.nn.functional
from torch import Tensor

Sample = tuple[tuple[np.ndarray, ...], dict[str, Any]]
"""The arguments of a call: arrays by position (the first is the input), options by name."""


def _as_they_are(*arguments):
    return arguments


def _as_it_is(logits):
    return logits


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Everything that the course says of one loss, in one place.

    Where a claim depends on options, it holds for those of ``sample``.

    Attributes:
        name: of the function in ``lib.losses``; of one that is several losses, with the kind behind a comma:
            "generator_loss, wgan".
        twins: the module of ``lib.reference`` with its NumPy twins; its name is the family.
        title: what people call the loss.
        value: LaTeX of the loss of one sample.
        gradient: LaTeX of its derivative in the input.
        symbols: what the letters of the formulas stand for, where the input and the target do not say so.
        input: what the first argument is, with its shape.
        target: what the second one is, with shape and dtype.
        divides_by: what "mean" divides by, in words.
        divisor: the same as a function of a sample, a number; None where the function knows no reductions.
        minimiser: what minimises the expected loss. Regression: "mean", "median", "quantile", "log of the mean" or
            "between median and mean" of the target. Classification: the class probabilities ("posterior"), the same
            made more even or less ("flattened posterior", "sharpened posterior"), the most probable class alone
            ("majority"), or not even that where it has less than half ("majority above one half"). Other losses: in
            words, with ``optimum`` to prove it.
        optimum: of losses that are neither regression nor classification: ``optimum(generator)`` returns a sample
            whose input is a minimiser for the rest of its arguments.
        convex: whether the loss is convex in the input.
        lipschitz: the least bound of the Euclidean norm of the gradient of one sample, None where there is none.
        bound: the least upper bound of the loss of one sample, None where there is none.
        robust: regression: whether one outlier, however far, pulls with a bounded force only;
            classification: whether the losses of all classes add up to a constant, so that labels flipped evenly do
            not move the minimiser (Ghosh, Kumar, Sastry 2017, https://arxiv.org/abs/1712.09482). None elsewhere.
        calibrated: classification: whether the class with the largest input is the most probable one wherever the
            expected loss is least. None elsewhere.
        setting: for which sizes and options the numbers of ``lipschitz`` and ``bound`` hold, where they depend on them.
        limits: where the loss fails, one sentence each.
        torch: the name of its equal in ``torch.nn.functional``, None where there is none.
        difference: how that one differs, "" where it does not.
        paper: authors, title and year of its origin.
        url: of the paper: a DOI, an arXiv link, or the archive of a conference or journal that has neither.
        chapter: that explains it, as in the table of contents; None until it is written.
        sample: ``sample(generator, n, spread)`` returns the arguments of a call with n samples, in float64, with
            inputs about as large as ``spread``.
        differentiable: the positions of the arguments whose gradients the twin returns, the input's first.
        arguments: turns the tensors of a sample into the arguments of the function, where it takes something else
            (named parameters, say).
        link: turns logits into the input, where it takes something else (probabilities, say).
    """

    name: str
    twins: ModuleType
    title: str
    value: str
    gradient: str
    input: str
    target: str
    divides_by: str
    divisor: Callable[[Sample], float] | None
    minimiser: str
    convex: bool
    lipschitz: float | None
    bound: float | None
    robust: bool | None = None
    calibrated: bool | None = None
    limits: tuple[str, ...]
    torch: str | None = None
    difference: str = ""
    paper: str
    url: str
    chapter: str | None = None
    symbols: str = ""
    setting: str = ""
    sample: Callable[[np.random.Generator, int, float], Sample]
    optimum: Callable[[np.random.Generator], Sample] | None = None
    differentiable: tuple[int, ...] = (0,)
    arguments: Callable[..., tuple] = _as_they_are
    link: Callable[[Tensor], Tensor] = _as_it_is

    @property
    def family(self) -> str:
        """The name of the module that holds it, in ``lib.losses`` as in ``lib.reference``."""
        return self.twins.__name__.rpartition(".")[2]

    @property
    def function_name(self) -> str:
        """The name of the function in ``lib.losses``, as in ``lib.reference``."""
        return self.name.partition(",")[0]

    @property
    def task(self) -> str:
        """What the minimiser is a statement about: "regression", "classification" or "other"."""
        if self.optimum is not None:
            return "other"
        return "regression" if self.calibrated is None else "classification"

    @property
    def function(self) -> Callable:
        """The function in ``lib.losses``."""
        return getattr(importlib.import_module(f"lib.losses.{self.family}"), self.function_name)

    @property
    def reference(self) -> Callable:
        """Its NumPy twin: the loss before any reduction."""
        return getattr(self.twins, self.function_name)

    @property
    def reference_gradient(self) -> Callable:
        """The twin's derivative of the summed loss in the input, or in each differentiable argument."""
        return getattr(self.twins, f"{self.function_name}_grad")

    @property
    def torch_function(self) -> Callable | None:
        """Its equal in ``torch.nn.functional``."""
        return None if self.torch is None else getattr(torch.nn.functional, self.torch)


@dataclass(frozen=True, kw_only=True)
class Tool:
    """What the course says of a name in ``lib.losses`` that is no loss of an input and a target, but works on losses.

    Attributes:
        name: in ``lib.losses``.
        family: the name of the module that holds it.
        title: what people call it.
        value: LaTeX of what it computes.
        symbols: what the letters of the formula stand for.
        purpose: what it is for, one sentence.
        limits: where it fails, one sentence each.
        paper: authors, title and year of its origin.
        url: of the paper.
        chapter: that explains it, as in the table of contents; None until it is written.
    """

    name: str
    family: str
    title: str
    value: str
    purpose: str
    limits: tuple[str, ...]
    paper: str
    url: str
    chapter: str | None = None
    symbols: str = ""
