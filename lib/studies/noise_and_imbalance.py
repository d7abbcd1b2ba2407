"""Which loss survives wrong labels, and which serves rare classes: many small networks, tuned as one really could.

Wrong labels: 3000 digits of MNIST, some of them labelled wrongly, and 1000 more, labelled as badly, to tune with.
Rare classes: a long tail of Fashion-MNIST, and a fifth as many images, as unbalanced, to tune with.

Everything is done five times. A draw is a choice of images, wrong labels or rare classes, and initial weights; it is
the same one for all losses. The order of the batches is the same in all draws. In each draw each loss gets the learning
rate and the epoch to stop after that did best on the tuning images of this draw. The test images have true labels, are
balanced, and choose nothing. The networks of all draws are trained side by side, as one array is quicker than five.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from multiprocessing import get_context

import torch
from torch import Tensor, nn

from lib import losses
from lib.data import load_fashion_mnist, load_mnist
from lib.data.corruption import flip_pairwise, flip_symmetric, long_tail, make_rare, transition
from lib.networks import document_network
from lib.training import descend, device, order

CLASSES = 10
BATCH = 128
RATES = (1e-4, 3e-4, 1e-3, 3e-3)  # Adam's
DRAWS = (0, 1, 2, 3, 4)
LOOKS = (3, 6, 9, 12, 15, 21, 30, 42, 60)  # the epochs after which the networks are judged; the last one ends the run

FLIPS = {"symmetric": flip_symmetric, "pairwise": flip_pairwise}
NOISE = (
    *(("symmetric", rate) for rate in (0.0, 0.2, 0.4, 0.6)),
    *(("pairwise", rate) for rate in (0.2, 0.4, 0.6)),
)
TRAIN, TUNE = 3000, 1000  # digits

KNOW_NO_COUNTS = ("cross_entropy", "focal_loss", "symmetric_cross_entropy", "generalized_cross_entropy")
RARITY = ((10, 0.0), (100, 0.0), (100, 0.2))  # ratio of the largest class to the smallest, rate of symmetric flips
LARGEST = 1000  # the images of the most common class to train on

Loss = Callable[[Tensor, Tensor], Tensor]
Data = tuple[Tensor, Tensor]


# The losses that lib.losses does not have. Each takes logits (N, C) and labels (N,), or, of K networks side by side,
# (N, C, K) and (N, K).


def forward_corrected(logits: Tensor, labels: Tensor, *, noise: Tensor) -> Tensor:
    """Return the mean cross-entropy of what the labels will say, from logits of what is true.

    If truth j is labelled k with probability T_jk, label k has the probability sum_j p_j T_jk.

    Args:
        logits: of the true classes, shape (N, C) or (N, C, K).
        labels: perhaps wrong, integers, shape (N,) or (N, K).
        noise: T, shape (C, C), as from ``lib.data.corruption.transition``.

    Raises:
        ValueError: if ``noise`` does not have shape (C, C), or a row of it is no distribution.

    Source: Patrini, Rozza, Menon, Nock, Qu (2017), https://arxiv.org/abs/1609.03683.
    """
    classes = logits.shape[1]
    if noise.shape != (classes, classes):
        raise ValueError(f"noise must have shape ({classes}, {classes}) for such logits, got {tuple(noise.shape)}")
    if (noise < 0).any() or not torch.allclose(noise.sum(1), noise.new_ones(classes)):
        raise ValueError("each row of noise must be a distribution: no entry below 0, a sum of 1")
    to_label = noise.log().to(logits).T[labels].movedim(-1, 1)  # ln T_jy, of the shape of the logits
    return (logits.logsumexp(1) - (logits + to_label).logsumexp(1)).mean()


def logit_adjusted(logits: Tensor, labels: Tensor, *, shares: Tensor) -> Tensor:
    """Return the mean cross-entropy of logits to which the logarithm of each class's share is added.

    Args:
        logits: as if the classes were balanced, shape (N, C) or (N, C, K).
        labels: integers, shape (N,) or (N, K).
        shares: of the classes in the training labels, above 0, shape (C,) or (C, K).

    Raises:
        ValueError: if ``shares`` has another shape, or one is not above 0.

    Source: Menon et al. (2021), https://arxiv.org/abs/2007.07314.
    """
    _check_classes("shares", shares, logits)
    return losses.cross_entropy(logits + shares.log().to(logits), labels)


def weighted(logits: Tensor, labels: Tensor, *, weights: Tensor) -> Tensor:
    """Return the sum of weighted cross-entropies, divided by the number of labels.

    It is not divided by the sum of the weights in the batch, as by ``cross_entropy(..., weight=...)``: that would be a
    random number, and a batch without a rare class would count as an unweighted one.

    Args:
        logits: shape (N, C) or (N, C, K).
        labels: integers, shape (N,) or (N, K).
        weights: of the classes, above 0, shape (C,) or (C, K).

    Raises:
        ValueError: if ``weights`` has another shape, or one is not above 0.
    """
    _check_classes("weights", weights, logits)
    columns = weights.to(logits).reshape(len(weights), -1)
    rows = labels.reshape(len(labels), -1)
    of_label = columns[rows, torch.arange(columns.shape[1], device=rows.device)].reshape(labels.shape)
    return (of_label * losses.cross_entropy(logits, labels, reduction="none")).mean()


def class_weights(counts: Tensor, beta: float) -> Tensor:
    """Return the class-balanced weights of Cui et al., scaled so that a training label weighs 1 on average.

    Args:
        counts: of the classes in the training labels, above 0, shape (C,) or (C, K).
        beta: of ``lib.losses.class_balanced_weights``; 1 makes the weights proportional to 1/n.

    Returns:
        The shape of ``counts``, float64.
    """
    columns = counts.double().reshape(len(counts), -1)
    weights = torch.stack([losses.class_balanced_weights(column, beta=beta) for column in columns.T], 1)
    return (weights * columns.sum(0) / (weights * columns).sum(0)).reshape(counts.shape)


def _check_classes(name, values, logits):
    if values.shape not in (logits.shape[1:2], logits.shape[1:]):
        raise ValueError(f"{name} must have shape {tuple(logits.shape[1:])} for such logits, got {tuple(values.shape)}")
    if not (values > 0).all():
        raise ValueError(f"{name} must be above 0, got {values.min()}")


def losses_for_noise(noise: Tensor) -> dict[str, Loss]:
    """Return the rivals under wrong labels; the last one alone knows the transition matrix ``noise``."""
    return {
        "cross_entropy": losses.cross_entropy,
        "label smoothing": partial(losses.cross_entropy, label_smoothing=0.1),
        "focal_loss": losses.focal_loss,
        "brier_loss": losses.brier_loss,
        "symmetric_cross_entropy": losses.symmetric_cross_entropy,
        "generalized_cross_entropy": losses.generalized_cross_entropy,
        "absolute error": partial(losses.generalized_cross_entropy, q=1.0),
        "forward-corrected": partial(forward_corrected, noise=noise),
    }


def losses_for_rarity(counts: Tensor) -> dict[str, Loss]:
    """Return the rivals where classes are rare, from the counts of the training labels, shape (C,) or (C, K)."""
    return {
        "cross_entropy": losses.cross_entropy,
        "1/n weights": partial(weighted, weights=class_weights(counts, 1.0)),
        "class-balanced weights": partial(weighted, weights=class_weights(counts, 0.999)),
        "logit-adjusted": partial(logit_adjusted, shares=counts / counts.sum(0)),
        "focal_loss": losses.focal_loss,
        "symmetric_cross_entropy": losses.symmetric_cross_entropy,
        "generalized_cross_entropy": losses.generalized_cross_entropy,
    }


# Training


class SideBySide(nn.Module):
    """Several networks of ``Linear`` and ``ReLU`` layers, all of one architecture, each with inputs of its own.

    Where the loss is the sum of the networks' losses, each learns what it would learn alone.

    Args:
        networks: the K networks, whose weights are copied.
    """

    def __init__(self, networks: Sequence[nn.Sequential]):
        super().__init__()
        layers = [layer for layer in zip(*networks, strict=True) if isinstance(layer[0], nn.Linear)]
        self.weights = nn.ParameterList(torch.stack([net.weight.detach().T for net in layer]) for layer in layers)
        self.biases = nn.ParameterList(torch.stack([net.bias.detach() for net in layer])[:, None] for layer in layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, shape (N, C, K), from inputs, shape (N, K, features)."""
        x = x.transpose(0, 1)
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x if number == 0 else x.relu(), weight)
        return x.permute(1, 2, 0)


