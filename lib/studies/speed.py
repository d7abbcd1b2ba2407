"""How fast the document's network can be trained, and which step on the way is worth what.

Three questions, each with its own protocol:

The ladder: seconds an epoch in each way of ``lib.ladder``, which take turns, with one thread and with two, beside what
the machine could do at best. Of the slow ways a turn is a part of an epoch, as their cost for each sample is constant.

The race: the least time to 98 % with the document's network and to 99 % with a small convolutional one, beside ten
epochs as the document does them. The settings are the cheapest of a grid that do it on validation images, the last
sixth of the training images, in every one of several seeds with a margin. The test images are read once for each of
twenty other seeds, after training on all training images.

The ingredients: ten epochs of the document's recipe with and without label smoothing, normalised inputs and a one-cycle
rate, in all eight combinations; the peak of the rate is chosen on the validation images, the rest is not tuned.
"""

import multiprocessing
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from itertools import product
from statistics import fmean, stdev
from time import perf_counter, process_time
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from lib import handwritten, ladder
from lib.data import ImageSet, load_mnist
from lib.networks import document_network, small_cnn
from lib.training import accuracy, fit, predict

MEAN, DEVIATION = 0.1307, 0.3081  # of all pixels of the training images, from 0 to 1
TUNING_SEEDS = (100, 101, 102, 103)
SEEDS = tuple(range(20))
FEWER_SEEDS = tuple(range(5))
LADDER_ROUNDS, RACE_ROUNDS, WORKERS_ROUNDS = 7, 15, 3
GOALS = {"document_network": 0.98, "small_cnn": 0.99}


class Recipe(NamedTuple):
    """How to train: everything but the images and the seed."""

    network: str = "document_network"
    epochs: int = 10
    batch_size: int = 64
    rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    cycle: bool = False
    label_smoothing: float = 0.0
    normalized: bool = False
    precision: str = "float32"


GRIDS = {
    "document_network": [
        Recipe("document_network", epochs, size, rate, (0.8, 0.95), True, smoothing, True, "bfloat16")
        for epochs, size, rate, smoothing in product((2, 3, 4), (128, 256, 512), (4e-3, 8e-3), (0.0, 0.1))
    ],
    "small_cnn": [
        Recipe("small_cnn", epochs, size, rate, (0.8, 0.95), True, 0.1, True, "bfloat16")
        for epochs, size, rate in product((1, 2), (64, 128, 256, 512), (1e-2, 2e-2, 3e-2))
    ],
}
CYCLES = [Recipe(rate=rate, cycle=True) for rate in (1e-3, 2e-3, 4e-3, 8e-3)]


# One run


@cache
def load(split: str) -> ImageSet:
    """Return the real images."""
    return load_mnist(split, fallback=False)


def split(images: ImageSet) -> tuple[ImageSet, ImageSet]:
    """Return all images but the last sixth, to train on, and the last sixth, to choose by."""
    first = len(images.labels) - len(images.labels) // 6
    return tuple(
        ImageSet(images.images[part], images.labels[part], images.source)
        for part in (slice(None, first), slice(first, None))
    )


def train(recipe: Recipe, images: ImageSet, seed: int) -> nn.Module:
    """Train a network from scratch, beginning with the bytes of the images.

    Args:
        recipe: how.
        images: to train on.
        seed: of the initial weights and the order of the images.

    Returns:
        The network, which takes what ``prepare`` makes of images.

    Raises:
        ValueError: if the recipe's network is none of those in ``GOALS``.
    """
    if recipe.network not in GOALS:
        raise ValueError(f"the network must be one of {', '.join(map(repr, GOALS))}, got {recipe.network!r}")
    torch.manual_seed(seed)
    inputs = prepare(recipe, images)
    options = {
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "optimizer": partial(torch.optim.Adam, lr=recipe.rate, betas=recipe.betas, fused=True),
        "schedule": partial(_cycle, rate=recipe.rate) if recipe.cycle else None,
        "seed": seed,
        "precision": recipe.precision,
    }
    if recipe.network == "document_network":
        network = document_network()
        handwritten.fit(network, (inputs, images.labels), label_smoothing=recipe.label_smoothing, **options)
        return network
    network = small_cnn().to(memory_format=torch.channels_last)
    loss = partial(F.cross_entropy, label_smoothing=recipe.label_smoothing)
    fit(network, loss, (inputs, images.labels), **options)
    return network


