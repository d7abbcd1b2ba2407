"""What the catalogue says of a loss. Each statement that is a claim is checked by tests/test_catalog.py."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

Sample = tuple[tuple[np.ndarray, ...], dict[str, Any]]
"""The arguments of a call: arrays by position (the first is the input), options by name."""


def _as_they_are(*arguments):
    return arguments


def _as_it_is(logits):
    return logits


@dataclass(frozen=True)
class Slice:
    """A path through the input, along which a loss and its slope can be drawn.

    Attributes:
        label: what changes along the path.
        low: where the path begins.
        high: where it ends.
        at: turns a point of the path, a tensor of shape (), into the tensors that the loss of one sample takes there.
    """

    label: str
    low: float
    high: float
    at: Callable[[Tensor], tuple[Tensor, ...]]


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the course says of everything in ``lib.losses``.

    Attributes:
        name: in ``lib.losses``; of a function that is several losses, with the kind behind a comma:
            "generator_loss, wgan".
        title: what people call it.
        use_for: the tasks that it is for, of ``TASKS``.
        first_choice_for: those of them for which it is what to try first.
        helps_against: the troubles that it is a remedy for, of ``TROUBLES``.
        because: when to choose it and not its neighbours, one sentence or two.
        serves: the decisions of ``DECISIONS`` that it serves, where neither its tasks nor its minimiser tell.
        value: LaTeX of what it computes, of a loss that of one sample.
        symbols: what the letters of the formulas stand for, where the input and the target do not say so.
        limits: where it fails, one sentence each.
        paper: authors, title and year of its origin.
        url: of the paper: a DOI, an arXiv link, or the archive of a conference or journal that has neither.
        chapter: that explains it, as in the table of contents; None until it is written.
    """

    name: str
    title: str
    use_for: tuple[str, ...]
    first_choice_for: tuple[str, ...] = ()
    helps_against: tuple[str, ...] = ()
    because: str
    serves: tuple[str, ...] = ()
    value: str
    symbols: str = ""
    limits: tuple[str, ...]
    paper: str
    url: str
    chapter: str | None = None

    @property
    def anchor(self) -> str:
        """The name as a part of an address: the fragment of its card in the atlas."""
        return self.name.lower().replace(", ", "-").replace("_", "-")

    @property
    def decisions(self) -> tuple[str, ...]:
        """The decisions of ``DECISIONS`` that it serves."""
        by_task = {"order items": "an order", "compare things": "a distance"}
        return (*self.serves, *(decision for task, decision in by_task.items() if task in self.use_for))


@dataclass(frozen=True, kw_only=True)
class Entry(Known):
    """Everything that the course says of one loss, in one place.

    Where a claim depends on options, it holds for those of ``sample``.

    Attributes:
        twins: the module of ``lib.reference`` with its NumPy twins; its name is the family.
        gradient: LaTeX of its derivative in the input.
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
        torch: the name of its equal in ``torch.nn.functional``, None where there is none.
        difference: how that one differs, "" where it does not.
        sample: ``sample(generator, n, spread)`` returns the arguments of a call with n samples, in float64, with
            inputs about as large as ``spread``.
        differentiable: the positions of the arguments whose gradients the twin returns, the input's first.
        arguments: turns the tensors of a sample into the arguments of the function, where it takes something else
            (named parameters, say).
        slice: the path along which it is drawn, with the options of ``sample``.
        link: turns logits into the input, where it takes something else (probabilities, say).
    """

    twins: ModuleType
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
    torch: str | None = None
    difference: str = ""
    setting: str = ""
    sample: Callable[[np.random.Generator, int, float], Sample]
    slice: Slice
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
    def decisions(self) -> tuple[str, ...]:
        """The decisions of ``DECISIONS`` that it serves, those that its minimiser tells among them."""
        by_minimiser = {
            "the average": self.minimiser in ("mean", "log of the mean"),
            "the typical value": self.minimiser in ("median", "between median and mean"),
            "a level": self.minimiser == "quantile",
            "a probability": self.minimiser == "posterior",
            "the likeliest class": bool(self.calibrated),
        }
        return (*(decision for decision, serves in by_minimiser.items() if serves), *super().decisions)

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

    def curve(self, points: int = 81) -> np.ndarray:
        """Return points of its ``slice``, the loss of one sample there, and its derivative along the path.

        Args:
            points: how many, evenly spaced.

        Returns:
            An array of shape (3, points).
        """
        _, options = self.sample(np.random.default_rng(0), 1, 1.0)
        if self.divisor is not None:
            options = options | {"reduction": "sum"}
        rows = []
        for point in np.linspace(self.slice.low, self.slice.high, points):
            point = torch.tensor(point, requires_grad=True)
            loss = self.function(*self.arguments(*self.slice.at(point)), **options)
            (slope,) = torch.autograd.grad(loss, point)
            rows.append((point.item(), loss.item(), slope.item()))
        return np.array(rows).T


@dataclass(frozen=True, kw_only=True)
class Tool(Known):
    """What the course says of a name in ``lib.losses`` that is no loss of an input and a target, but works on losses.

    Attributes:
        family: the name of the module that holds it.
        purpose: what it is for, one sentence.
    """

    family: str
    purpose: str