def train(loss: Loss, data: Data, *, rate: float) -> Iterator[SideBySide]:
    """Train the document's network in all draws side by side; yield them at each look.

    Args:
        loss: from logits, shape (N, C, K), and labels, shape (N, K), to the mean.
        data: inputs, shape (N, K, 784), and labels, shape (N, K).
        rate: Adam's learning rate.
    """
    inputs, labels = (part.to(device()) for part in data)
    networks = []
    for draw in DRAWS:
        torch.manual_seed(draw)
        networks.append(document_network(CLASSES))
    model = SideBySide(networks).to(device())
    adam = torch.optim.Adam(model.parameters(), lr=rate, fused=True)
    for epoch in range(LOOKS[-1]):
        batches = order(len(inputs), 0, epoch).to(device()).split(BATCH)
        for _ in descend(model, lambda z, y: len(DRAWS) * loss(z, y), adam, inputs, labels, batches):
            pass
        if epoch + 1 in LOOKS:
            yield model


@torch.no_grad()
def predict(model: SideBySide, inputs: Tensor) -> Tensor:
    """Return the logits of all networks, shape (N, C, K), for inputs of shape (N, 784) or (N, K, 784)."""
    if inputs.dim() == 2:
        inputs = inputs[:, None].expand(-1, len(DRAWS), -1)
    return torch.cat([model(batch.to(device())).to(inputs.device) for batch in inputs.split(1000)])


