"""Checkpoints: whole or not at all, and refused by any other run."""

import os
import zipfile
from dataclasses import asdict
from functools import partial

import torch
from torch import Tensor, distributed, nn

from lib.training._history import History
from lib.training._spread import rank, world_size
from lib.training.checks import describe


def settings(model, loss, optimizer, schedule, train, test, batch_size, seed, precision):
    """Return what must be the same for a checkpoint to be resumed, by name, as text.

    The numbers of processes and of micro-batches are not among them: they do not change the result.
    """
    tensors = {"training inputs": train[0], "training targets": train[1]}
    tensors |= {"test inputs": test[0], "test targets": test[1]} if test else {}
    tensors |= {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    return {
        "loss": _name(loss),
        "batch_size": str(batch_size),
        "seed": str(seed),
        "precision": precision,
        "optimizer": " ".join(repr(optimizer).split()),
        "schedule": _describe_schedule(schedule),
        **{name: describe(tensor) for name, tensor in tensors.items()},
    }


def save(path, model, optimizer, schedule, history, run):
    """Write a checkpoint such that, whatever happens, the file is either the old one or the new one, whole.

    Every process must call it: each has a random state of its own. The first one writes.
    """
    if not all(parameter.isfinite().all() for parameter in model.parameters()):
        raise FloatingPointError(f"a weight is infinite or NaN after step {len(history.loss)}: lower the learning rate")
    state = {
        "run": run,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule and schedule.state_dict(),
        "random": _random_states(),
        "history": asdict(history),
    }
    if rank() > 0:
        return
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except Exception as error:
        error.add_note(f"The checkpoint {path} could not be written; what was there before is untouched.")
        raise
    finally:
        part.unlink(missing_ok=True)


def resume(path, model, optimizer, schedule, run, last_step):
    """Put a run back to where it was when it wrote the checkpoint, and return its history."""
    state = _load(path)
    saved, history = state["run"], state["history"]
    for name in {**run, **saved}:
        if saved.get(name) != run.get(name):
            raise ValueError(
                f"{path} belongs to another run: {name} was {saved.get(name, 'absent')}, "
                f"now it is {run.get(name, 'absent')}. Name another file, or delete this one to start afresh"
            )
    if len(history.loss) > last_step:
        raise ValueError(f"{path} is at step {len(history.loss)}, beyond the last step asked for, {last_step}")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    if schedule:
        schedule.load_state_dict(state["schedule"])
    if rank() < len(state["random"]):  # one more process than then keeps the random state with which it has started
        _set_random_state(state["random"][rank()])
    return history


def _load(path):
    """Read a checkpoint, or raise ValueError if it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not look at the checksums that torch.save writes
            if archive.testzip():
                raise zipfile.BadZipFile("wrong checksum")
        state = torch.load(path, map_location="cpu", weights_only=True)
        return state | {"history": History(**state["history"])}
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"{path} is damaged or no checkpoint of fit: delete it to start afresh ({error})") from error


def _random_states():
    own = {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}
    if world_size() == 1:
        return [own]
    states = [None] * world_size()
    distributed.all_gather_object(states, own)
    return states


def _set_random_state(state):
    torch.set_rng_state(state["cpu"])
    for index, generator in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(generator, index)


def _name(loss):
    """Name a loss as a reader would write it: "focal_loss(gamma=2.0)"."""
    if isinstance(loss, partial):
        options = [*map(repr, loss.args), *(f"{name}={value!r}" for name, value in loss.keywords.items())]
        return f"{_name(loss.func)}({', '.join(options)})"
    if isinstance(loss, nn.Module):
        return " ".join(repr(loss).split())
    return getattr(loss, "__qualname__", type(loss).__qualname__)


def _describe_schedule(schedule):
    if schedule is None:
        return "none"
    numbers = {name: value for name, value in schedule.state_dict().items() if isinstance(value, int | float | str)}
    return f"{type(schedule).__name__} {numbers}"
