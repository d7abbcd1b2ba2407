"""The one training loop of the course.

``descend`` holds the five moves of every training loop: forward, loss, zero_grad, backward, step. ``fit`` repeats it
over shuffled batches, writes a history and, where asked, checkpoints. The data are whole tensors that lie on the device
and are cut into batches by ``index_select``; a ``DataLoader`` that fetches one sample after another costs more than the
network itself.
"""

import math
import os
import sys
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from numbers import Integral
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.linalg import vector_norm
from tqdm import tqdm

READ_EVERY = 20  # steps between two readings of the losses: each makes a GPU wait until its queue is empty


@dataclass
class History:
    """What a training run saw, as plain numbers: ready to plot, and for JSON by ``dataclasses.asdict``.

    The lists for test data and for classes stay empty where there are none.

    Attributes:
        loss: for each step, the loss of its batch before the step.
        gradient_norm: for each step, the Euclidean norm of the gradient of all parameters.
        correct: for each step, how many targets of its batch the model got right before the step.
        train_loss: for each epoch, the mean of its steps' losses.
        train_accuracy: for each epoch, the share of the targets that were right when their turn came.
        test_loss: the loss on the test data after each epoch.
        test_accuracy: the accuracy on the test data after each epoch.
        seconds: for each epoch, the time it trained, without evaluation and checkpoints.
    """

    loss: list[float] = field(default_factory=list)
    gradient_norm: list[float] = field(default_factory=list)
    correct: list[int] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    test_loss: list[float] = field(default_factory=list)
    test_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


class Evaluation(NamedTuple):
    """The loss on a set of data, and the accuracy (None where the targets are no classes)."""

    loss: float
    accuracy: float | None