def prepare(recipe: Recipe, images: ImageSet) -> Tensor:
    """Return what the recipe's network takes, in the precision in which it computes."""
    dtype = getattr(torch, recipe.precision)
    mean, deviation = (255 * MEAN, 255 * DEVIATION) if recipe.normalized else (127.5, 127.5)
    inputs = images.images.to(dtype).sub_(mean).div_(deviation)
    return inputs[:, None] if recipe.network == "small_cnn" else inputs.flatten(1)


def score(recipe: Recipe, network: nn.Module, images: ImageSet) -> float:
    """Return the share of the images that a trained network gets right, computed in float32."""
    return accuracy(predict(network, prepare(recipe._replace(precision="float32"), images)), images.labels)


def _cycle(optimizer, steps, *, rate):
    return OneCycleLR(optimizer, rate, total_steps=steps + 1, cycle_momentum=False)


# What is measured


def run(workers: int) -> dict:
    """Choose, train and judge in ``workers`` processes; then, with nothing beside it, take the times."""
    with ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        chosen, validation = {}, {}
        for name, recipes in GRIDS.items():
            chosen[name], validation[name] = choose(recipes, GOALS[name], pool)
        peak, cycles = _best_cycle(pool)
        seeds = {name: list(pool.map(_test, [(recipe, seed) for seed in SEEDS])) for name, recipe in chosen.items()}
        ingredients = _ingredients(peak, pool)
    return {
        "goals": GOALS,
        "chosen": {name: recipe._asdict() for name, recipe in chosen.items()},
        "validation": validation,
        "cycles": cycles,
        "test_accuracy": seeds,
        "ingredients": ingredients,
        "threads": {str(threads): clock(chosen, threads) for threads in (1, 2)},
    }


def choose(recipes: Iterable[Recipe], goal: float, pool) -> tuple[Recipe, list[dict]]:
    """Return the cheapest recipe whose validation accuracy lies two standard deviations above the goal on average.

    If there is none, return the one that comes nearest.

    Args:
        recipes: to choose from.
        goal: the accuracy.
        pool: of processes.

    Returns:
        The recipe, and for each of them its validation accuracies and its seconds of computing.
    """
    recipes = list(recipes)
    trials = list(product(TUNING_SEEDS, recipes))
    found = list(pool.map(_validate, trials))
    rows = []
    for recipe in recipes:
        own = [result for (_, tried), result in zip(trials, found, strict=True) if tried == recipe]
        rows.append(
            {**recipe._asdict(), "accuracy": [right for right, _ in own], "seconds": min(taken for _, taken in own)}
        )
    floors = [fmean(row["accuracy"]) - 2 * stdev(row["accuracy"]) for row in rows]
    enough = [place for place, floor in enumerate(floors) if floor >= goal]
    place = min(enough, key=lambda place: rows[place]["seconds"]) if enough else floors.index(max(floors))
    print(f"{recipes[place]}: at least {floors[place]:.4f} in validation", flush=True)
    return recipes[place], rows


def _validate(trial):
    """Return the validation accuracy of one run and its seconds of computing."""
    seed, recipe = trial
    kept, held_out = split(load("train"))
    began = process_time()
    network = train(recipe, kept, seed)
    seconds = process_time() - began
    return score(recipe, network, held_out), round(seconds, 3)


def _test(trial) -> float:
    """Return the test accuracy of one run on all training images."""
    recipe, seed = trial
    return score(recipe, train(recipe, load("train"), seed), load("test"))


def _best_cycle(pool) -> tuple[float, dict]:
    """Return the peak of a one-cycle rate that did best on the validation images, and how all did."""
    trials = list(product(TUNING_SEEDS[:2], CYCLES))
    found = list(pool.map(_validate, trials))
    scores = {
        str(recipe.rate): [right for (_, tried), (right, _) in zip(trials, found, strict=True) if tried == recipe]
        for recipe in CYCLES
    }
    return float(max(scores, key=lambda rate: fmean(scores[rate]))), scores


