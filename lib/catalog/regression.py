"""The entries of the losses for predicting a number."""

import math

import numpy as np
import torch

from lib.catalog._entry import Entry, Slice
from lib.reference import regression

TARGET = "numbers $y$, integers or floats of the shape of the input"
BROADCASTS = "torch broadcasts shapes that differ, with a warning at most."
WEIGHTED = "the number of elements; with weights, their sum"
PREDICTION = r"predictions $\hat y$ of any shape, in the unit of the target; $r = \hat y - y$ is the residual"


def _elements(sample):
    return sample[0][0].size


def _residuals(**options):
    """Return a sampler of predictions around normal targets, with fixed options."""

    def sample(generator, n, spread):
        target = generator.standard_normal(n)
        return (target + spread * generator.standard_normal(n), target), options

    return sample


def _log_rates(generator, n, spread):
    """Draw counts and logarithms of rates, no larger than 30, for their exponentials must not overflow."""
    return (np.clip(spread * generator.standard_normal(n), -30, 30), generator.poisson(3.0, n).astype(float)), {}


ALONG_THE_RESIDUAL = Slice("residual", -3.0, 3.0, lambda residual: (residual[None], torch.zeros(1).double()))
ALONG_THE_RATE = Slice(
    "logarithm of the rate, where 3 were counted", -2.0, 2.5, lambda rate: (rate[None], torch.full((1,), 3.0).double())
)


def _regression_entry(**facts):
    """Return an entry with what the losses of a residual share."""
    shared = {
        "twins": regression,
        "input": PREDICTION,
        "target": TARGET,
        "divides_by": "the number of elements",
        "divisor": _elements,
        "calibrated": None,
        "difference": "",
        "slice": ALONG_THE_RESIDUAL,
    }
    return Entry(**{**shared, **facts})