def fit(
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor] | None = None,
    *,
    epochs: int = 10,
    batch_size: int = 64,
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] | None = None,
    seed: int = 0,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: int | None = None,
    progress: bool = True,
) -> History:
    """Train a model by gradient descent on shuffled batches, on the GPU where there is one.

    The order of the samples follows from ``seed`` and the epoch alone. What else is random, the initial weights and
    dropout, is torch's global generator's: ``torch.manual_seed`` before building the model makes all of it repeatable.

    Args:
        model: is moved to ``device()``, trained in place, and left there in training mode.
        loss: from (output, target) of a batch to a scalar, e.g. ``lib.losses.cross_entropy``.
        train: inputs and targets, two tensors with one row for each sample.
        test: the same for the evaluation after each epoch.
        epochs: how often to go through the training data.
        batch_size: samples in a batch; the last batch of an epoch may be smaller.
        optimizer: from the parameters to their optimizer, e.g. ``partial(torch.optim.SGD, lr=0.1)``;
            the default is Adam at 1e-3, in its fused form, which is the fastest on CPU, too.
        seed: decides the order of the samples.
        checkpoint: a file to go on from where it exists, and to write as training proceeds. A run that was killed ends,
            on the same machine, with the weights and the history of an unbroken one, to the bit. The loss and the
            values of the data are not in it: they must be the same again.
        checkpoint_every: steps between two checkpoints (default: an epoch); the last step always gets one.
        progress: show a progress bar on stderr, where someone is there to see it.

    Returns:
        What was seen on the way, including the part before a resumed checkpoint.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if an argument is out of range, the loss is no scalar that depends on the model, or the checkpoint
            is damaged or another run's.
        FloatingPointError: if the loss, the gradient or a weight is infinite or NaN; it names the step, and the
            checkpoint remains the last good one.

    Example:
        >>> x, line = torch.linspace(-1, 1, 64).reshape(64, 1), nn.Linear(1, 1)
        >>> history = fit(line, nn.MSELoss(), (x, 3 * x), epochs=50, optimizer=lambda p: torch.optim.SGD(p, lr=0.5))
        >>> print(f"{line.weight.item():.3f} after {len(history.loss)} steps")
        3.000 after 50 steps
    """
    _check_fit(model, loss, train, test, epochs, batch_size, seed, checkpoint, checkpoint_every)
    where = device()
    model.to(where)
    inputs, targets = (tensor.to(where) for tensor in train)
    test = test and tuple(tensor.to(where) for tensor in test)
    optimizer = _build(optimizer or _fused_adam, model)
    history = History()
    run = _settings(model, optimizer, train, test, batch_size, seed)
    steps = math.ceil(len(inputs) / batch_size)  # of an epoch
    checkpoint_every = checkpoint_every or steps
    if checkpoint is not None and Path(checkpoint).exists():
        history = _resume(Path(checkpoint), model, optimizer, run, last_step=epochs * steps)

    step, last_step = len(history.loss), epochs * steps
    bar = tqdm(total=last_step, initial=step, unit=" steps", leave=False, disable=not (progress and _watched()))
    with bar:
        for epoch in range(step // steps, epochs):
            start, end = epoch * steps, (epoch + 1) * steps
            batches = order(len(inputs), seed, epoch).to(where).split(batch_size)
            while step < end:
                # As far as the next reading, checkpoint or end of the epoch, whichever comes first.
                stop = min(step + READ_EVERY, step - step % checkpoint_every + checkpoint_every, end)
                stretch = batches[step - start : stop - start]
                _record(history, descend(model, _checked(loss), optimizer, inputs, targets, stretch), steps)
                bar.set_postfix(epoch=epoch + 1, loss=f"{history.loss[-1]:.4f}", refresh=False)
                bar.update(stop - step)
                step = stop
                if step == end:
                    _end_epoch(history, start, model, loss, targets, test)
                if checkpoint is not None and (step % checkpoint_every == 0 or step == last_step):
                    _save(Path(checkpoint), model, optimizer, history, run)
    return history


def descend(model, loss, optimizer, inputs, targets, batches):
    """Take one step of gradient descent for each batch: the five moves of every training loop.

    Args:
        model: maps inputs to outputs.
        loss: from (output, target) to a scalar.
        optimizer: of the model's parameters.
        inputs: of all training samples, one row for each.
        targets: theirs, likewise.
        batches: for each step, a tensor with the row numbers of its samples.

    Yields:
        For each step its loss, the norm of its gradient, its output and its target, still on the device.
    """
    model.train()
    parameters = list(model.parameters())
    for batch in batches:
        input = inputs.index_select(0, batch)
        target = targets.index_select(0, batch)

        output = model(input)  # forward: what the model says
        value = loss(output, target)  # loss: how wrong that is
        optimizer.zero_grad()  # zero_grad: forget the last gradient
        value.backward()  # backward: the slope of the loss, for every parameter
        norm = gradient_norm(parameters)  # (before step: some optimizers overwrite it)
        optimizer.step()  # step: downhill

        yield value.detach(), norm, output.detach(), target


def evaluate(
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    data: tuple[Tensor, Tensor],
    *,
    batch_size: int = 1000,
) -> Evaluation:
    """Return the loss and the accuracy of a model on data, in evaluation mode.

    The loss is taken once, of all outputs together: a mean over the samples is one whatever the batch size, weighted
    or with ignored targets, too.

    Args:
        model: is used where it lies and left in the mode in which it was.
        loss: from (output, target) to a scalar.
        data: inputs and targets, two tensors with one row for each sample.
        batch_size: samples that go through the model at a time.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if the data are empty or of unequal length, or the loss is no scalar.
    """
    _check_data("data", data)
    outputs = predict(model, data[0], batch_size=batch_size)
    targets = data[1].to(outputs.device)
    with torch.no_grad():
        value = _checked(loss)(outputs, targets).item()
    return Evaluation(value, accuracy(outputs, targets) if _are_classes(outputs, targets) else None)


@torch.no_grad()
def predict(model: nn.Module, inputs: Tensor, *, batch_size: int = 1000) -> Tensor:
    """Return the outputs of a model, in evaluation mode and without gradient, for any number of inputs.

    Args:
        model: is used where it lies and left in the mode in which it was.
        inputs: one row for each sample.
        batch_size: samples that go through the model at a time.

    Returns:
        One row for each sample, on the device of ``inputs``.

    Raises:
        TypeError: if ``model`` is no module or ``inputs`` no tensor.
        ValueError: if it has no rows, or ``batch_size`` is below 1.
    """
    _check_model(model)
    _check_rows("inputs", inputs)
    _check_count("batch_size", batch_size, least=1)
    where = next(model.parameters(), inputs).device
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        outputs = [model(batch.to(where)) for batch in inputs.split(batch_size)]
    finally:
        for module, training in modes.items():
            module.training = training
    return torch.cat(outputs).to(inputs.device)


def accuracy(output: Tensor, target: Tensor) -> float:
    """Return the share of the targets that are the class with the largest output.

    Args:
        output: a score for each class, shape (N, C) or (N, C, d1, ..., dK).
        target: class indices, integers, shape (N,) or (N, d1, ..., dK).

    Raises:
        ValueError: if the shapes do not fit, the target holds no integers, or there is none.
    """
    if not _are_classes(output, target) or not target.numel():
        raise ValueError(
            "accuracy needs outputs of shape (N, C, ...) and integer targets of shape (N, ...), at least one; "
            f"got {_describe(output)} and {_describe(target)}"
        )
    return _count_correct(output, target).item() / target.numel()


class CalibrationBins(NamedTuple):
    """Predictions sorted by how sure they are into bins of equal width; NaN where a bin is empty.

    Attributes:
        share: the share of all samples that falls into each bin, shape (bins,).
        confidence: the mean probability of the predicted class in each bin, shape (bins,).
        accuracy: the share of the samples of each bin that is right, shape (bins,).
    """

    share: Tensor
    confidence: Tensor
    accuracy: Tensor


def calibration_bins(probabilities: Tensor, target: Tensor, *, bins: int = 10) -> CalibrationBins:
    """Compare how sure a model is of its predictions with how often they are right.

    Args:
        probabilities: of the classes, in [0, 1], shape (N, C).
        target: class indices, integers, shape (N,).
        bins: the number of bins of equal width into which [0, 1] is cut; a bin holds its lower limit, the last one 1.

    Raises:
        TypeError: if ``bins`` is no integer.
        ValueError: if the shapes do not fit, a probability is outside [0, 1], or ``bins`` is below 1.

    Source: Guo, Pleiss, Sun, Weinberger (2017), https://arxiv.org/abs/1706.04599.
    """
    _check_count("bins", bins, least=1)
    if probabilities.ndim != 2 or not _are_classes(probabilities, target) or not target.numel():
        raise ValueError(
            "calibration needs probabilities of shape (N, C) and integer targets of shape (N,), at least one; "
            f"got {_describe(probabilities)} and {_describe(target)}"
        )
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError("probabilities must be in [0, 1]; are these logits? Then take their softmax first")
    confidence, prediction = probabilities.double().max(1)
    bin_of = (confidence * bins).long().clamp(max=bins - 1)

    def total(values):
        return torch.zeros(bins, dtype=torch.float64, device=values.device).index_add(0, bin_of, values)

    count = total(torch.ones_like(confidence))
    return CalibrationBins(
        share=count / len(target),
        confidence=total(confidence) / count,
        accuracy=total((prediction == target).double()) / count,
    )


def expected_calibration_error(probabilities: Tensor, target: Tensor, *, bins: int = 10) -> float:
    """Return the mean gap, over the samples, between how sure their bin is and how often it is right.

    ECE = sum over the bins of share * abs(accuracy - confidence), in [0, 1]. Arguments, errors and source as for
    ``calibration_bins``.
    """
    found = calibration_bins(probabilities, target, bins=bins)
    return (found.share * (found.accuracy - found.confidence).abs()).nansum().item()


def gradient_norm(parameters: Iterable[Tensor]) -> Tensor:
    """Return the Euclidean norm of the gradient of all parameters together, a scalar on their device."""
    return vector_norm(torch.stack([vector_norm(p.grad) for p in parameters if p.grad is not None]))


def order(length: int, seed: int, epoch: int) -> Tensor:
    """Return the order of the samples in an epoch: a permutation of range(length) that depends on nothing else.

    NumPy mixes the two numbers into one stream. torch's CPU generator could not tell ``seed + epoch`` apart, and of a
    larger number, say ``seed << 32 | epoch``, it uses the lower 32 bits only.
    """
    return torch.from_numpy(np.random.default_rng((seed, epoch)).permutation(length))


def device() -> torch.device:
    """Return where training happens: CUDA where it is present, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _fused_adam(parameters):
    return torch.optim.Adam(parameters, lr=1e-3, fused=True)


def _are_classes(output, target):
    """Tell whether the targets are class indices and the outputs a score for each class, in dimension 1."""
    integers = not (target.is_floating_point() or target.is_complex() or target.dtype == torch.bool)
    size = output.shape
    return integers and len(size) > 1 and (size[0], *size[2:]) == target.shape


def _count_correct(output, target):
    return (output.argmax(1) == target).sum()


# What fit records


def _record(history, stretch, steps):
    """Take a stretch of steps, and enter in the history what they saw."""
    done = len(history.loss)
    if done % steps == 0:  # a new epoch
        history.seconds.append(0.0)
    began = perf_counter()
    losses, norms, correct = [], [], []
    try:
        for loss, norm, output, target in stretch:
            losses.append(loss)
            norms.append(norm)
            if _are_classes(output, target):
                correct.append(_count_correct(output, target))
    finally:  # After an error, too: what caused it may be a NaN some steps earlier, and that is the one to name.
        history.loss += _read(losses)
        history.gradient_norm += _read(norms)
        history.correct += _read(correct)
        history.seconds[-1] += perf_counter() - began
        _check_finite(history, done, steps)


def _read(scalars):
    return torch.stack(scalars).tolist() if scalars else []


def _check_finite(history, done, steps):
    """Raise FloatingPointError if, after the first ``done`` steps, a loss or a gradient is infinite or NaN."""
    for step in range(done, len(history.loss)):
        loss, norm = history.loss[step], history.gradient_norm[step]
        if not math.isfinite(loss + norm):
            what = f"norm of the gradient is {norm}" if math.isfinite(loss) else f"loss is {loss}"
            epoch, batch = divmod(step, steps)
            raise FloatingPointError(
                f"the {what} at step {step + 1} (epoch {epoch + 1}, batch {batch + 1} of {steps}). Usual causes: "
                "a learning rate that is too high, log(0) or 0/0 in the loss, a NaN in the data"
            )


def _end_epoch(history, start, model, loss, targets, test):
    """Enter in the history what is known of an epoch, begun after step ``start``, once its training is over."""
    history.train_loss.append(fmean(history.loss[start:]))
    if history.correct:
        history.train_accuracy.append(sum(history.correct[start:]) / targets.numel())
    if test is not None:
        result = evaluate(model, loss, test)
        history.test_loss.append(result.loss)
        if result.accuracy is not None:
            history.test_accuracy.append(result.accuracy)


def _watched():
    """Tell whether someone is there to see a progress bar: at a terminal, or in front of a notebook.

    With every cell, a notebook's front end tells the kernel whether it can answer a prompt (``allow_stdin``).
    JupyterLab and Colab can; nbclient, nbval and jupyter-book cannot, and would save the bar among the outputs.
    """
    ipython = sys.modules.get("IPython")
    kernel = ipython and getattr(ipython.get_ipython(), "kernel", None)
    if kernel:
        return kernel.get_parent().get("content", {}).get("allow_stdin", False)
    return sys.stderr.isatty()


# Checkpoints


def _settings(model, optimizer, train, test, batch_size, seed):
    """Return what must be the same for a checkpoint to be resumed, by name, as text."""
    tensors = {"training inputs": train[0], "training targets": train[1]}
    tensors |= {"test inputs": test[0], "test targets": test[1]} if test else {}
    tensors |= {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    return {
        "batch_size": str(batch_size),
        "seed": str(seed),
        "optimizer": " ".join(repr(optimizer).split()),
        **{name: _describe(tensor) for name, tensor in tensors.items()},
    }


def _save(path, model, optimizer, history, run):
    """Write a checkpoint such that, whatever happens, the file is either the old one or the new one, whole."""
    if not all(parameter.isfinite().all() for parameter in model.parameters()):
        raise FloatingPointError(f"a weight is infinite or NaN after step {len(history.loss)}: lower the learning rate")
    state = {
        "run": run,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()},
        "history": asdict(history),
    }
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


def _resume(path, model, optimizer, run, last_step):
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
    torch.set_rng_state(state["random"]["cpu"])
    for index, generator in enumerate(state["random"]["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(generator, index)
    return history


# Checks of arguments


def _check_fit(model, loss, train, test, epochs, batch_size, seed, checkpoint, checkpoint_every):
    """Raise TypeError or ValueError, saying what was given and what is wanted, where an argument of fit is wrong."""
    _check_model(model)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("model must have a parameter to train (one with requires_grad), got none")
    if not callable(loss):
        raise TypeError(f"loss must be a function of (output, target), got {type(loss).__name__}")
    _check_data("train", train)
    if test is not None:
        _check_data("test", test)
    _check_count("epochs", epochs, least=0)
    _check_count("batch_size", batch_size, least=1)
    _check_count("seed", seed, least=0)
    if checkpoint_every is not None:
        _check_count("checkpoint_every", checkpoint_every, least=1)
        if checkpoint is None:
            raise ValueError("checkpoint_every needs the name of the file to write: checkpoint=...")
    if checkpoint is not None and not Path(checkpoint).parent.is_dir():
        raise ValueError(f"checkpoint must be in a folder that exists, got {checkpoint}")


def _check_model(model):
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")


def _check_data(name, data):
    """Raise TypeError or ValueError unless ``data`` is a pair of tensors with one row for each sample."""
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise TypeError(f"{name} must be a pair (inputs, targets), got {type(data).__name__}")
    inputs, targets = data
    _check_rows(f"{name} inputs", inputs)
    _check_rows(f"{name} targets", targets)
    if len(inputs) != len(targets):
        raise ValueError(f"{name} must have a target for each input, got {len(inputs)} inputs, {len(targets)} targets")


def _check_rows(name, tensor):
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}")
    if tensor.ndim == 0 or len(tensor) == 0:
        raise ValueError(f"{name} must have at least one row, got {_describe(tensor)}")


def _check_count(name, value, least):
    if not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def _build(optimizer, model):
    """Call the function that makes the optimizer, unless it is none."""
    wanted = "optimizer must be a function of the parameters that returns one, e.g. partial(torch.optim.SGD, lr=0.1)"
    if not callable(optimizer):
        raise TypeError(f"{wanted}, got {type(optimizer).__name__}")
    built = optimizer(model.parameters())
    if not isinstance(built, torch.optim.Optimizer):
        raise TypeError(f"{wanted}; this one returns {type(built).__name__}")
    return built


def _checked(loss):
    """Return the loss with a check: what no gradient can be taken of is refused with its reason."""

    def checked(output, target):
        if not isinstance(output, Tensor):
            raise TypeError(f"model must return a tensor, got {type(output).__name__}")
        value = loss(output, target)
        if not isinstance(value, Tensor):
            raise TypeError(f"loss must return a scalar tensor, got {type(value).__name__}")
        if value.ndim:
            raise ValueError(f"loss must return a scalar, reduced by .mean() or .sum(), got {_describe(value)}")
        if torch.is_grad_enabled() and not value.requires_grad:
            raise ValueError("loss must depend on the model's output: does it round, detach or take an argmax?")
        return value

    return checked


def _describe(tensor):
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"
