"""The training loop of the course."""

import math
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import fmean
from time import perf_counter

import numpy as np
import torch
from torch import Tensor, nn
from torch.linalg import vector_norm
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from lib.training._checkpoint import resume, save, settings
from lib.training._evaluation import are_classes, count_correct, evaluate
from lib.training._history import History
from lib.training._spread import device, rank, spread
from lib.training._tensorboard import TensorBoard
from lib.training.checks import build_optimizer, build_schedule, check_fit, checked

READ_EVERY = 20  # steps between two readings of the losses: each makes a GPU wait until its queue is empty


def fit(
    model: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor] | None = None,
    *,
    epochs: int = 10,
    batch_size: int = 64,
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] | None = None,
    schedule: Callable[[torch.optim.Optimizer, int], LRScheduler] | None = None,
    seed: int = 0,
    precision: str = "float32",
    micro_batches: int = 1,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: int | None = None,
    tensorboard: str | os.PathLike | None = None,
    progress: bool = True,
) -> History:
    """Train a model by gradient descent on shuffled batches, on the GPU where there is one.

    The order of the samples follows from ``seed`` and the epoch alone. What else is random, the initial weights and
    dropout, is torch's global generator's: ``torch.manual_seed`` before building the model makes all of it repeatable.

    Within ``processes()``, under torchrun, every process calls ``fit`` with the same arguments. Each computes its share
    of the outputs of a batch, the loss is taken of all of them, and the gradients of the shares are added up: loss and
    weights are those of one process, up to rounding. The evaluation is every process's own.

    Args:
        model: is moved to ``device()``, trained in place, and left there in training mode.
        loss: from (output, target) of a batch to a scalar, e.g. ``lib.losses.cross_entropy``.
        train: inputs and targets, two tensors with one row for each sample.
        test: the same for the evaluation after each epoch.
        epochs: how often to go through the training data.
        batch_size: samples in a batch; the last batch of an epoch may be smaller.
        optimizer: from the parameters to their optimizer, e.g. ``partial(torch.optim.SGD, lr=0.1)``;
            the default is Adam at 1e-3, in its fused form, which is the fastest on CPU, too.
        schedule: from the optimizer and the number of all steps to what changes its learning rate after each step,
            e.g. ``lambda optimizer, steps: OneCycleLR(optimizer, 3e-3, total_steps=steps)``.
        seed: decides the order of the samples.
        precision: "float32", or "bfloat16" for linear layers and convolutions in bfloat16; weights, loss and evaluation
            stay in float32. (There is no "float16": its gradients underflow without a scale of their own.)
        micro_batches: parts into which each batch is cut to save memory. Gradients are those of the whole batch, also
            of a loss that is no mean over the samples; the price is a second forward pass.
        checkpoint: a file to go on from where it exists, and to write as training proceeds. A run that was killed ends,
            on the same machine, with the weights and the history of an unbroken one, to the bit. Of the loss it
            holds the name alone, of the data the shapes: they must be the same again.
        checkpoint_every: steps between two checkpoints (default: an epoch); the last step always gets one.
        tensorboard: a folder for a log of the history in TensorBoard's format.
        progress: show a progress bar on stderr, where someone is there to see it.

    Returns:
        What was seen on the way, including the part before a resumed checkpoint.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if an argument is out of range, the loss is no scalar that depends on the model, or the checkpoint
            is damaged or another run's.
        ModuleNotFoundError: if a log for TensorBoard is asked for and its package is missing.
        FloatingPointError: if the loss, the gradient or a weight is infinite or NaN; it names the step, and the
            checkpoint remains the last good one.

    Example:
        >>> x, line = torch.linspace(-1, 1, 64).reshape(64, 1), nn.Linear(1, 1)
        >>> history = fit(line, nn.MSELoss(), (x, 3 * x), epochs=50, optimizer=lambda p: torch.optim.SGD(p, lr=0.5))
        >>> print(f"{line.weight.item():.3f} after {len(history.loss)} steps")
        3.000 after 50 steps
    """
    check_fit(
        model, loss, train, test, epochs, batch_size, seed, checkpoint, checkpoint_every, precision, micro_batches
    )
    where = device()
    model.to(where)
    inputs, targets = (tensor.to(where) for tensor in train)
    test = test and tuple(tensor.to(where) for tensor in test)
    steps = math.ceil(len(inputs) / batch_size)  # of an epoch
    last_step = epochs * steps
    optimizer = build_optimizer(optimizer, model)
    schedule = schedule and build_schedule(schedule, optimizer, last_step)
    forward = spread(model, micro_batches, precision)
    if rank() > 0:  # or all would drop out the same units, each of its own samples
        torch.manual_seed(torch.initial_seed() + rank())
    history = History()
    run = settings(model, loss, optimizer, schedule, train, test, batch_size, seed, precision)
    checkpoint_every = checkpoint_every or steps
    if checkpoint is not None and Path(checkpoint).exists():
        history = resume(Path(checkpoint), model, optimizer, schedule, run, last_step)

    step = len(history.loss)
    show = progress and rank() == 0 and _watched()
    bar = tqdm(total=last_step, initial=step, unit=" steps", leave=False, disable=not show)
    log = TensorBoard(tensorboard if rank() == 0 else None, step)
    with bar, log:
        for epoch in range(step // steps, epochs):
            start, end = epoch * steps, (epoch + 1) * steps
            batches = order(len(inputs), seed, epoch).to(where).split(batch_size)
            while step < end:
                # As far as the next reading, checkpoint or end of the epoch, whichever comes first.
                stop = min(step + READ_EVERY, step - step % checkpoint_every + checkpoint_every, end)
                stretch = descend(
                    forward, checked(loss), optimizer, inputs, targets, batches[step - start : stop - start]
                )
                _record(history, stretch, steps, optimizer, schedule)
                log.steps(history, step, stop)
                bar.set_postfix(epoch=epoch + 1, loss=f"{history.loss[-1]:.4f}", refresh=False)
                bar.update(stop - step)
                step = stop
                if step == end:
                    _end_epoch(history, start, model, loss, targets, test)
                    log.epoch(history)
                if checkpoint is not None and (step % checkpoint_every == 0 or step == last_step):
                    save(Path(checkpoint), model, optimizer, schedule, history, run)
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


def gradient_norm(parameters: Iterable[Tensor]) -> Tensor:
    """Return the Euclidean norm of the gradient of all parameters together, a scalar on their device."""
    return vector_norm(torch.stack([vector_norm(p.grad) for p in parameters if p.grad is not None]))


def order(length: int, seed: int, epoch: int) -> Tensor:
    """Return the order of the samples in an epoch: a permutation of range(length) that depends on nothing else.

    NumPy mixes the two numbers into one stream. torch's CPU generator could not tell ``seed + epoch`` apart, and of a
    larger number, say ``seed << 32 | epoch``, it uses the lower 32 bits only.
    """
    return torch.from_numpy(np.random.default_rng((seed, epoch)).permutation(length))


# What fit records


def _record(history, stretch, steps, optimizer, schedule):
    """Take a stretch of steps, turn the learning rate after each, and enter in the history what they saw."""
    done = len(history.loss)
    if done % steps == 0:  # a new epoch
        history.seconds.append(0.0)
    began = perf_counter()
    losses, norms, correct, rates = [], [], [], []
    try:
        for loss, norm, output, target in stretch:
            losses.append(loss)
            norms.append(norm)
            if are_classes(output, target):
                correct.append(count_correct(output, target))
            rates.append(float(optimizer.param_groups[0]["lr"]))
            if schedule:
                schedule.step()
    finally:  # After an error, too: what caused it may be a NaN some steps earlier, and that is the one to name.
        history.loss += _read(losses)
        history.gradient_norm += _read(norms)
        history.correct += _read(correct)
        history.learning_rate += rates
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
