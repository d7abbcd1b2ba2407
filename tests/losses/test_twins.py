"""The NumPy twins beyond the samples of the catalogue: their defaults, and where losses have kinks."""

import inspect

import numpy as np
import pytest
import torch

from lib.catalog import ENTRIES, Entry

# Rounded, boxes may be empty, and probabilities need not sum to 1.
NOT_TO_BE_ROUNDED = {"iou_loss", "giou_loss", "diou_loss", "ciou_loss", "js_divergence"}


def each(entries):
    """Run a test for each entry."""
    return pytest.mark.parametrize("entry", entries, ids=lambda entry: entry.name)


each_entry = each(ENTRIES)
each_that_may_be_rounded = each([entry for entry in ENTRIES if entry.name not in NOT_TO_BE_ROUNDED])
each_of_rows = each([entry for entry in ENTRIES if entry.input.endswith(("(C,) or (N, C)", "(..., L)", "(..., C)"))])


def assert_twins(entry: Entry, arguments, options) -> None:
    """Value and gradients of the loss are those of its twin."""
    arguments = [np.asarray(argument) for argument in arguments]
    tensors = [torch.from_numpy(argument.copy()) for argument in arguments]
    wanted = [tensors[position].requires_grad_() for position in entry.differentiable]
    reduction = {} if entry.divisor is None else {"reduction": "none"}
    loss = entry.function(*entry.arguments(*tensors), **options, **reduction)
    gradients = torch.autograd.grad(loss.sum(), wanted)
    by_hand = entry.reference_gradient(*arguments, **options)
    by_hand = by_hand[: len(wanted)] if isinstance(by_hand, tuple) else (by_hand,)
    np.testing.assert_allclose(loss.detach(), entry.reference(*arguments, **options), rtol=1e-11, atol=1e-14)
    for ours, theirs in zip(gradients, by_hand, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-13)


def with_default(function) -> set[str]:
    """The names of a function's arguments that need not be given."""
    parameters = inspect.signature(function).parameters.values()
    return {parameter.name for parameter in parameters if parameter.default is not inspect.Parameter.empty}


@each_entry
def test_what_the_loss_and_both_its_twins_do_without_options_is_the_same(entry):
    functions = (entry.function, entry.reference, entry.reference_gradient)
    optional = set.intersection(*map(with_default, functions))
    arguments, options = entry.sample(np.random.default_rng(0), 50, 1.0)
    assert_twins(entry, arguments, {name: value for name, value in options.items() if name not in optional})


@each_that_may_be_rounded
def test_the_twins_agree_where_a_loss_has_its_kinks(entry):
    arguments, options = entry.sample(np.random.default_rng(1), 200, 2.0)
    whole = [np.round(x) if x.dtype.kind == "f" else x for x in map(np.asarray, arguments)]
    assert_twins(entry, whole, options)


@each_of_rows
def test_the_twins_take_one_sample_alone_as_a_row_of_a_batch(entry):
    arguments, options = entry.sample(np.random.default_rng(2), 5, 1.0)
    assert_twins(entry, [np.asarray(argument)[3] for argument in arguments], options)