@cache
def images(name: str, split: str) -> Data:
    """Return "mnist" or "fashion" as inputs in [-1, 1], shape (N, 784), and labels."""
    found = {"mnist": load_mnist, "fashion": load_fashion_mnist}[name](split)
    return found.images.flatten(1).float().div(255).sub(0.5).div(0.5), found.labels


def _of_all_draws(parts: Sequence[Data]) -> Data:
    inputs, labels = zip(*parts, strict=True)
    return torch.stack(inputs, 1), torch.stack(labels, 1)


# Wrong labels


def noisy_digits(kind: str, rate: float, draw: int) -> tuple[Data, Data, Tensor]:
    """Return digits to train on and digits to tune with, labelled as badly, and the truth of the former.

    Args:
        kind: of flips, "symmetric" or "pairwise".
        rate: of wrong labels.
        draw: decides which digits, and which labels are wrong.
    """
    inputs, truth = images("mnist", "train")
    train = min(TRAIN, len(truth) * TRAIN // (TRAIN + TUNE))  # the stand-in is small
    rows = torch.randperm(len(truth), generator=torch.Generator().manual_seed(draw))[: TRAIN + TUNE]
    labels = FLIPS[kind](truth[rows], rate, classes=CLASSES, seed=draw)
    return (inputs[rows[:train]], labels[:train]), (inputs[rows[train:]], labels[train:]), truth[rows[:train]]


def study_noise(kind: str, noise: float) -> dict:
    """Tune and train all losses under one kind and rate of noise."""
    draws = [noisy_digits(kind, noise, draw) for draw in DRAWS]
    data, tuning = (_of_all_draws([draw[part] for draw in draws]) for part in (0, 1))
    wrong = data[1] != torch.stack([truth for *_, truth in draws], 1)
    test_inputs, test_labels = images("mnist", "test")
    found = {}
    for name, loss in losses_for_noise(transition(kind, noise, classes=CLASSES)).items():
        curves = {}
        for rate in RATES:
            seen = {"tune": [], "test": [], "fitted": []}
            for model in train(loss, data, rate=rate):
                right = predict(model, tuning[0]).argmax(1) == tuning[1]
                seen["tune"].append(right.double().mean(0))
                right = predict(model, test_inputs).argmax(1) == test_labels[:, None]
                seen["test"].append(right.double().mean(0))
                if noise:
                    fitted = (predict(model, data[0]).argmax(1) == data[1]) & wrong
                    seen["fitted"].append(fitted.sum(0) / wrong.sum(0))
            curves[rate] = {key: torch.stack(values) for key, values in seen.items() if values}  # (looks, draws)
        picked = _picked({rate: seen["tune"] for rate, seen in curves.items()})
        found[name] = {
            "rate": [rate for rate, _ in picked],
            "epoch": [LOOKS[look] for _, look in picked],
            "accuracy": _rounded(curves[rate]["test"][look, k] for k, (rate, look) in enumerate(picked)),
            **{
                part: {str(rate): _by_draw(seen[part]) for rate, seen in curves.items() if part in seen}
                for part in ("test", "tune", "fitted")
            },
        }
    return {"kind": kind, "noise": noise, "losses": found}


# Rare classes


def long_tailed_clothes(ratio: float, noise: float, draw: int) -> tuple[Data, Data, Tensor]:
    """Return clothes to train on, a fifth as many to tune with, and the classes from the most common to the rarest.

    Args:
        ratio: of the largest class to the smallest.
        noise: the rate of symmetric flips among the labels of both.
        draw: decides which class is how rare, which images there are, and which labels are wrong.
    """
    inputs, truth = images("fashion", "train")
    ranking = torch.randperm(CLASSES, generator=torch.Generator().manual_seed(draw))
    largest = min(LARGEST, int(torch.bincount(truth).min()) * 5 // 6)  # the stand-in is small
    counts, spare = torch.empty(2, CLASSES, dtype=torch.long)
    counts[ranking] = long_tail(largest, ratio, classes=CLASSES)
    spare[ranking] = long_tail(largest, ratio, classes=CLASSES).div(5, rounding_mode="floor")
    rows = make_rare(truth, counts + spare, seed=draw)
    tuning = torch.zeros(len(rows), dtype=torch.bool)
    tuning[make_rare(truth[rows], spare, seed=draw)] = True
    labels = flip_symmetric(truth[rows], noise, classes=CLASSES, seed=draw)
    train, tune = ((inputs[rows[part]], labels[part]) for part in (~tuning, tuning))
    return train, tune, ranking


def recalls(logits: Tensor, labels: Tensor) -> Tensor:
    """Return which share of each class is recognised, by each network, shape (C, K).

    Args:
        logits: shape (N, C, K).
        labels: shape (N, K).
    """
    right = ((logits.argmax(1) == labels)[:, None] & _one_hot(labels)).double().sum(0)
    return right / _one_hot(labels).sum(0)


def ways(name: str, logits: Tensor, counts: Tensor, noise: float) -> dict[str, Tensor]:
    """Return the logits as they are and, of losses that do not know which classes are rare, moved towards the rare.

    Args:
        name: of the loss, as in ``losses_for_rarity``.
        logits: shape (N, C, K).
        counts: of the classes in the training labels, shape (C, K).
        noise: the rate of symmetric flips in them.

    Returns:
        "raw", the logits as they are; "moved", less the logarithm of the shares of the labels; and of cross-entropy,
        where there is noise, "informed", from probabilities of which the noise has been undone, less the logarithm of
        the true shares.
    """
    found = {"raw": logits}
    if name in KNOW_NO_COUNTS:
        found["moved"] = logits - (counts / counts.sum(0)).log()
    if name == "cross_entropy" and noise:
        each = noise / (CLASSES - 1)  # p becomes each + (1 - noise - each) p
        truth, shares = (((p - each).clamp(min=1e-6)).log() for p in (logits.softmax(1), counts / counts.sum(0)))
        found["informed"] = truth - shares
    return found


def study_rarity(ratio: float, noise: float) -> dict:
    """Tune and train all losses on one long tail; the learning rate and the epoch are chosen anew for moved logits."""
    draws = [long_tailed_clothes(ratio, noise, draw) for draw in DRAWS]
    data, tuning = (_of_all_draws([draw[part] for draw in draws]) for part in (0, 1))
    rankings = torch.stack([ranking for *_, ranking in draws], 1)
    counts = _one_hot(data[1]).sum(0)
    test_inputs, test_labels = images("fashion", "test")
    test_labels = test_labels[:, None].expand(-1, len(DRAWS))
    found = {}
    for name, loss in losses_for_rarity(counts).items():
        looks = {rate: [] for rate in RATES}  # a list of dictionaries by way
        for rate in RATES:
            for model in train(loss, data, rate=rate):
                tuned = ways(name, predict(model, tuning[0]), counts, noise)
                tested = ways(name, predict(model, test_inputs), counts, noise)
                looks[rate].append(
                    {
                        way: {
                            "tune": recalls(tuned[way], tuning[1]).mean(0),
                            "recall": recalls(z, test_labels).gather(0, rankings),
                            "nll": losses.cross_entropy(z, test_labels, reduction="none").mean(0),
                        }
                        for way, z in tested.items()
                    }
                )
        for way in looks[RATES[0]][0]:
            tune = {rate: torch.stack([look[way]["tune"] for look in looks[rate]]) for rate in RATES}
            recall = {rate: torch.stack([look[way]["recall"] for look in looks[rate]]) for rate in RATES}
            picked = _picked(tune)
            shown = [looks[rate][look][way] for rate, look in picked]
            found[f"{name}, {way}"] = {
                "rate": [rate for rate, _ in picked],
                "epoch": [LOOKS[look] for _, look in picked],
                "recall": [_rounded(look["recall"][:, k]) for k, look in enumerate(shown)],
                "nll": _rounded(look["nll"][k] for k, look in enumerate(shown)),
                "tune": {str(rate): _by_draw(tune[rate]) for rate in RATES},
                "balanced": {str(rate): _by_draw(recall[rate].mean(1)) for rate in RATES},
            }
    return {
        "ratio": ratio,
        "noise": noise,
        "counts": long_tail(LARGEST, ratio, classes=CLASSES).tolist(),
        "labels": [column.tolist() for column in counts.gather(0, rankings).T],
        "losses": found,
    }


def run(workers: int = 1) -> dict:
    """Make all measurements.

    Args:
        workers: processes that train side by side.
    """
    tasks = [(study_noise, condition) for condition in NOISE] + [(study_rarity, condition) for condition in RARITY]
    with get_context("spawn").Pool(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        results = pool.starmap(_measure, tasks, chunksize=1)
    return {
        "rates": list(RATES),
        "batch": BATCH,
        "epochs": list(LOOKS),
        "draws": len(DRAWS),
        "train": TRAIN,
        "tune": TUNE,
        "noise": results[: len(NOISE)],
        "rarity": results[len(NOISE) :],
    }


def _measure(study, condition):
    found = study(*condition)
    print(f"{study.__name__} {condition} is done", flush=True)
    return found


def _picked(scores: dict[float, Tensor]) -> list[tuple[float, int]]:
    """Return for each draw the learning rate and the look with the best score, the first where several are alike.

    Args:
        scores: by learning rate, shape (looks, draws).
    """
    places = [(rate, look) for rate, table in scores.items() for look in range(len(table))]
    return [max(places, key=lambda place: scores[place[0]][place[1], k].item()) for k in range(len(DRAWS))]


def _one_hot(labels: Tensor) -> Tensor:
    """Return which class each label is, shape (N, C, K), of labels (N, K)."""
    return labels[:, None] == torch.arange(CLASSES, device=labels.device)[:, None]


def _by_draw(scores: Tensor) -> list[list[float]]:
    """Return a list for each draw from scores of shape (looks, draws)."""
    return [_rounded(curve) for curve in scores.T]


def _rounded(values) -> list[float]:
    return [round(float(value), 4) for value in values]