def _ingredients(peak: float, pool) -> list[dict]:
    """Return the test accuracies of the document's recipe with each combination of three ingredients."""
    rows = []
    for smoothing, normalized, cycle in product((0.0, 0.1), (False, True), (False, True)):
        recipe = Recipe(
            label_smoothing=smoothing, normalized=normalized, cycle=cycle, rate=peak if cycle else Recipe().rate
        )
        rows.append({**recipe._asdict(), "accuracy": list(pool.map(_test, [(recipe, seed) for seed in FEWER_SEEDS]))})
    return rows


def clock(chosen: dict[str, Recipe], threads: int) -> dict:
    """Return all that depends on the clock, with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return {"limits": limits(), "race": _race(chosen), "workers": _workers(), **_ladder()}
    finally:
        torch.set_num_threads(before)


def limits() -> dict[str, float]:
    """Return the best rates of the machine: operations a second of large products, and bytes a second of copies."""
    return {
        "float32": ladder.matrix_rate(torch.float32),
        "bfloat16": ladder.matrix_rate(torch.bfloat16),
        "float32_layer": ladder.matrix_rate(torch.float32, 64, 784, 128),
        "memory": ladder.copy_rate(64_000_000),
        "cache": ladder.copy_rate(109_386),
    }


def _ladder() -> dict:
    """Return the seconds an epoch takes in each way, and those for which torch.compile compiles."""
    images = load("train")
    ways = {
        "as the document": ladder.as_the_document(images, batches=50),
        "tensors in a loader": ladder.tensors_in_a_loader(images),
        "resident tensors": ladder.resident_tensors(images, fused=False),
        "fused Adam": ladder.resident_tensors(images),
        "hand-written": ladder.handwritten(images),
        "batch 1024": ladder.handwritten(images, batch_size=1024, batches=58),
        "bfloat16": ladder.handwritten(images, batch_size=1024, batches=58, precision="bfloat16"),
    }
    beside = {"autograd 1024": ladder.resident_tensors(images, batch_size=1024, batches=58)}
    seconds = {}
    with torch._inductor.config.patch(force_disable_caches=True):
        for name, size in (("compiled 64", 64), ("compiled 1024", 1024)):
            torch.compiler.reset()  # or what was compiled before would serve again
            began = perf_counter()
            beside[name] = ladder.resident_tensors(images, batch_size=size, batches=58, compiled=True)
            beside[name].turn()
            seconds[name] = perf_counter() - began
    sizes = {
        f"{kind} {size}": way(images, batch_size=size, batches=max(10, 12_800 // size))
        for size in (16, 32, 128, 256, 512, 2048, 4096)
        for kind, way in (("autograd", ladder.resident_tensors), ("hand-written", ladder.handwritten))
    }
    measured = ladder.measure({**ways, **beside, **sizes}, LADDER_ROUNDS)
    return {"seconds_an_epoch": measured, "ladder": list(ways), "compiling": seconds}


def _workers() -> dict[str, list[float]]:
    """Return the seconds by the clock of the document's epochs, by the number of workers; starting these counts."""
    images = load("train")
    ways = {str(workers): ladder.as_the_document(images, batches=938, workers=workers) for workers in (0, 2)}
    return {workers: seconds["clock"] for workers, seconds in ladder.measure(ways, WORKERS_ROUNDS).items()}


def _race(chosen: dict[str, Recipe]) -> dict[str, dict[str, list[float]]]:
    """Return the seconds of whole runs that begin with the bytes, in turns with a part of the document's."""
    images = load("train")
    document = {"as the document": ladder.as_the_document(images, batches=200)}
    found = {name: {"clock": [], "work": []} for name in ("as the document", *chosen)}
    for number in range(RACE_ROUNDS):
        for kind, (seconds,) in ladder.measure(document, 1)["as the document"].items():
            found["as the document"][kind].append(10 * seconds)
        for name, recipe in chosen.items():
            began, computed = perf_counter(), process_time()
            train(recipe, images, number)
            found[name]["clock"].append(perf_counter() - began)
            found[name]["work"].append(process_time() - computed)
    return found
