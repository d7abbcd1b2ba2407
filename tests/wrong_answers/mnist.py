"""Typical wrong answers to the exercises of the MNIST part, each with words of the property that should name it."""

import torch
from torch.nn.functional import one_hot


def smoothed_target(logits, labels, smoothing):
    return (1 - smoothing) * one_hot(labels, logits.shape[1]) + smoothing / logits.shape[1]


def over_the_others(logits, labels, smoothing):
    truth, classes = one_hot(labels, logits.shape[1]), logits.shape[1]
    return (logits.softmax(1) - (1 - smoothing) * truth - smoothing / (classes - 1) * (1 - truth)) / len(logits)


def binned(probabilities, labels, gap, bins=10):
    confidence, guess = probabilities.max(1)
    right, bin_of = (guess == labels).float(), (confidence * bins).long().clamp(max=bins - 1)
    filled = [bin_of == b for b in range(bins) if (bin_of == b).any()]
    return sum(gap(inside, confidence[inside].mean(), right[inside].mean()) for inside in filled)


def filled_bins(probabilities):
    return (probabilities.max(1).values * 10).long().clamp(max=9).unique().numel()


WRONG = {
    "smoothed_cross_entropy_gradient": {
        "sign": (lambda z, y, s: (smoothed_target(z, y, s) - z.softmax(1)) / len(z), "true class"),
        "factor: no mean": (lambda z, y, s: z.softmax(1) - smoothed_target(z, y, s), "mean over the rows"),
        "factor: divided by the classes, too": (
            lambda z, y, s: (z.softmax(1) - smoothed_target(z, y, s)) / z.numel(),
            "small step",
        ),
        "axis": (lambda z, y, s: (z.softmax(0) - smoothed_target(z, y, s)) / len(z), "row sums to zero"),
        "smoothing forgotten": (lambda z, y, s: (z.softmax(1) - one_hot(y, z.shape[1])) / len(z), "smoothed target"),
        "smoothing over the others only": (over_the_others, "smoothed target"),
        "overflow, patched": (
            lambda z, y, s: ((z.exp() / z.exp().sum(1, keepdim=True)).nan_to_num() - smoothed_target(z, y, s)) / len(z),
            "thousands",
        ),
        "logits cut off": (
            lambda z, y, s: (z.clamp(-60, 60).softmax(1) - smoothed_target(z, y, s)) / len(z),
            "thousands",
        ),
        "wrong for much smoothing": (
            lambda z, y, s: (z.softmax(1) - smoothed_target(z, y, min(s, 0.5))) / len(z),
            "small step",
        ),
        "overflow": (
            lambda z, y, s: (z.exp() / z.exp().sum(1, keepdim=True) - smoothed_target(z, y, s)) / len(z),
            "thousands",
        ),
        "shape": (lambda z, y, s: (z.softmax(1) - smoothed_target(z, y, s)).mean(0), "shape of the logits"),
    },
    "cross_entropy_from_logits": {
        "sign": (lambda z, y: z.log_softmax(1).gather(1, y[:, None]).mean(), "Never negative"),
        "factor: sum for mean": (lambda z, y: -z.log_softmax(1).gather(1, y[:, None]).sum(), "natural log of C"),
        "factor: bits for nats": (
            lambda z, y: -z.log_softmax(1).gather(1, y[:, None]).mean() / 0.6931472,
            "natural log of C",
        ),
        "axis": (lambda z, y: -z.log_softmax(0).gather(1, y[:, None]).mean(), "natural log of C"),
        "no reduction": (lambda z, y: -z.log_softmax(1).gather(1, y[:, None]), "One number"),
        "overflow": (
            lambda z, y: -(z.exp() / z.exp().sum(1, keepdim=True)).gather(1, y[:, None]).log().mean(),
            "the same number is added",
        ),
        "log of a probability that rounds to 0": (
            lambda z, y: -z.softmax(1).gather(1, y[:, None]).log().mean(),
            "the label is wrong",
        ),
        "another loss": (lambda z, y: torch.relu(z - z.gather(1, y[:, None])).sum(1).mean(), "natural log of C"),
    },
    "calibration_error": {
        "sign: gaps cancel": (
            lambda p, y: binned(p, y, lambda inside, sure, right: inside.float().mean() * (sure - right)),
            "between 0 and 1",
        ),
        "factor: bins weigh alike": (
            lambda p, y: binned(p, y, lambda inside, sure, right: (sure - right).abs() / 10),
            "certain and wrong",
        ),
        "factor: mean over the filled bins": (
            lambda p, y: binned(p, y, lambda inside, sure, right: (sure - right).abs()) / filled_bins(p),
            "ten copies",
        ),
        "factor: not divided by N": (
            lambda p, y: binned(p, y, lambda inside, sure, right: inside.sum() * (sure - right).abs()),
            "between 0 and 1",
        ),
        "axis": (
            lambda p, y: (p.max(0).values.mean() - (p.argmax(0) == y[: p.shape[1]]).float().mean()).abs(),
            "certain and wrong",
        ),
        "five bins": (
            lambda p, y: binned(p, y, lambda inside, sure, right: inside.float().mean() * (sure - right).abs(), bins=5),
            "makes up for",
        ),
        **{
            f"{count} bins": (
                lambda p, y, count=count: binned(
                    p, y, lambda inside, sure, right: inside.float().mean() * (sure - right).abs(), bins=count
                ),
                "each 0.1 wide",
            )
            for count in (8, 9, 11, 12, 15, 20)
        },
        "rounded to the nearest tenth": (
            lambda p, y: binned(
                (p + 0.05).clamp(max=1),
                y,
                lambda inside, sure, right: inside.float().mean() * (sure - 0.05 - right).abs(),
            ),
            "certain and wrong",
        ),
        "certainty has no bin": (
            lambda p, y: binned(
                p * (p < 1), y, lambda inside, sure, right: inside.float().mean() * (sure - right).abs()
            ),
            "certain and wrong",
        ),
        "no bins": (lambda p, y: (p.max(1).values.mean() - (p.argmax(1) == y).float().mean()).abs(), "makes up for"),
        "loss in place of calibration": (lambda p, y: 1 - p.gather(1, y[:, None]).mean(), "makes up for"),
    },
}
