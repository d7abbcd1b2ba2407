"""What the catalogue says of a loss. Each statement that is a claim is checked by tests/test_catalog.py."""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch.nn.functional

from lib import losses

Sample = tuple[tuple[np.ndarray, ...], dict[str, Any]]
"""The arguments of a call: arrays by position (the first is the input), options by name."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Everything that the course says of one loss, in one place.

    Where a claim depends on options, it holds for those of ``sample``.

    Attributes:
        name: of the function in ``lib.losses``.
        twins: the module of ``lib.reference`` with its NumPy twins; its name is the family.
        title: what people call the loss.
        value: LaTeX of the loss of one sample.
        gradient: LaTeX of its derivative in the input.
        input: what the first argument is, with its shape.
        target: what the second one is, with shape and dtype.
        divides_by: what "mean" divides by, in words.
        divisor: the same as a function of a sample, a number.
        minimiser: what minimises the expected loss. Regression: "mean", "median", "quantile", "log of the mean" or
            "between median and mean" of the target; classification: "posterior", the class probabilities, or
            "majority", the most probable class alone.
        convex: whether the loss is convex in the input.
        lipschitz: the least bound of the Euclidean norm of the gradient of one sample, None where there is none.
        bound: the least upper bound of the loss of one sample, None where there is none.
        robust: regression: whether one outlier, however far, pulls with a bounded force only;
            classification: whether the losses of all classes add up to a constant, so that labels flipped evenly do
            not move the minimiser (Ghosh, Kumar, Sastry 2017, https://arxiv.org/abs/1712.09482).
        calibrated: classification: whether the class with the largest input is the most probable one wherever the
            expected loss is least. None in regression.
        limits: where the loss fails, one sentence each.
        torch: the name of its equal in ``torch.nn.functional``, None where there is none.
        difference: how that one differs, "" where it does not.
        paper: authors, title and year of its origin.
        url: of the paper, a DOI or arXiv link.
        chapter: that explains it, as in the table of contents; None until it is written.
        sample: ``sample(generator, n, spread)`` returns the arguments of a call with n samples, in float64, with
            inputs about as large as ``spread``.
    """

    name: str
    twins: ModuleType
    title: str
    value: str
    gradient: str
    input: str
    target: str
    divides_by: str
    divisor: Callable[[Sample], float]
    minimiser: str
    convex: bool
    lipschitz: float | None
    bound: float | None
    robust: bool
    calibrated: bool | None
    limits: tuple[str, ...]
    torch: str | None
    difference: str
    paper: str
    url: str
    chapter: str | None
    sample: Callable[[np.random.Generator, int, float], Sample]

    @property
    def family(self) -> str:
        """The name of the module that holds it, in ``lib.losses`` as in ``lib.reference``."""
        return self.twins.__name__.rpartition(".")[2]

    @property
    def function(self) -> Callable:
        """The function in ``lib.losses``."""
        return getattr(losses, self.name)

    @property
    def reference(self) -> Callable:
        """Its NumPy twin: the loss before any reduction."""
        return getattr(self.twins, self.name)

    @property
    def reference_gradient(self) -> Callable:
        """The twin's derivative of the summed loss in the input."""
        return getattr(self.twins, f"{self.name}_grad")

    @property
    def torch_function(self) -> Callable | None:
        """Its equal in ``torch.nn.functional``."""
        return None if self.torch is None else getattr(torch.nn.functional, self.torch)
