"""The entries of the losses of adversarial networks."""

import numpy as np
import torch

from lib.catalog._entry import Entry, Slice, Tool
from lib.catalog._symbols import CONDITION, LOGISTIC
from lib.reference import gan

ORIGINS = {
    "minimax": ("I. Goodfellow et al., Generative adversarial networks (2014)", "https://arxiv.org/abs/1406.2661"),
    "lsgan": (
        "X. Mao et al., Least squares generative adversarial networks (2017)",
        "https://arxiv.org/abs/1611.04076",
    ),
    "wgan": ("M. Arjovsky, S. Chintala, L. Bottou, Wasserstein GAN (2017)", "https://arxiv.org/abs/1701.07875"),
    "hinge": ("J. H. Lim, J. C. Ye, Geometric GAN (2017)", "https://arxiv.org/abs/1705.02894"),
}
REAL = "$r$ of real samples"
FAKE = "$f$ of fake samples"
DENSITIES = "where real samples have the density $g$ and fake ones $h$, "
ALONG_A_REAL_SCORE = Slice(
    "score of a real sample, beside a fake one of 0", -4.0, 4.0, lambda score: (score[None], torch.zeros(1).double())
)
ALONG_A_FAKE_SCORE = Slice("score of a fake sample", -4.0, 4.0, lambda score: (score[None],))


def _discriminator_entry(kind, optimum, origin=None, **facts):
    """Return the entry of a discriminator's loss, for which the best scores of real samples are ``optimum``."""
    paper, url = ORIGINS[origin or kind]

    def scores(generator, n, spread):
        return tuple(spread * generator.standard_normal((2, n))), {"kind": kind}

    def best(generator):
        (real, fake), options = scores(generator, 6, 1.0)
        return (np.full_like(real, optimum), fake), options

    shared = {
        "name": f"discriminator_loss, {kind}",
        "twins": gan,
        "use_for": ("generate samples",),
        "target": f"scores {FAKE}, any shape",
        "divides_by": "of $r$ the number of real samples, of $f$ that of fake ones; the two means are added",
        "divisor": lambda sample: len(sample[0][0]),
        "convex": True,
        "bound": None,
        "paper": paper,
        "url": url,
        "sample": scores,
        "slice": ALONG_A_REAL_SCORE,
        "optimum": best,
        "differentiable": (0, 1),
    }
    return Entry(**shared, **facts)


def _generator_entry(kind, optimum, origin=None, **facts):
    """Return the entry of a generator's loss, for which the best scores are ``optimum``."""
    paper, url = ORIGINS[origin or kind]

    def scores(generator, n, spread):
        return (spread * generator.standard_normal(n),), {"kind": kind}

    def best(generator):
        return (np.full(6, optimum),), {"kind": kind}

    shared = {
        "name": f"generator_loss, {kind}",
        "twins": gan,
        "use_for": ("generate samples",),
        "target": "none",
        "divides_by": "the number of scores",
        "divisor": lambda sample: len(sample[0][0]),
        "paper": paper,
        "url": url,
        "sample": scores,
        "slice": ALONG_A_FAKE_SCORE,
        "optimum": best,
    }
    return Entry(**shared, **facts)


# Where the higher score is always the better, a score above all that the tests draw has the least loss.
HIGHEST = 1e6
EVER_HIGHER = "none: the higher the score, the lower the loss"
SURE_OF_ALL = "Once the discriminator tells all samples apart, its gradient vanishes, and it learns no more."
OF_LOG_ODDS = {
    "value": r"\ln(1 + e^{-r}) + \ln(1 + e^f)",
    "gradient": r"-\sigma(-r) \text{ in } r, \quad \sigma(f) \text{ in } f",
    "symbols": f"{LOGISTIC}.",
    "input": f"scores {REAL}, the log-odds of being real, any shape",
    "minimiser": f"none for one sample; {DENSITIES}the score $\\ln(g/h)$",
    "lipschitz": 1.0,
    "limits": (SURE_OF_ALL,),
}

