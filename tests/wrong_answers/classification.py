"""Typical wrong answers to the exercises on classification, each with words of the property that should name it."""


def lead(z, y, p):
    """Return the logit of each label minus the mean of the logits under p."""
    return z.gather(1, y[:, None]).squeeze(1) - (p * z).sum(1)


def unshifted(z):
    return z.exp() / z.exp().sum(1, keepdim=True)


WRONG = {
    "temperature_slope": {
        "sign": (lambda z, y, t: -lead(z, y, (z / t).softmax(1)).mean() / t**2, "Not negative"),
        "factor: sum for mean": (lambda z, y, t: lead(z, y, (z / t).softmax(1)).sum() / t**2, "mean of the slopes"),
        "factor: temperature to the first power": (
            lambda z, y, t: lead(z, y, (z / t).softmax(1)).mean() / t,
            "small step",
        ),
        "factor: no temperature": (lambda z, y, t: lead(z, y, (z / t).softmax(1)).mean(), "small step"),
        "axis": (lambda z, y, t: lead(z, y, (z / t).softmax(0)).mean() / t**2, "all logits of a row are equal"),
        "axis: one number for each row": (lambda z, y, t: lead(z, y, (z / t).softmax(1)) / t**2, "One number"),
        "probabilities without the temperature": (lambda z, y, t: lead(z, y, z.softmax(1)).mean() / t**2, "small step"),
        "plain mean of the logits": (
            lambda z, y, t: (z.gather(1, y[:, None]).squeeze(1) - z.mean(1)).mean() / t**2,
            "small step",
        ),
        "largest logit for the true one": (
            lambda z, y, t: lead(z, z.argmax(1), (z / t).softmax(1)).mean() / t**2,
            "small step",
        ),
        "overflow": (lambda z, y, t: lead(z, y, unshifted(z / t)).mean() / t**2, "in the thousands"),
    },
    "probabilities_elsewhere": {
        "sign: weights once more": (
            lambda z, w, old, new: (z + w.log() + (new / old).log()).softmax(1),
            "weights 1 and 9",
        ),
        "sign: shares upside down": (
            lambda z, w, old, new: (z - w.log() - (new / old).log()).softmax(1),
            "grows from 0.5 to 0.8",
        ),
        "factor: not normalised": (lambda z, w, old, new: z.softmax(1) * new / (w * old), "sums to one"),
        "factor: the weight itself for its logarithm": (
            lambda z, w, old, new: (z - w + (new / old).log()).softmax(1),
            "weights 1 and 9",
        ),
        "factor: old shares forgotten": (
            lambda z, w, old, new: (z - w.log() + new.log()).softmax(1),
            "the shares stay",
        ),
        "factor: weights forgotten": (lambda z, w, old, new: (z + (new / old).log()).softmax(1), "weights 1 and 9"),
        "shares forgotten": (lambda z, w, old, new: (z - w.log()).softmax(1), "grows from 0.5 to 0.8"),
        "axis": (lambda z, w, old, new: (z - w.log() + (new / old).log()).softmax(0), "sums to one"),
        "axis: one row only": (lambda z, w, old, new: (z - w.log() + (new / old).log()).softmax(1)[0], "shape"),
        "bits for nats": (
            lambda z, w, old, new: (z - w.log2() + (new / old).log2()).softmax(1),
            "weights 1 and 9",
        ),
        "overflow": (lambda z, w, old, new: unshifted(z - w.log() + (new / old).log()), "thousands are added"),
        "overflow, patched": (
            lambda z, w, old, new: unshifted((z - w.log() + (new / old).log()).clamp(max=80)),
            "thousands are added",
        ),
        "logits for probabilities": (lambda z, w, old, new: z - w.log() + (new / old).log(), "sums to one"),
    },
}
