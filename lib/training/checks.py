"""Checks of the arguments of training: what was given and what is wanted, before anything is computed."""

from numbers import Integral
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from lib.training._spread import PRECISIONS


def check_fit(
    model, loss, train, test, epochs, batch_size, seed, checkpoint, checkpoint_every, precision, micro_batches
):
    """Raise TypeError or ValueError, saying what was given and what is wanted, where an argument of fit is wrong."""
    check_model(model)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("model must have a parameter to train (one with requires_grad), got none")
    if not callable(loss):
        raise TypeError(f"loss must be a function of (output, target), got {type(loss).__name__}")
    check_data("train", train)
    if test is not None:
        check_data("test", test)
    check_count("epochs", epochs, least=0)
    check_count("batch_size", batch_size, least=1)
    check_count("seed", seed, least=0)
    check_count("micro_batches", micro_batches, least=1)
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(map(repr, PRECISIONS))}, got {precision!r}")
    if checkpoint_every is not None:
        check_count("checkpoint_every", checkpoint_every, least=1)
        if checkpoint is None:
            raise ValueError("checkpoint_every needs the name of the file to write: checkpoint=...")
    if checkpoint is not None and not Path(checkpoint).parent.is_dir():
        raise ValueError(f"checkpoint must be in a folder that exists, got {checkpoint}")


def check_model(model):
    """Raise TypeError unless ``model`` is a module."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")


def check_data(name, data):
    """Raise TypeError or ValueError unless ``data`` is a pair of tensors with one row for each sample."""
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise TypeError(f"{name} must be a pair (inputs, targets), got {type(data).__name__}")
    inputs, targets = data
    check_rows(f"{name} inputs", inputs)
    check_rows(f"{name} targets", targets)
    if len(inputs) != len(targets):
        raise ValueError(f"{name} must have a target for each input, got {len(inputs)} inputs, {len(targets)} targets")


def check_rows(name, tensor):
    """Raise TypeError or ValueError unless ``tensor`` is one with at least one row."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}")
    if tensor.ndim == 0 or len(tensor) == 0:
        raise ValueError(f"{name} must have at least one row, got {describe(tensor)}")


def check_count(name, value, least):
    """Raise TypeError or ValueError unless ``value`` is an integer, ``least`` or above."""
    if not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def build_optimizer(optimizer, model):
    """Call the function that makes the optimizer, which is by default Adam at 1e-3, fused."""
    if optimizer is None:
        return torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    wanted = "optimizer must be a function of the parameters that returns one, e.g. partial(torch.optim.SGD, lr=0.1)"
    if not callable(optimizer):
        raise TypeError(f"{wanted}, got {type(optimizer).__name__}")
    built = optimizer(model.parameters())
    if not isinstance(built, torch.optim.Optimizer):
        raise TypeError(f"{wanted}; this one returns {type(built).__name__}")
    return built


def build_schedule(schedule, optimizer, steps):
    """Call the function that makes the schedule, unless it is none."""
    wanted = (
        "schedule must be a function of (optimizer, steps) that returns a torch.optim.lr_scheduler, "
        "e.g. lambda optimizer, steps: OneCycleLR(optimizer, 3e-3, total_steps=steps)"
    )
    if not callable(schedule):
        raise TypeError(f"{wanted}, got {type(schedule).__name__}")
    built = schedule(optimizer, steps)
    if not isinstance(built, LRScheduler):
        raise TypeError(f"{wanted}; this one returns {type(built).__name__}")
    return built


def checked(loss):
    """Return the loss with a check: what no gradient can be taken of is refused with its reason."""

    def checked(output, target):
        if not isinstance(output, Tensor):
            raise TypeError(f"model must return a tensor, got {type(output).__name__}")
        value = loss(output, target)
        if not isinstance(value, Tensor):
            raise TypeError(f"loss must return a scalar tensor, got {type(value).__name__}")
        if value.ndim:
            raise ValueError(f"loss must return a scalar, reduced by .mean() or .sum(), got {describe(value)}")
        if torch.is_grad_enabled() and not value.requires_grad:
            raise ValueError("loss must depend on the model's output: does it round, detach or take an argmax?")
        return value

    return checked


def describe(tensor):
    """Say dtype and shape, for a message: "float32 of shape (3, 4)"."""
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"
