"""Typical wrong answers to the exercises of the chapter on speed, each with words of the property that names it."""

import math

import torch


def cycle(
    done, peak, *, low=1 / 25, top=0.3, fall=lambda way: (1 + torch.cos(math.pi * way)) / 2, rise=lambda way: way
):
    up = peak * (low + (1 - low) * rise(done / top))
    return torch.where(done < top, up, peak * fall((done - top) / (1 - top)))


def bits(change, keep=-65536):
    return lambda x: ((x.view(torch.int32) + change(x.view(torch.int32))) & keep).view(torch.float32)


def nearest_even(i):
    return 32767 + ((i >> 16) & 1)


WRONG = {
    "speedup": {
        "sign: the rest grows": (lambda share, factor: 1 / (1 + share - share / factor), "for a share of 1"),
        "sign: of the rest": (lambda share, factor: 1 / (share - 1 + share / factor), "Exactly 1"),
        "factor: of the rest": (lambda share, factor: 1 / (share + (1 - share) / factor), "Exactly 1"),
        "factor: the time for the speed-up": (lambda share, factor: 1 - share + share / factor, "for a share of 1"),
        "factor: mean of the speeds": (lambda share, factor: 1 - share + share * factor, "Never above"),
        "factor: to the power": (lambda share, factor: factor**share, "Never above"),
        "only the limit": (lambda share, factor: 1 / max(1 - share, 1e-12), "Exactly 1"),
        "half way to the limit": (
            lambda share, factor: min(factor, 1 / max(1 - share * (factor > 1), 1e-12)),
            "The time before",
        ),
        "percent": (lambda share, factor: 100 / (100 - share + share / factor), "for a share of 1"),
        "a tensor": (lambda share, factor: torch.tensor(1 / (1 - share + share / factor)), "One number"),
    },
    "one_cycle": {
        "sign: cosine upside down": (
            lambda d, p: cycle(d, p, fall=lambda way: (1 - torch.cos(math.pi * way)) / 2),
            "at the start",
        ),
        "factor: starts at 0": (lambda d, p: cycle(d, p, low=0), "at the start"),
        "factor: whole wave": (
            lambda d, p: cycle(d, p, fall=lambda way: (1 + torch.cos(2 * math.pi * way)) / 2),
            "at the start",
        ),
        "factor: quarter wave": (
            lambda d, p: cycle(d, p, fall=lambda way: torch.cos(math.pi * way / 2)),
            "half a wave",
        ),
        "axis: the whole way for the fall": (
            lambda d, p: torch.where(d < 0.3, cycle(d, p), p * (1 + torch.cos(math.pi * d)) / 2),
            "at the start",
        ),
        "straight down": (lambda d, p: cycle(d, p, fall=lambda way: 1 - way), "half a wave"),
        "cosine up, too": (
            lambda d, p: cycle(d, p, rise=lambda way: (1 - torch.cos(math.pi * way)) / 2),
            "straight line",
        ),
        "fixed start": (
            lambda d, p: torch.where(d < 0.3, 0.00004 + (p - 0.00004) * d / 0.3, cycle(d, p)),
            "at the start",
        ),
        "first rate only": (lambda d, p: cycle(d[:1], p), "One rate"),
    },
    "rounded_to_bfloat16": {
        "cut off": (bits(lambda i: 0), "half the gap"),
        "sign: rounded towards plus": (bits(lambda i: 65535 * (i >= 0).int()), "half the gap"),
        "ties away from 0": (bits(lambda i: 32768), "last bit is 0"),
        "ties towards 0": (bits(lambda i: 32767), "last bit is 0"),
        "factor: ties to odd": (bits(lambda i: 32768 - ((i >> 16) & 1)), "last bit is 0"),
        "factor: a bit too few": (bits(lambda i: 65535 + ((i >> 17) & 1), keep=-131072), "is not changed"),
        "factor: a bit too many": (bits(lambda i: 16383 + ((i >> 15) & 1), keep=-32768), "last 16 bits"),
        "float16": (lambda x: x.half().float(), "last 16 bits"),
        "bfloat16 itself": (lambda x: x.bfloat16(), "float32 tensor"),
        "the integers": (
            lambda x: (x.view(torch.int32) + nearest_even(x.view(torch.int32))) & -65536,
            "float32 tensor",
        ),
        "sign: lost": (lambda x: bits(nearest_even)(x.abs()), "is not changed"),
    },
}