ENTRIES = (
    _regression_entry(
        name="mse_loss",
        title="Squared error",
        use_for=("predict a number",),
        first_choice_for=("predict a number",),
        because="The errors are mild and the average is wanted, as where predictions are added up.",
        value=r"r^2",
        gradient=r"2r",
        minimiser="mean",
        convex=True,
        lipschitz=None,
        bound=None,
        robust=False,
        divides_by=WEIGHTED,
        limits=("One outlier can pull the prediction as far as it likes.",),
        torch="mse_loss",
        difference=BROADCASTS,
        paper="C. F. Gauss, Theoria combinationis observationum (1823), in G. W. Stewart's translation (1995)",
        url="https://doi.org/10.1137/1.9781611971248",
        chapter="formulas/regression",
        sample=_residuals(),
    ),
    _regression_entry(
        name="l1_loss",
        title="Absolute error",
        use_for=("predict a number",),
        helps_against=("outliers",),
        because="The typical value is wanted: an error of ten costs ten times as much as an error of one, not a "
        "hundred times.",
        value=r"|r|",
        gradient=r"\operatorname{sign}(r)",
        minimiser="median",
        convex=True,
        lipschitz=1.0,
        bound=None,
        robust=True,
        divides_by=WEIGHTED,
        limits=(
            "Its slope does not shrink near the target, so fixed steps overshoot.",
            "At a residual of 0 it has no derivative; the gradient there is 0.",
        ),
        torch="l1_loss",
        difference=BROADCASTS,
        paper="R. Koenker, G. Bassett, Regression quantiles (1978)",
        url="https://doi.org/10.2307/1913643",
        chapter="formulas/regression",
        sample=_residuals(),
    ),
    _regression_entry(
        name="huber_loss",
        title="Huber loss",
        use_for=("predict a number",),
        helps_against=("outliers",),
        because="Most errors are mild and a few are large: it is the squared error up to delta, and beyond it no "
        "error pulls harder than another.",
        value=r"\begin{cases} r^2/2 & |r| \le \delta \\ \delta\,(|r| - \delta/2) & |r| > \delta \end{cases}",
        gradient=r"\min(\max(r, -\delta), \delta)",
        minimiser="between median and mean",
        convex=True,
        symbols=r"$\delta$: the residual from which an error counts as an outlier; it is the Lipschitz constant too.",
        divides_by="the number of elements, with weights too",
        lipschitz=1.0,
        bound=None,
        setting=r"with $\delta = 1$",
        robust=True,
        limits=("The threshold delta has the unit of the target and must be chosen.",),
        torch="huber_loss",
        difference=BROADCASTS,
        paper="P. J. Huber, Robust estimation of a location parameter (1964)",
        url="https://doi.org/10.1214/aoms/1177703732",
        chapter="formulas/regression",
        sample=_residuals(delta=1.0),
    ),
    _regression_entry(
        name="smooth_l1_loss",
        title="Smooth L1 loss",
        use_for=("predict a number", "find boxes"),
        helps_against=("outliers",),
        because="It is the Huber loss with a slope of 1 beyond beta, whatever beta is; detectors use it for the "
        "offsets of their boxes.",
        value=r"\begin{cases} r^2/(2\beta) & |r| \le \beta \\ |r| - \beta/2 & |r| > \beta \end{cases}",
        gradient=r"\min(\max(r/\beta, -1), 1)",
        minimiser="between median and mean",
        convex=True,
        lipschitz=1.0,
        bound=None,
        robust=True,
        symbols=r"$\beta$: the residual at which the parabola ends. It is the Huber loss of $\delta = \beta$ divided by"
        r" $\beta$.",
        limits=("The threshold beta has the unit of the target and must be chosen.",),
        torch="smooth_l1_loss",
        difference=BROADCASTS,
        paper="R. Girshick, Fast R-CNN (2015)",
        url="https://arxiv.org/abs/1504.08083",
        chapter="formulas/regression",
        sample=_residuals(beta=0.5),
    ),
    _regression_entry(
        name="log_cosh_loss",
        title="Log-cosh loss",
        use_for=("predict a number",),
        helps_against=("outliers",),
        because="The Huber loss is wanted without corners in its slope: here every derivative exists, though the "
        "second fades fast as errors grow.",
        value=r"\ln \cosh r",
        gradient=r"\tanh r",
        minimiser="between median and mean",
        convex=True,
        lipschitz=1.0,
        bound=None,
        robust=True,
        limits=("It has no parameter: the unit of the target decides where the parabola ends.",),
        torch=None,
        paper="R. A. Saleh, A. K. M. E. Saleh, Statistical properties of the log-cosh loss function used in machine "
        "learning (2022)",
        url="https://arxiv.org/abs/2208.04564",
        chapter="formulas/regression",
        sample=_residuals(),
    ),
    _regression_entry(
        name="quantile_loss",
        title="Quantile loss (pinball loss)",
        use_for=("predict a range",),
        first_choice_for=("predict a range",),
        helps_against=("unequal costs",),
        because="A level is wanted that is exceeded with a given probability; two of them make an interval.",
        value=r"\max(-q\,r, (1 - q)\,r)",
        gradient=r"-q \text{ for } r < 0, \quad 1 - q \text{ for } r > 0",
        minimiser="quantile",
        convex=True,
        symbols=r"$q$: the quantile to predict, between 0 and 1. The Lipschitz constant is $\max(q, 1 - q)$.",
        lipschitz=0.9,
        bound=None,
        setting="with $q = 0.9$",
        robust=True,
        limits=("Quantiles that are learnt apart may cross.", "Extreme quantiles rest on few samples."),
        torch=None,
        paper="R. Koenker, G. Bassett, Regression quantiles (1978)",
        url="https://doi.org/10.2307/1913643",
        chapter="formulas/regression",
        sample=_residuals(q=0.9),
    ),
    _regression_entry(
        name="charbonnier_loss",
        title="Charbonnier loss",
        use_for=("predict a number",),
        helps_against=("outliers",),
        because="Images or flows are restored: it is nearly the absolute error, which keeps edges sharp, but smooth "
        "at 0, where descent settles.",
        value=r"\sqrt{r^2 + \varepsilon^2}",
        gradient=r"r / \sqrt{r^2 + \varepsilon^2}",
        minimiser="between median and mean",
        convex=True,
        lipschitz=1.0,
        bound=None,
        robust=True,
        symbols=r"$\varepsilon$: the residual at which the parabola turns into straight lines, the option eps.",
        limits=("A perfect prediction costs eps, not 0.",),
        torch=None,
        paper="P. Charbonnier et al., Deterministic edge-preserving regularization in computed imaging (1997)",
        url="https://doi.org/10.1109/83.551699",
        chapter="formulas/regression",
        sample=_residuals(eps=1.0),
    ),
    _regression_entry(
        name="poisson_nll_loss",
        title="Poisson negative log-likelihood",
        use_for=("predict a count",),
        first_choice_for=("predict a count",),
        because="The target is a count: rates stay positive, and to be off by one matters less where many are "
        "expected.",
        value=r"e^z - y\,z",
        gradient=r"e^z - y",
        input="logarithms $z$ of the rates, any shape (with log_input=False, rates, and another formula)",
        target="counts $y$, integers or floats of the shape of the input",
        minimiser="log of the mean",
        convex=True,
        lipschitz=None,
        bound=None,
        robust=False,
        limits=("Counts that vary more than their mean says (overdispersion) are not modelled.",),
        torch="poisson_nll_loss",
        difference=BROADCASTS,
        paper="J. A. Nelder, R. W. M. Wedderburn, Generalized linear models (1972)",
        url="https://doi.org/10.2307/2344614",
        chapter="formulas/regression",
        sample=_log_rates,
        slice=ALONG_THE_RATE,
    ),
    _regression_entry(
        name="gaussian_nll_loss",
        title="Gaussian negative log-likelihood",
        use_for=("predict a range", "predict a number"),
        helps_against=("uneven noise",),
        because="The spread differs from sample to sample and is wanted beside the mean; noisy samples then count "
        "less.",
        symbols="$v$: the predicted variance, the third argument.",
        value=r"\tfrac12 \left(\ln v + r^2 / v\right)",
        gradient=r"r / v \text{ in } \hat y, \quad (1 - r^2 / v) / (2 v) \text{ in } v",
        minimiser="mean",
        convex=True,
        lipschitz=None,
        bound=None,
        robust=False,
        limits=(
            "Learnt variances can explain bad means away: the slope in the mean shrinks where the variance is large.",
        ),
        torch="gaussian_nll_loss",
        difference=BROADCASTS,
        paper="D. A. Nix, A. S. Weigend, Estimating the mean and variance of the target probability distribution "
        "(1994)",
        url="https://doi.org/10.1109/ICNN.1994.374138",
        chapter="formulas/regression",
        sample=_residuals(var=2.0),
    ),
    _regression_entry(
        name="general_robust_loss",
        title="General robust loss",
        use_for=("predict a number",),
        helps_against=("outliers",),
        because="Some targets are plainly false and should count for next to nothing; alpha sets how far that goes.",
        value=r"\frac{b}{\alpha} \left( \left( \frac{u^2}{b} + 1 \right)^{\alpha/2} - 1 \right)"
        r", \quad u = r/c, \quad b = |\alpha - 2|",
        gradient=r"\frac{u}{c} \left( \frac{u^2}{b} + 1 \right)^{\alpha/2 - 1}",
        symbols=r"$c$: the residual at which an error starts to count as an outlier, the option scale; $\alpha$: the "
        r"shape, which sets how much outliers count (at 0 and 2 the loss is the limit). For $\alpha < 1$ the Lipschitz "
        r"constant is $(b / (1 - \alpha))^{(\alpha - 1)/2} / c$, for $\alpha < 0$ the upper bound is $b / |\alpha|$.",
        setting=r"with $\alpha = -2$ and $c = 1$",
        minimiser="between median and mean",
        convex=False,
        lipschitz=3 * math.sqrt(3) / 8,
        bound=2.0,
        robust=True,
        limits=(
            "For alpha below 1 it is not convex: from a bad start, targets far away are given up.",
            "Alpha cannot be learnt from it alone, as the smallest always wins.",
        ),
        torch=None,
        paper="J. T. Barron, A general and adaptive robust loss function (2019)",
        url="https://arxiv.org/abs/1701.03077",
        chapter="formulas/regression",
        sample=_residuals(alpha=-2.0),
    ),
)
