"""Ten losses on one network: same initial weights, same order of the images, each loss at its own best learning rate.

The last sixth of the training images chooses the learning rate and one temperature for each trained network; the test
images choose nothing. Every option of a loss stands at the library's default, label smoothing at 0.1.
"""

import multiprocessing
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from itertools import product
from math import log
from time import process_time
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import brentq
from scipy.stats import ttest_1samp
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from lib import losses
from lib.data import load_fashion_mnist, load_mnist
from lib.networks import document_network
from lib.studies import interval
from lib.training import accuracy, expected_calibration_error, fit, predict

EPOCHS, BATCH_SIZE = 3, 256
EXPONENTS = (-3.0, -2.5, -2.0, -1.5, -1.0)  # of ten: the peaks of the learning rate that are tried
SEEDS = tuple(range(8))
TUNING_SEEDS = (100, 101)
PROBE_RATE = 1e-2
LONGER, LONGER_EPOCHS, LONGER_SEEDS = "Fashion-MNIST", 12, SEEDS[:5]

Data = tuple[Tensor, Tensor]


def squared_error(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the mean squared error between the scores and the one-hot labels, over rows and classes."""
    return losses.mse_loss(scores, F.one_hot(labels, scores.shape[1]).to(scores.dtype))


CONTRASTIVE = "supervised_contrastive_loss"
BASELINE = "cross_entropy"
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    BASELINE: losses.cross_entropy,
    "cross_entropy, smoothed": partial(losses.cross_entropy, label_smoothing=0.1),
    "focal_loss": partial(losses.focal_loss, gamma=2.0),
    "generalized_cross_entropy": partial(losses.generalized_cross_entropy, q=0.7),
    "symmetric_cross_entropy": partial(losses.symmetric_cross_entropy, alpha=0.1, beta=1.0),
    "brier_loss": losses.brier_loss,
    "mse_loss": squared_error,
    "multi_margin_loss": partial(losses.multi_margin_loss, margin=1.0),
    "crammer_singer_loss": partial(losses.crammer_singer_loss, margin=1.0),
    CONTRASTIVE: partial(losses.supervised_contrastive_loss, temperature=0.1),
}
"""What is minimised, from the network's ten outputs and the labels, by the name in the catalogue."""

SOURCES = {"Fashion-MNIST": load_fashion_mnist, "MNIST": load_mnist}


# One run


class Splits(NamedTuple):
    """Inputs, shape (N, 784) from -1 to 1, and labels, shape (N,), of three sets of images; ``is_real`` is of them."""

    train: Data
    validation: Data
    test: Data
    is_real: bool


@cache
def load(name: str) -> Splits:
    """Return the images of "MNIST" or "Fashion-MNIST"; the last sixth of the training images is for validation."""
    if name not in SOURCES:
        raise ValueError(f"there is no data set called {name!r}; there are: {', '.join(SOURCES)}")
    sets = [SOURCES[name](split) for split in ("train", "test")]
    (inputs, labels), test = ((images.images.flatten(1).float() / 127.5 - 1, images.labels) for images in sets)
    cut = len(labels) * 5 // 6
    return Splits((inputs[:cut], labels[:cut]), (inputs[cut:], labels[cut:]), test, sets[0].is_real)


class Trained(NamedTuple):
    """A trained network, what its training cost, and the gradients of its layers.

    Attributes:
        network: from images to ten scores.
        seconds: of the processor, for training, the probe's included.
        gradients: for each layer, the Euclidean norm of its weights' gradient at each step; empty if not watched.
    """

    network: nn.Sequential
    seconds: float
    gradients: list[list[float]]


def train(loss: str, data: Data, rate: float, seed: int, *, epochs: int = EPOCHS, watch: bool = False) -> Trained:
    """Train the document's network with one of ``LOSSES``: Adam, and a rate that rises to its peak and falls again.

    The initial weights and the order of the images follow from the seed alone and are the same for every loss. The
    supervised contrastive loss takes the ten outputs for an embedding; its last layer is then thrown away and another
    one trained with cross-entropy on the 64 features before it, which stay as they are.

    Args:
        loss: a name in ``LOSSES``.
        data: inputs, shape (N, 784), and labels, shape (N,).
        rate: the peak of the learning rate, above 0.
        seed: of the initial weights and of the order of the images.
        epochs: how often to go through the data.
        watch: record the gradients of the layers.

    Raises:
        ValueError: if there is no such loss, or the rate is not above 0.
    """
    if loss not in LOSSES:
        raise ValueError(f"there is no loss called {loss!r} in this study; there are: {', '.join(LOSSES)}")
    if not rate > 0:
        raise ValueError(f"the learning rate must be above 0, got {rate}")
    torch.manual_seed(seed)
    network = document_network()
    norms = _watched(network) if watch else []
    seconds = _fit(network, LOSSES[loss], data, rate, seed, epochs)
    if loss == CONTRASTIVE:
        seconds += _replace_last_layer(network, data, seed, epochs)
    return Trained(network, seconds, [torch.stack(of_layer).tolist() for of_layer in norms])


def _fit(model, loss, data, rate, seed, epochs) -> float:
    """Train a model and return the processor's seconds that it took: unlike others, they do not grow in company."""
    began = process_time()
    fit(
        model,
        loss,
        data,
        epochs=epochs,
        batch_size=BATCH_SIZE,
        optimizer=partial(torch.optim.Adam, lr=rate, fused=True),
        schedule=lambda optimizer, steps: OneCycleLR(optimizer, rate, total_steps=steps),
        seed=seed,
        progress=False,
    )
    return process_time() - began


def _replace_last_layer(network, data, seed, epochs) -> float:
    """Train a new last layer on the frozen features before it, and return the processor's seconds that it took."""
    began = process_time()
    inputs, labels = data
    features, last = predict(network[:-1], inputs), network[-1]
    probe = nn.Linear(last.in_features, last.out_features)
    _fit(probe, losses.cross_entropy, (features, labels), PROBE_RATE, seed, epochs)
    network[-1] = probe
    return process_time() - began


def _watched(network) -> list[list[Tensor]]:
    """Return, for each linear layer, a list that gets the norm of its weights' gradient at each step."""
    norms = []
    for layer in network:
        if isinstance(layer, nn.Linear):
            norms.append([])
            layer.weight.register_post_accumulate_grad_hook(
                lambda weight, of_layer=norms[-1]: of_layer.append(weight.grad.norm())
            )
    return norms


# What a trained network is worth


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    r"""Return the temperature T at which the log-likelihood of ``softmax(logits / T)`` is largest.

    With :math:`\beta = 1/T`, the mean negative log-likelihood is strictly convex in :math:`\beta`, unless all scores
    of every row are equal; so its slope, the mean of :math:`\sum_j p_j z_j - z_y`, vanishes at one place at most.

    Args:
        logits: or any scores, shape (N, C).
        labels: the true classes, shape (N,).

    Raises:
        ValueError: if the shapes do not fit, or no temperature between 1e-4 and 1e4 is best: the scores separate all
            classes, or they say less than nothing of them.

    Source: Guo, Pleiss, Sun, Weinberger (2017), https://arxiv.org/abs/1706.04599.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not len(labels):
        raise ValueError(
            "a temperature wants logits of shape (N, C) and labels of shape (N,), at least one; "
            f"got {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    scores = logits.double()
    of_truth = scores.gather(1, labels[:, None]).squeeze(1)

    def slope(log_beta: float) -> float:
        expected = ((scores * np.exp(log_beta)).softmax(1) * scores).sum(1)
        return (expected - of_truth).mean().item()

    low, high = -log(1e4), log(1e4)
    if not slope(low) < 0 < slope(high):
        raise ValueError(
            "no temperature is best: the scores separate the classes of all rows, or they say less than nothing of them"
        )
    return float(np.exp(-brentq(slope, low, high, xtol=1e-6)))


def measures(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Return what ``softmax(logits)`` is worth: ``nll``, ``ece`` (ten bins) and ``brier``, all the lower the better."""
    logits = logits.double()
    return {
        "nll": losses.cross_entropy(logits, labels).item(),
        "ece": expected_calibration_error(logits.softmax(1), labels),
        "brier": losses.brier_loss(logits, labels).item(),
    }


def judge(network: nn.Module, splits: Splits) -> dict[str, float]:
    """Return what a network is worth on the test images: ``accuracy``, and the measures of its probabilities.

    These are ``nll``, ``ece`` and ``brier`` of its scores as they are, and ``nll_scaled``, ``ece_scaled`` and
    ``brier_scaled`` of its scores divided by the ``temperature`` that fits the validation images best.
    """
    (logits, labels), held_out = ((predict(network, x), y) for x, y in (splits.test, splits.validation))
    temperature = fit_temperature(*held_out)
    scaled = measures(logits / temperature, labels)
    return {
        "accuracy": accuracy(logits, labels),
        **measures(logits, labels),
        **{f"{name}_scaled": value for name, value in scaled.items()},
        "temperature": temperature,
    }


def _check_rows(values, labels):
    """Raise ValueError if there is not one label for each row."""
    if values.ndim != 2 or labels.shape != values.shape[:1]:
        raise ValueError(
            f"wanted are rows and one label for each row, got {tuple(values.shape)}, {tuple(labels.shape)}"
        )


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """Return by how much the score of the true class leads over its strongest rival; below 0 the answer is wrong.

    Args:
        logits: or any scores, shape (N, C).
        labels: the true classes, shape (N,).

    Returns:
        The margins, shape (N,), in the unit of the scores.

    Raises:
        ValueError: if there is not one label for each row.
    """
    _check_rows(logits, labels)
    at_truth = labels[:, None]
    rivals = logits.scatter(1, at_truth, -torch.inf)
    return logits.gather(1, at_truth).squeeze(1) - rivals.amax(1)


def separation(features: Tensor, labels: Tensor) -> float:
    """Return the share of the features' variance that lies between the means of the classes, from 0 to 1.

    Near 1, the features of a class have all but collapsed into one point.

    Args:
        features: shape (N, D).
        labels: shape (N,).

    Raises:
        ValueError: if there is not one label for each row.
    """
    _check_rows(features, labels)
    whole, within = ((features - features.mean(0)) ** 2).sum(), 0.0
    for label in labels.unique():
        of_class = features[labels == label]
        within += ((of_class - of_class.mean(0)) ** 2).sum()
    return 1 - (within / whole).item()


# What differs beyond the noise


class Difference(NamedTuple):
    """By how much a loss and cross-entropy differ in a measure, seed by seed.

    Attributes:
        data: the name of the data set.
        loss: the name of the loss.
        measure: the name of the measure.
        mean: of the differences, the loss minus cross-entropy.
        half_width: of the mean's 95 % interval, by Student's t; it covers the luck of the seed.
        p: the probability of a mean so far from 0, by the t-test, were there no difference.
        differs: whether that is small enough for the number of comparisons, by Holm's correction at 5 %.
    """

    data: str
    loss: str
    measure: str
    mean: float
    half_width: float
    p: float
    differs: bool


def differences(record: Mapping, names: Iterable[str]) -> list[Difference]:
    """Compare every loss with cross-entropy, on every data set of the record and in every measure, as one family.

    Args:
        record: of this study.
        names: of the measures.

    Raises:
        ValueError: if the record has no such measure.
    """
    found = []
    for data, measure in product(record["data"], names):
        final = record["data"][data]["final"]
        if measure not in final[BASELINE]:
            raise ValueError(f"the record has no measure {measure!r}; it has {', '.join(final[BASELINE])}")
        for loss in final:
            if loss != BASELINE:
                gaps = np.subtract(final[loss][measure], final[BASELINE][measure])
                found.append((data, loss, measure, *paired(gaps)))
    kept = holm([p for *_, p in found])
    return [Difference(*numbers, differs) for numbers, differs in zip(found, kept, strict=True)]


def paired(gaps) -> tuple[float, float, float]:
    """Return the mean of paired differences, half of its 95 % interval, and the two-sided p, by Student's t.

    Raises:
        ValueError: if there are fewer than two.
    """
    mean, half = interval(gaps)
    p = ttest_1samp(gaps, 0).pvalue if half else float(not mean)
    return mean, half, float(p)


def holm(p_values, level: float = 0.05) -> list[bool]:
    """Return which of several hypotheses are rejected, such that a true one falls with probability ``level`` at most.

    The smallest p-value must be at most level / m, the next at most level / (m - 1), and so on, until one fails.

    Source: Holm, S. (1979), A simple sequentially rejective multiple test procedure, Scandinavian Journal of
    Statistics 6, 65-70, https://www.jstor.org/stable/4615733.
    """
    p_values = np.asarray(p_values, dtype=float)
    if not ((p_values >= 0) & (p_values <= 1)).all():
        raise ValueError(f"p-values must be in [0, 1], got {p_values}")
    order = p_values.argsort()
    passed = p_values[order] <= level / np.arange(len(order), 0, -1)
    rejected = np.empty(len(order), dtype=bool)
    rejected[order] = np.logical_and.accumulate(passed)
    return rejected.tolist()


# The whole study


def run(workers: int) -> dict:
    """Tune every loss, then train and judge it with the tuned rate; ``workers`` runs at a time.

    Last, on the harder data set, train and judge once more for longer, to see what the budget decides.
    """
    with ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        data = {name: _on_one_data_set(name, pool) for name in SOURCES}
        return {
            "protocol": {
                "epochs": EPOCHS,
                "batch_size": BATCH_SIZE,
                "exponents": EXPONENTS,
                "tuning_seeds": TUNING_SEEDS,
                "seeds": SEEDS,
            },
            "data": data,
            "longer": _longer(data[LONGER]["best"], pool),
        }


def _on_one_data_set(name, pool) -> dict:
    """Return what was measured on a data set."""
    baselines = pool.submit(_baselines, name)
    # Losses vary fastest: whatever else the machine does meanwhile hits all of them.
    trials = list(product(TUNING_SEEDS, EXPONENTS, LOSSES))
    scores = dict(zip(trials, pool.map(_validate, [(name, *trial) for trial in trials]), strict=True))
    tuning = {loss: [[scores[seed, at, loss] for seed in TUNING_SEEDS] for at in EXPONENTS] for loss in LOSSES}
    best = {loss: EXPONENTS[int(np.mean(tuning[loss], axis=1).argmax())] for loss in LOSSES}
    final = _judged(name, best, SEEDS, EPOCHS, pool)
    return {"tuning": tuning, "best": best, "final": final, "baselines": baselines.result()}


def _longer(best, pool) -> dict:
    """Return what a longer training gives, with the rates that were best for the short one."""
    final = _judged(LONGER, best, LONGER_SEEDS, LONGER_EPOCHS, pool)
    return {"data": LONGER, "epochs": LONGER_EPOCHS, "seeds": LONGER_SEEDS, "final": final}


def _judged(name, best, seeds, epochs, pool) -> dict[str, dict[str, list[float]]]:
    """Train every loss with its best rate from each seed, and return its measures on the test images, by seed."""
    trials = list(product(seeds, LOSSES))
    jobs = [(name, seed, best[loss], loss, epochs) for seed, loss in trials]
    results = dict(zip(trials, pool.map(_test, jobs), strict=True))
    final = {}
    for loss in LOSSES:
        rows = [
            {**row, **_disagreement(right, results[seed, BASELINE][1])}
            for seed in seeds
            for row, right in [results[seed, loss]]
        ]
        final[loss] = {measure: [_rounded(row[measure]) for row in rows] for measure in rows[0]}
    return final


def _validate(trial) -> float:
    """Return the validation accuracy of one run."""
    name, seed, exponent, loss = trial
    splits = load(name)
    inputs, labels = splits.validation
    network = train(loss, splits.train, 10**exponent, seed).network
    found = accuracy(predict(network, inputs), labels)
    print(f"{name}, 10^{exponent}, seed {seed}, {loss}: {found:.4f} of the validation images", flush=True)
    return found


def _test(trial) -> tuple[dict[str, float], np.ndarray]:
    """Return what one run is worth on the test images, and which of them it got right."""
    name, seed, exponent, loss, epochs = trial
    splits = load(name)
    network, seconds, _ = train(loss, splits.train, 10**exponent, seed, epochs=epochs)
    inputs, labels = splits.test
    right = (predict(network, inputs).argmax(1) == labels).numpy()
    print(f"{name}, {epochs} epochs, seed {seed}, {loss}: {right.mean():.4f} of the test images", flush=True)
    return {**judge(network, splits), "seconds": seconds}, right


def _disagreement(right, reference) -> dict[str, int]:
    """Return how many images only this network got right, and how many only the one trained with cross-entropy."""
    return {"right_alone": int((right & ~reference).sum()), "wrong_alone": int((~right & reference).sum())}


def _baselines(name) -> dict[str, dict[str, float]]:
    """Return the test accuracy of two plain classifiers of the pixels, and the seconds that they took to fit."""
    from sklearn.linear_model import LogisticRegression  # not needed by those who only read the record
    from sklearn.neighbors import NearestCentroid

    splits = load(name)
    found = {}
    for title, model in {
        "nearest class mean": NearestCentroid(),
        "logistic regression": LogisticRegression(max_iter=300),
    }.items():
        began = process_time()
        model.fit(*(part.numpy() for part in splits.train))
        seconds = _rounded(process_time() - began)
        inputs, labels = (part.numpy() for part in splits.test)
        found[title] = {"accuracy": float(model.score(inputs, labels)), "seconds": seconds}
    return found


def _rounded(value):
    return value if isinstance(value, int) else float(f"{value:.5g}")