ENTRIES = (
    _discriminator_entry(
        "minimax",
        HIGHEST,
        title="Discriminator, minimax",
        because="It belongs to the minimax generator, and is the same as the non-saturating one.",
        **OF_LOG_ODDS,
    ),
    _discriminator_entry(
        "non-saturating",
        HIGHEST,
        "minimax",
        title="Discriminator, non-saturating",
        first_choice_for=("generate samples",),
        because="It is the discriminator to start with: the binary cross-entropy of real and fake samples, its score a "
        "log-odds.",
        **OF_LOG_ODDS,
    ),
    _discriminator_entry(
        "lsgan",
        1.0,
        title="Discriminator, least squares",
        because="Samples should be drawn towards the real ones by how far off they are: no score has a slope of 0 but "
        "the wanted one.",
        value=r"\tfrac12 (r - 1)^2 + \tfrac12 f^2",
        gradient=r"r - 1 \text{ in } r, \quad f \text{ in } f",
        input=f"scores {REAL}, any shape",
        minimiser=f"1 for a real sample and 0 for a fake one; {DENSITIES}the score $g/(g + h)$",
        lipschitz=None,
        limits=("A real sample with a score far above 1 is punished though it is right.",),
    ),
    _discriminator_entry(
        "wgan",
        HIGHEST,
        title="Critic (Wasserstein)",
        helps_against=("sure discriminator",),
        because="The value should say how far the samples are from real ones; it needs a penalty on its slope.",
        value="f - r",
        gradient=r"-1 \text{ in } r, \quad 1 \text{ in } f",
        input=f"scores {REAL}, any shape",
        minimiser="none: the higher real scores and the lower fake ones, the lower the loss, unless the critic is "
        "kept from being steep",
        lipschitz=1.0,
        limits=("Unless the critic is kept from being steep, as gradient_penalty does, the loss falls without end.",),
    ),
    _discriminator_entry(
        "hinge",
        1.0,
        title="Discriminator, hinge",
        because="The discriminator should stop learning from samples that it tells by a margin, as in large models of "
        "images.",
        value=r"\max(0, 1 - r) + \max(0, 1 + f)",
        gradient=r"-[r < 1] \text{ in } r, \quad [f > -1] \text{ in } f",
        symbols=f"{CONDITION}.",
        input=f"scores {REAL}, any shape",
        minimiser=f"1 or more for a real sample, -1 or less for a fake one; {DENSITIES}the score sign$(g - h)$",
        lipschitz=1.0,
        limits=("Samples on the right side, beyond the margin of 1, teach the discriminator nothing.",),
    ),
    _generator_entry(
        "minimax",
        HIGHEST,
        title="Generator, minimax",
        because="It is the game of the theory, to be studied rather than trained: its slope vanishes where the "
        "samples are worst.",
        value=r"\ln(1 - \sigma(f)) = -\ln(1 + e^f)",
        gradient=r"-\sigma(f)",
        symbols=f"{LOGISTIC}.",
        input=f"scores {FAKE}, the log-odds of being real, any shape",
        minimiser=EVER_HIGHER,
        convex=False,
        lipschitz=1.0,
        bound=0.0,
        limits=("Where the discriminator is sure that a sample is fake, the gradient vanishes.",),
    ),
    _generator_entry(
        "non-saturating",
        HIGHEST,
        "minimax",
        title="Generator, non-saturating",
        first_choice_for=("generate samples",),
        helps_against=("sure discriminator",),
        because="It is the generator to start with: the slope is largest where the samples are worst.",
        value=r"-\ln\sigma(f) = \ln(1 + e^{-f})",
        gradient=r"-\sigma(-f)",
        symbols=f"{LOGISTIC}.",
        input=f"scores {FAKE}, the log-odds of being real, any shape",
        minimiser=EVER_HIGHER,
        convex=True,
        lipschitz=1.0,
        bound=None,
        limits=("Samples that fool the discriminator hardly count, so it may make a few kinds only (mode collapse).",),
    ),
    _generator_entry(
        "lsgan",
        1.0,
        title="Generator, least squares",
        helps_against=("sure discriminator",),
        because="The discriminator is the least-squares one: the slope grows with the distance from the wanted score.",
        value=r"\tfrac12 (f - 1)^2",
        gradient="f - 1",
        input=f"scores {FAKE}, any shape",
        minimiser="a score of 1",
        convex=True,
        lipschitz=None,
        bound=None,
        limits=("One sample with a score far off outweighs many others.",),
    ),
    _generator_entry(
        "wgan",
        HIGHEST,
        title="Generator (Wasserstein)",
        helps_against=("sure discriminator",),
        because="The critic is a Wasserstein one: every sample has the same slope, however sure the critic is.",
        value="-f",
        gradient="-1",
        input=f"scores {FAKE}, any shape",
        minimiser=EVER_HIGHER,
        convex=True,
        lipschitz=1.0,
        bound=None,
        limits=("Its value says how good the samples are only as far as the critic is near its best.",),
    ),
    _generator_entry(
        "hinge",
        HIGHEST,
        title="Generator, hinge",
        helps_against=("sure discriminator",),
        because="The discriminator is the hinge one: every sample has the same slope, whatever its score.",
        value="-f",
        gradient="-1",
        input=f"scores {FAKE}, any shape",
        minimiser=EVER_HIGHER,
        convex=True,
        lipschitz=1.0,
        bound=None,
        limits=("Unlike the discriminator's hinge it has no margin: no sample ever fools well enough.",),
    ),
)

TOOLS = (
    Tool(
        name="gradient_penalty",
        family="gan",
        title="Gradient penalty",
        use_for=("generate samples",),
        helps_against=("sure discriminator",),
        because="The critic is a Wasserstein one, whose value means something only while its slope is held.",
        value=r"\bigl(\lVert\nabla D(\hat x)\rVert - c\bigr)^2, \quad"
        r" \hat x = u\,x_{\text{real}} + (1 - u)\,x_{\text{fake}}, \quad u \sim U[0, 1]",
        symbols=r"$D$: the critic; $x_{\text{real}}$, $x_{\text{fake}}$: samples; $u$: drawn evenly between 0 and 1 "
        "for each pair; $c$: the slope to have, the option target_norm, by default 1.",
        purpose="It keeps the critic of a Wasserstein GAN from being steep.",
        limits=(
            "It sees the critic's slope only between the samples drawn.",
            "It costs a second pass through the critic, and the derivative of a derivative.",
            "With batch normalisation in the critic the slope at one sample is not defined.",
        ),
        paper="I. Gulrajani et al., Improved training of Wasserstein GANs (2017)",
        url="https://arxiv.org/abs/1704.00028",
    ),
)
