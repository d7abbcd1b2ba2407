"""Train the document's network on images with any loss of the course that takes logits and classes.

Under torchrun (torchrun --nproc_per_node=2 -m lib.training) the processes share each batch, and with --max-restarts=1 a
run whose worker was killed goes on from its last checkpoint. The same command again goes on from it, too.
"""

import argparse
import ast
import contextlib
import inspect
import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from torch.optim.lr_scheduler import OneCycleLR

from lib import catalog
from lib.data import load_fashion_mnist, load_mnist
from lib.networks import document_network
from lib.training import PRECISIONS, evaluate, fit, processes, rank

DATA = {"mnist": load_mnist, "fashion-mnist": load_fashion_mnist}
SCHEDULES = {
    "constant": None,
    "one-cycle": lambda optimizer, steps: OneCycleLR(
        optimizer, [group["lr"] for group in optimizer.param_groups], total_steps=max(steps, 1)
    ),
}


def main(arguments: list[str] | None = None) -> int:
    """Train as the command line says; return 0, or 2 after an error that the user can put right."""
    options = _parser().parse_args(arguments)
    try:
        with processes():
            train(options)
    except (ValueError, TypeError, OSError, FloatingPointError, ModuleNotFoundError) as error:
        notes = getattr(error, "__notes__", [])
        print("\n".join([f"error: {error}", *notes]), file=sys.stderr)
        return 2
    return 0


def train(options: argparse.Namespace) -> None:
    """Train, save checkpoint and history, and say where."""
    loss = loss_for_classes(options.loss, options.option)
    load = DATA[options.data]
    sets = [load(split) for split in ("train", "test")]
    train_set, test_set = ((images.images.flatten(1).float() / 127.5 - 1, images.labels) for images in sets)
    folder = options.output or Path("runs") / f"{options.data}-{options.loss}-seed{options.seed}"
    folder.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(options.seed)
    network = document_network()
    if rank() == 0:
        print(f"{options.loss} on {sets[0].source}, {options.epochs} epochs")
    history = fit(
        network,
        loss,
        train_set,
        test_set,
        epochs=options.epochs,
        batch_size=options.batch_size,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=options.learning_rate, fused=True),
        schedule=SCHEDULES[options.schedule],
        seed=options.seed,
        precision=options.precision,
        micro_batches=options.micro_batches,
        checkpoint=folder / "checkpoint.pt",
        checkpoint_every=options.checkpoint_every,
        tensorboard=folder / "tensorboard" if options.tensorboard else None,
    )
    if rank() > 0:
        return
    write_history(folder / "history.json", history, options)
    result = evaluate(network, loss, test_set)
    print(f"test loss {result.loss:.4f}, test accuracy {result.accuracy:.2%}, {sum(history.seconds):.1f} s of training")
    print(f"checkpoint: {folder / 'checkpoint.pt'}")
    print(f"history:    {folder / 'history.json'}")
    if options.tensorboard:
        print(f"log:        {folder / 'tensorboard'}")


def loss_for_classes(name: str, options: dict):
    """Return a loss with its options, tried out on logits and classes.

    Args:
        name: of a function in ``lib.losses``.
        options: its options by name.

    Raises:
        ValueError: if there is no such loss, it has no such option, or it does not take logits and classes; the
            message names the nearest or says what is wanted.
    """
    known = catalog.entry(name)
    if not (isinstance(known, catalog.Entry) and known.task == "classification"):
        raise ValueError(
            f"{name} cannot be trained on logits of ten classes and their labels: it is no loss of the two"
        )
    signature = inspect.signature(known.function).parameters.values()
    allowed = [option.name for option in signature if option.kind is option.KEYWORD_ONLY]
    for option in options:
        if option not in allowed:
            raise ValueError(f"{name} has no option {option!r}; it has {', '.join(allowed)}")

    def loss(logits, labels):
        return known.function(known.link(logits), labels, **options)

    loss.__qualname__ = f"{name}({', '.join(f'{option}={value!r}' for option, value in options.items())})"
    try:
        value = loss(torch.zeros(2, 10), torch.tensor([0, 1]))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name} cannot be trained on logits of ten classes and their labels: {error}") from error
    if value.ndim:
        raise ValueError(f"{name} must return one number for a batch, with {options} its shape is {tuple(value.shape)}")
    return loss


def write_history(path: Path, history, options: argparse.Namespace) -> None:
    """Write the settings and the history as JSON, such that the file is never half written."""
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    part = path.with_suffix(".part")
    part.write_text(json.dumps({"settings": settings, "history": asdict(history)}, indent=1))
    part.replace(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m lib.training", description=__doc__)
    add = parser.add_argument
    default = " (default: %(default)s)"
    add("--loss", default="cross_entropy", metavar="NAME", help=f"a loss of the catalogue{default}")
    add("--option", action=_Option, default={}, metavar="NAME=VALUE", help="of the loss, e.g. gamma=3; may be repeated")
    add("--data", choices=DATA, default="mnist", help=f"what to train on{default}")
    add("--epochs", type=int, default=10, metavar="N", help=f"how often to go through the data{default}")
    add("--batch-size", type=int, default=64, metavar="N", help=f"samples in a batch, of all processes{default}")
    add("--learning-rate", type=float, default=1e-3, metavar="X", help=f"of Adam; with one-cycle its peak{default}")
    add("--schedule", choices=SCHEDULES, default="constant", help=f"of the learning rate{default}")
    add("--seed", type=int, default=0, metavar="N", help=f"of the weights and of the order of the samples{default}")
    add("--precision", choices=PRECISIONS, default="float32", help=f"of the layers{default}")
    add("--micro-batches", type=int, default=1, metavar="N", help=f"parts of a batch, to save memory{default}")
    add("--output", type=Path, metavar="FOLDER", help="where to save (default: runs/DATA-LOSS-seedSEED)")
    add("--checkpoint-every", type=int, metavar="N", help="steps between two checkpoints (default: an epoch)")
    add("--tensorboard", action="store_true", help="write a log for TensorBoard, too")
    return parser


class _Option(argparse.Action):
    """Collects NAME=VALUE, the value read as a Python literal, else as text."""

    def __call__(self, parser, namespace, text, flag=None):
        name, equals, value = text.partition("=")
        if not (name and equals):
            parser.error(f"{flag} must have the form NAME=VALUE, got {text!r}")
        with contextlib.suppress(ValueError, SyntaxError):
            value = ast.literal_eval(value)
        setattr(namespace, self.dest, {**getattr(namespace, self.dest), name: value})


if __name__ == "__main__":
    sys.exit(main())
