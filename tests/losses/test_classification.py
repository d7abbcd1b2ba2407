"""The other classification losses against torch, against 50 digits of mpmath, and against what theory says of them."""

import itertools
import math

import mpmath
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mpf
from torch.autograd import grad, gradcheck, gradgradcheck

from lib.losses import classification as losses
from lib.reference import classification as reference

INF = torch.inf
TINY = torch.finfo(torch.float64).tiny
REDUCTIONS = ["none", "mean", "sum"]
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-12}
DTYPES = list(TOLERANCE)
CLASS_WEIGHT = torch.tensor([0.2, 1.0, 3.0, 0.5], dtype=torch.float64)
MULTI_CLASS = {
    "focal_loss": {},
    "focal_loss, gamma 0": {"gamma": 0.0},
    "focal_loss, gamma 0.5": {"gamma": 0.5, "alpha": CLASS_WEIGHT},
    "generalized_cross_entropy": {},
    "generalized_cross_entropy, q 0": {"q": 0},
    "generalized_cross_entropy, q 1": {"q": 1.0},
    "symmetric_cross_entropy": {},
    "symmetric_cross_entropy, reverse alone": {"alpha": 0.0, "beta": 2.0, "log_zero": -1.0},
    "brier_loss": {},
}
ROWS = MULTI_CLASS | {"nll_loss": {}, "nll_loss, weighted": {"weight": CLASS_WEIGHT}}
BINARY = {
    "binary_cross_entropy": {},
    "binary_cross_entropy_with_logits": {},
    "binary_cross_entropy_with_logits, pos_weight": {"pos_weight": torch.tensor(3.0, dtype=torch.float64)},
    "sigmoid_focal_loss": {},
    "sigmoid_focal_loss, gamma 0.5": {"gamma": 0.5, "alpha": None},
}
EVERY = MULTI_CLASS | ROWS | BINARY
every_loss = pytest.mark.parametrize("case", EVERY)
every_multi_class = pytest.mark.parametrize("case", MULTI_CLASS)
every_row_loss = pytest.mark.parametrize("case", ROWS)
every_binary = pytest.mark.parametrize("case", BINARY)
SHAPES = {"(C,)": (4,), "(N, C)": (6, 4), "(N, C, d)": (3, 4, 2), "(N, C, d, e)": (2, 4, 3, 2)}


def function_of(case, module=losses):
    return getattr(module, case.split(",")[0])


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def example(case, shape=None, seed=0):
    """Return an input that the loss of a case takes, and its target: class indices, or labels, some of them soft."""
    if case in BINARY:
        x = 3 * random(*(shape or (8,)), seed=seed)
        target = torch.linspace(-0.5, 1.5, x.numel(), dtype=torch.float64).clamp(0, 1).reshape(x.shape)
        return (x.sigmoid() if case == "binary_cross_entropy" else x), target
    x = 2 * random(*(shape or (6, 4)), seed=seed)
    class_dim = 0 if x.dim() == 1 else 1
    target = random(*x.shape, seed=seed + 1).argmax(class_dim)
    return (x.log_softmax(class_dim) if "nll" in case else x), target


def call(case, input, target, **options):
    return function_of(case)(input, target, **(EVERY[case] | options))


def value_and_gradient(loss, input, *args, **options):
    input = input.clone().requires_grad_()
    value = loss(input, *args, **options)
    return value.detach(), grad(value.sum(), input)[0]


# Against mpmath


def assert_right(ours, truths, dtype, sizes=None):
    """Assert that the floats are as right as their dtype allows, relative to the truths or to the given sizes."""
    limits = torch.finfo(dtype)
    for value, truth, size in zip(ours, truths, sizes or truths, strict=True):
        if abs(truth) > limits.max:
            assert value == math.copysign(INF, truth)
        else:
            assert abs(mpf(value) - truth) <= TOLERANCE[dtype] * abs(size) + limits.tiny


def as_mpf(tensor):
    return [mpf(x) for x in tensor.tolist()]


def exact_view(z, y):
    """Return the lead's loss -log p, 1 - p, p, and what each logit's gradient is a multiple of: q, with -1 at y."""
    odds = [mpmath.exp(v - z[y]) for v in z]
    rivals = mpmath.fsum(v for j, v in enumerate(odds) if j != y)
    direction = [mpf(-1) if j == y else v / rivals for j, v in enumerate(odds)]
    return mpmath.log1p(rivals), rivals / (1 + rivals), 1 / (1 + rivals), direction


def exact_focal(z, y, gamma):
    log_loss, of_rivals, p, direction = exact_view(z, y)
    slope = of_rivals**gamma * (of_rivals + gamma * p * log_loss)
    return of_rivals**gamma * log_loss, [slope * q for q in direction]


def exact_generalized(z, y, q):
    log_loss, of_rivals, _, direction = exact_view(z, y)
    value = -mpmath.expm1(-q * log_loss) / q if q else log_loss
    return value, [mpmath.exp(-q * log_loss) * of_rivals * r for r in direction]


def exact_symmetric(z, y, alpha, beta, log_zero):
    log_loss, of_rivals, p, direction = exact_view(z, y)
    slope = of_rivals * (alpha - beta * log_zero * p)
    return alpha * log_loss - beta * log_zero * of_rivals, [slope * q for q in direction]


def exact_brier(z, target):
    odds = [mpmath.exp(v - max(z)) for v in z]
    p = [v / mpmath.fsum(odds) for v in odds]
    excess = [a - b for a, b in zip(p, target, strict=True)]
    pulls = [[a * b * (e - f) for b, f in zip(p, excess, strict=True)] for a, e in zip(p, excess, strict=True)]
    return (
        mpmath.fsum(e * e for e in excess),
        [2 * mpmath.fsum(row) for row in pulls],
        [2 * max(map(abs, row)) for row in pulls],
    )


def logits_to_judge(dtype):
    """Return rows of logits, tiny to huge, near and far from one another, exact and inexact in their differences."""
    rows = [[scale * v for v in (1.0, 0.25, -0.5)] for scale in (1e-30, 1e-4, 1, 15, 40, 85, 200, 1e4, 1e30)]
    rows += (random(40, 3, seed=5) * torch.logspace(-2, 2.5, 40).unsqueeze(1) + 20 * random(40, 1, seed=6)).tolist()
    rows += [[0.0, 1e4 + 0.3, 1e4], [-70.1, 0.3, 0.1], [25.3, -0.7, 25.1], [0.1, 0.1, 0.1]]
    rows += [[size, size, 0.0] for size in (5.0, 8.0, 12.0, 20.0, 34.0, 40.0)]  # two leaders that tie
    rows += [[20.0, 20 - 2**-10, 0.0], [12 - 2**-15, 12.0, 0.0]]  # or nearly
    return torch.tensor(rows, dtype=dtype)


EXTREMES = {
    "focal_loss": (exact_focal, [{"gamma": g} for g in (0.0, 1e-30, 0.1, 0.5, 1.0, 2.0, 10.0)]),
    "generalized_cross_entropy": (
        exact_generalized,
        [{"q": q} for q in (0.0, 5e-324, 1e-310, TINY, 1e-30, 1e-4, 0.3, 0.7, 1.0)],
    ),
    "symmetric_cross_entropy": (
        exact_symmetric,
        [{"alpha": a, "beta": b, "log_zero": z} for a, b, z in [(0.5, 1.0, -4.0), (0.0, 3.0, -0.5), (2.0, 0.0, -1e4)]],
    ),
}


@pytest.mark.parametrize(
    ("name", "exact", "options", "dtype"),
    [
        *(
            (name, exact, options, dtype)
            for name, (exact, cases) in EXTREMES.items()
            for options in cases
            for dtype in DTYPES
        ),
        # The power of a sum of exponentials has gamma times its rounding error.
        ("focal_loss", exact_focal, {"gamma": 16.0}, torch.float32),
        ("focal_loss", exact_focal, {"gamma": 100.0}, torch.float64),
    ],
)
def test_value_and_gradient_are_right_at_every_scale_and_at_the_limits_of_the_options(name, exact, options, dtype):
    rows = logits_to_judge(dtype)
    for y in range(3):
        target = torch.full((len(rows),), y)
        values, gradients = value_and_gradient(getattr(losses, name), rows, target, **options, reduction="none")
        with mpmath.workdps(50):
            for row, value, gradient in zip(rows, values, gradients, strict=True):
                truth, slopes = exact(as_mpf(row), y, **{k: mpf(v) for k, v in options.items()})
                assert_right([value.item(), *gradient.tolist()], [truth, *slopes], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "target", [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.5, 0.25, 0.25], [0.999, 0.001, 0.0]], ids=str
)
def test_brier_is_right_at_every_scale_for_classes_and_for_probabilities(target, dtype):
    rows = logits_to_judge(dtype)
    target = torch.tensor(target, dtype=dtype)
    values, gradients = value_and_gradient(losses.brier_loss, rows, target.expand_as(rows), reduction="none")
    with mpmath.workdps(350):  # 1 - p is taken as it stands
        for row, value, gradient in zip(rows, values, gradients, strict=True):
            truth, slopes, sizes = exact_brier(as_mpf(row), as_mpf(target))
            # A soft target may all but cancel a probability, and the terms of a gradient one another.
            hard = target.max() == 1
            assert_right([value.item()], [truth], dtype, None if hard else [truth + TOLERANCE[dtype]])
            assert_right(gradient.tolist(), slopes, dtype, sizes)


@pytest.mark.parametrize("dtype", DTYPES)
def test_brier_is_right_where_several_leaders_tie_and_the_truth_is_far_behind(dtype):
    value, gradient = value_and_gradient(
        losses.brier_loss, torch.tensor([[5.0, 5.0, 5.0, -10.0]], dtype=dtype), torch.tensor([3])
    )
    twin = reference.brier_loss_grad(np.array([[5.0, 5.0, 5.0, -10.0]]), np.array([3]))
    with mpmath.workdps(50):
        truth, slopes, _ = exact_brier([mpf(5), mpf(5), mpf(5), mpf(-10)], [0, 0, 0, 1])
        assert_right([value.item(), *gradient[0].tolist()], [truth, *slopes], dtype)
        assert_right(twin[0].tolist(), slopes, torch.float64)


@pytest.mark.parametrize("size", [8.0, 20.0, 34.0, 40.0])
@pytest.mark.parametrize("truth", range(3))
def test_the_numpy_twin_of_brier_is_right_where_two_leaders_tie(size, truth):
    gradient = reference.brier_loss_grad(np.array([[size, size, 0.0]]), np.array([truth]))
    with mpmath.workdps(50):
        _, slopes, sizes = exact_brier([mpf(size), mpf(size), mpf(0)], [int(j == truth) for j in range(3)])
        assert_right(gradient[0].tolist(), slopes, torch.float64, sizes)


@pytest.mark.parametrize("dtype", DTYPES)
def test_brier_of_a_sure_right_answer_keeps_its_gradient(dtype):
    value, gradient = value_and_gradient(
        losses.brier_loss, torch.tensor([[40.0, 0.0, 1.0]], dtype=dtype), torch.tensor([0])
    )
    with mpmath.workdps(50):
        truth, slopes, _ = exact_brier([mpf(40), mpf(0), mpf(1)], [1, 0, 0])
        assert_right([value.item(), *gradient[0].tolist()], [truth, *slopes], dtype)


SIZES = [0.0, 1e-30, 1e-4, 0.3, 1.0, 15.0, 17.3, 20.1, 39.9, 40.1, 63.7, 86.0, 100.0, 700.0, 1e4, 1e30]


def exact_binary(x, t, gamma, pos_weight):
    """Return the focal loss of a logit and the terms of its gradient; with gamma 0, the log loss."""
    yes, no = 1 / (1 + mpmath.exp(-x)), 1 / (1 + mpmath.exp(x))
    log_loss = (1 - t) * mpmath.log1p(mpmath.exp(x)) + pos_weight * t * mpmath.log1p(mpmath.exp(-x))
    distance = t * no + (1 - t) * yes
    scale = distance**gamma
    turn = gamma * log_loss * (1 - 2 * t) * yes * no / distance if distance else 0
    return scale * log_loss, [scale * (1 - t) * yes, -scale * pos_weight * t * no, scale * turn]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", [0.0, 1.0, 1e-6, 0.3, 0.5, 1 - 2**-20])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("binary_cross_entropy_with_logits", {}),
        ("binary_cross_entropy_with_logits", {"pos_weight": 0.01}),
        ("binary_cross_entropy_with_logits", {"pos_weight": 300.0}),
        *(("sigmoid_focal_loss", {"gamma": gamma, "alpha": None}) for gamma in (0.0, 1e-30, 0.1, 0.5, 1.0, 2.0, 5.0)),
    ],
)
def test_the_loss_of_a_logit_is_right_at_every_scale_and_for_soft_targets(name, options, target, dtype):
    logits = torch.tensor([s * size for size in SIZES for s in (-1, 1)], dtype=dtype)
    target = torch.full_like(logits, target)
    given = {k: torch.tensor(v, dtype=dtype) if k == "pos_weight" else v for k, v in options.items()}
    values, gradients = value_and_gradient(getattr(losses, name), logits, target, **given, reduction="none")
    gamma, weight = mpf(options.get("gamma", 0)), mpf(float(given.get("pos_weight", 1)))
    with mpmath.workdps(50):
        for x, value, gradient in zip(logits.tolist(), values.tolist(), gradients.tolist(), strict=True):
            truth, terms = exact_binary(mpf(x), mpf(target[0].item()), gamma, weight)
            assert_right([value], [truth], dtype)
            # With a hard target no terms cancel; with a soft one they do, next to the minimum.
            size = mpmath.fsum(terms) if target[0] in (0, 1) else max(map(abs, terms))
            assert_right([gradient], [mpmath.fsum(terms)], dtype, [size])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", [0.0, 1.0, 0.3])
def test_the_loss_of_a_probability_is_right_up_to_its_limits(target, dtype):
    near_one = 1 - torch.finfo(dtype).eps / 2
    p = torch.tensor([0.0, 1e-37, 1e-20, 2e-12, 1e-6, 0.1, 0.5, 0.7, 0.999, near_one, 1.0], dtype=dtype)
    target = torch.full_like(p, target)
    values, gradients = value_and_gradient(losses.binary_cross_entropy, p, target, reduction="none")
    with mpmath.workdps(50):
        t = mpf(target[0].item())
        for q, value, gradient in zip(as_mpf(p), values.tolist(), gradients.tolist(), strict=True):
            log_yes, log_no = mpmath.log(q) if q else -INF, mpmath.log1p(-q) if q < 1 else -INF
            assert_right([value], [-t * max(log_yes, -100) - (1 - t) * max(log_no, -100)], dtype)
            if q * (1 - q) > 1e-12:
                assert_right([gradient], [(1 - t) / (1 - q) - t / q], dtype, [max(t / q, (1 - t) / (1 - q))])


def test_a_certain_wrong_probability_costs_100_where_its_logit_still_says_by_how_much():
    for wrong in (torch.tensor([0.0]), torch.tensor([1e-44])):
        assert losses.binary_cross_entropy(wrong, torch.tensor([1.0])) == 100
    logit, yes = torch.tensor([-200.0]), torch.tensor([1.0])
    assert losses.binary_cross_entropy(logit.sigmoid(), yes) == 100
    value, gradient = value_and_gradient(losses.binary_cross_entropy_with_logits, logit, yes)
    assert value == 200
    assert gradient == -1
    through_sigmoid = value_and_gradient(lambda x: losses.binary_cross_entropy(x.sigmoid(), yes), logit)[1]
    assert through_sigmoid == 0


def test_the_logit_of_a_confident_right_answer_keeps_its_loss_and_gradient_where_torch_rounds_one_to_zero():
    for x, t in [(-30.0, 0.0), (30.0, 1.0)]:
        logit, target = torch.tensor([x]), torch.tensor([t])
        torchs = value_and_gradient(F.binary_cross_entropy_with_logits, logit, target)
        assert min(abs(v.item()) for v in torchs) == 0
        for ours in value_and_gradient(losses.binary_cross_entropy_with_logits, logit, target):
            assert abs(ours.item()) == pytest.approx(math.exp(-30), rel=2e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("size", [15.0, 18.0, 30.0])
def test_focal_of_a_saturated_answer_has_a_finite_gradient_that_is_right(gamma, size):
    multi = value_and_gradient(losses.focal_loss, torch.tensor([[size, 0.0]]), torch.tensor([0]), gamma=gamma)
    binary = value_and_gradient(
        losses.sigmoid_focal_loss, torch.tensor([size]), torch.tensor([1.0]), gamma=gamma, alpha=None
    )
    of_rivals = 1 / (1 + math.exp(size))
    slope = of_rivals**gamma * (of_rivals - gamma * (1 - of_rivals) * math.log1p(-of_rivals))
    for value, gradient in (multi, binary):
        assert value.item() == pytest.approx(-(of_rivals**gamma) * math.log1p(-of_rivals), rel=2e-6)
        assert gradient.flatten()[0].item() == pytest.approx(-slope, rel=2e-6)


# Derivatives and the NumPy twins


@every_loss
def test_gradient_is_the_derivative_of_the_value(case):
    input, target = example(case)
    input.requires_grad_()
    assert gradcheck(lambda x: call(case, x, target), input)
    assert gradgradcheck(lambda x: call(case, x, target), input)


@every_binary
def test_gradient_in_the_target_and_the_weights_is_the_derivative_too(case):
    input, _ = example(case)
    target = random(*input.shape, seed=3).sigmoid().requires_grad_()
    names = ["weight"] if case == "binary_cross_entropy" else ["weight", "pos_weight"] if "with_logits" in case else []
    weights = [random(seed=4).exp().requires_grad_() for _ in names]

    def loss(input, target, *weights):
        return call(case, input, target, **dict(zip(names, weights, strict=True)))

    assert gradcheck(loss, (input.requires_grad_(), target, *weights))
    assert gradgradcheck(loss, (input, target, *weights))


def test_the_lead_of_the_rivals_itself_has_two_derivatives():
    logits, target = example("focal_loss")
    logits.requires_grad_()
    assert gradcheck(losses._lead_of_rivals, (logits, target))
    assert gradgradcheck(losses._lead_of_rivals, (logits, target))


def test_brier_gradient_in_the_probabilities_is_the_derivative_too():
    arguments = (2 * random(5, 4)).requires_grad_(), random(5, 4, seed=1).softmax(1).requires_grad_()
    assert gradcheck(losses.brier_loss, arguments)
    assert gradgradcheck(losses.brier_loss, arguments)


def in_numpy(value):
    return value.numpy() if isinstance(value, torch.Tensor) else value


@every_loss
def test_the_numpy_twin_gives_the_same_value_and_gradient(case):
    input, target = example(case)
    options = {name: in_numpy(value) for name, value in EVERY[case].items()}
    value, gradient = value_and_gradient(lambda x: call(case, x, target, reduction="none"), input)
    twin, twin_grad = (getattr(reference, case.split(",")[0] + suffix) for suffix in ("", "_grad"))
    before = input.numpy().copy()
    np.testing.assert_allclose(twin(input.numpy(), target.numpy(), **options), value, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(twin_grad(input.numpy(), target.numpy(), **options), gradient, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(input.numpy(), before)


def test_the_numpy_twin_of_brier_takes_probabilities():
    logits, target = 2 * random(5, 4), random(5, 4, seed=1).softmax(1)
    value, gradient = value_and_gradient(losses.brier_loss, logits, target, reduction="none")
    np.testing.assert_allclose(reference.brier_loss(logits.numpy(), target.numpy()), value, rtol=1e-12)
    np.testing.assert_allclose(reference.brier_loss_grad(logits.numpy(), target.numpy()), gradient, rtol=1e-12)


@every_loss
def test_the_numpy_twin_neither_overflows_nor_rounds_a_small_gradient_to_zero(case):
    if case in BINARY:
        sizes = torch.tensor([1e-30, 1e-15, 0.5]) if case == "binary_cross_entropy" else torch.tensor([40.0, -40, 700])
        input, target = sizes.double(), torch.tensor([1.0, 0.0, 1.0]).double()
    else:
        input, target = (
            torch.tensor([[60.0, 0, 1, 2], [700, 0, 1, 2], [1e4, 0, 1, 2]]).double(),
            torch.tensor([0, 0, 3]),
        )
    options = {name: in_numpy(value) for name, value in EVERY[case].items()}
    value, gradient = value_and_gradient(lambda x: call(case, x, target, reduction="none"), input)
    twin, twin_grad = (getattr(reference, case.split(",")[0] + suffix) for suffix in ("", "_grad"))
    np.testing.assert_allclose(twin(input.numpy(), target.numpy(), **options), value, rtol=1e-12, atol=1e-307)
    np.testing.assert_allclose(twin_grad(input.numpy(), target.numpy(), **options), gradient, rtol=1e-12, atol=1e-307)


# Against torch and published formulas


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("targets", ["all", "some ignored", "all ignored"])
@pytest.mark.parametrize("shape", SHAPES)
def test_nll_equals_torch_for_every_kind_of_input(shape, targets, weighted, reduction):
    input, target = example("nll_loss", SHAPES[shape])
    ignored = (
        target == target.flatten()[0] if targets == "some ignored" else torch.full_like(target, targets != "all").bool()
    )
    options = {"weight": CLASS_WEIGHT if weighted else None, "reduction": reduction, "ignore_index": -7}
    target = target.masked_fill(ignored, -7)
    ours = value_and_gradient(losses.nll_loss, input, target, **options)
    torchs = value_and_gradient(F.nll_loss, input, target, **options)
    torch.testing.assert_close(ours, torchs, rtol=1e-12, atol=1e-14, equal_nan=True)


WEIGHTS = {
    "no weight": None,
    "a number": torch.tensor(2.0),
    "by class": torch.tensor([0.5, 2.0, 1.0]),
    "all": random(4, 3),
}


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weight", WEIGHTS.values(), ids=list(WEIGHTS))
@pytest.mark.parametrize("pos_weight", WEIGHTS.values(), ids=list(WEIGHTS))
def test_binary_cross_entropy_with_logits_equals_torch(weight, pos_weight, reduction):
    logits, target = example("binary_cross_entropy_with_logits", (4, 3))
    options = {"reduction": reduction, "weight": weight, "pos_weight": pos_weight}
    ours = value_and_gradient(losses.binary_cross_entropy_with_logits, logits, target, **options)
    torchs = value_and_gradient(F.binary_cross_entropy_with_logits, logits, target, **options)
    torch.testing.assert_close(ours, torchs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weight", WEIGHTS.values(), ids=list(WEIGHTS))
def test_binary_cross_entropy_equals_torch_at_its_limits_too(weight, reduction):
    p = torch.tensor([[0.0, 1.0, 0.5], [1e-50, 1e-20, 1e-13], [1 - 1e-14, 0.9, 1e-5], [0.0, 1.0, 0.3]]).double()
    target = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 1.0], [0.0, 0.2, 1.0], [1.0, 1.0, 0.7]]).double()
    weight = None if weight is None else weight.double()
    ours = value_and_gradient(losses.binary_cross_entropy, p, target, weight=weight, reduction=reduction)
    torchs = value_and_gradient(F.binary_cross_entropy, p, target, weight=weight, reduction=reduction)
    torch.testing.assert_close(ours, torchs, rtol=1e-8, atol=1e-14)  # torch's 1e-12 has float32's digits


def test_targets_of_logits_outside_0_and_1_are_taken_as_they_are_as_in_torch():
    x, target = random(4), torch.tensor([-1.0, 2.0, 1.5, -0.25]).double()
    ours = value_and_gradient(losses.binary_cross_entropy_with_logits, x, target)
    torch.testing.assert_close(ours, value_and_gradient(F.binary_cross_entropy_with_logits, x, target))


@pytest.mark.parametrize("target_dtype", [torch.float32, torch.float64, torch.int64, torch.uint8, torch.bfloat16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_input_and_target_promote_to_one_dtype(dtype, target_dtype):
    x, target = torch.tensor([0.75, 0.25]).to(dtype), torch.tensor([1, 0]).to(target_dtype)
    common = torch.promote_types(dtype, target_dtype)
    for case in BINARY:
        ours = call(case, x, target, reduction="none")
        assert ours.dtype == common
        assert ours.equal(call(case, x.to(common), target.to(common), reduction="none"))


def published_sigmoid_focal_loss(x, target, alpha, gamma):
    """The formula of torchvision.ops.sigmoid_focal_loss."""
    p = torch.sigmoid(x)
    log_loss = F.binary_cross_entropy_with_logits(x, target, reduction="none")
    p_t = p * target + (1 - p) * (1 - target)
    loss = log_loss * (1 - p_t) ** gamma
    return loss if alpha < 0 else (alpha * target + (1 - alpha) * (1 - target)) * loss


@pytest.mark.parametrize("alpha", [-1, 0.0, 0.25, 1.0])
@pytest.mark.parametrize("gamma", [0, 1.5, 2.0])
def test_sigmoid_focal_is_the_published_formula_for_hard_and_for_soft_targets(gamma, alpha):
    x, target = 2 * random(50), random(50, seed=1).sigmoid()
    target[:20] = (target[:20] > 0.5).double()
    ours = value_and_gradient(losses.sigmoid_focal_loss, x, target, gamma=gamma, alpha=alpha, reduction="none")
    published = value_and_gradient(published_sigmoid_focal_loss, x, target, alpha=alpha, gamma=gamma)
    torch.testing.assert_close(ours, published, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_is_the_published_formula_for_every_shape(gamma):
    for shape in SHAPES.values():
        logits, target = example("focal_loss", shape)
        class_dim = 0 if logits.dim() == 1 else 1
        ours = losses.focal_loss(logits, target, gamma=gamma, alpha=CLASS_WEIGHT, reduction="none")
        log_p = logits.log_softmax(class_dim).gather(class_dim, target.unsqueeze(class_dim)).squeeze(class_dim)
        torch.testing.assert_close(ours, -CLASS_WEIGHT[target] * (1 - log_p.exp()) ** gamma * log_p)
        assert ours.shape == target.shape


def test_symmetric_cross_entropy_is_cross_entropy_and_the_same_with_the_arguments_exchanged():
    logits, target = example("symmetric_cross_entropy")
    p, one_hot = logits.softmax(1), F.one_hot(target, 4).double()
    reverse = -(p * torch.where(one_hot == 1, 0.0, -3.0)).sum(1)
    ours = losses.symmetric_cross_entropy(logits, target, alpha=0.7, beta=0.3, log_zero=-3.0, reduction="none")
    torch.testing.assert_close(ours, 0.7 * F.cross_entropy(logits, target, reduction="none") + 0.3 * reverse)


def test_brier_is_the_squared_distance_for_every_shape_and_kind_of_target():
    for shape in SHAPES.values():
        logits, target = example("brier_loss", shape)
        class_dim = 0 if logits.dim() == 1 else 1
        soft = random(*shape, seed=9).softmax(class_dim)
        one_hot = torch.zeros_like(logits).scatter(class_dim, target.unsqueeze(class_dim), 1.0)
        for labels, distribution in ((target, one_hot), (soft, soft)):
            expected = (logits.softmax(class_dim) - distribution).square().sum(class_dim)
            ours = losses.brier_loss(logits, labels, reduction="none")
            torch.testing.assert_close(ours, expected)
            torch.testing.assert_close(losses.brier_loss(logits, labels), expected.mean())


# What theory says


@every_loss
def test_leaving_an_option_out_means_its_default(case):
    defaults = {
        "binary_cross_entropy": {"weight": None},
        "binary_cross_entropy_with_logits": {"weight": None, "pos_weight": None},
        "nll_loss": {"weight": None, "ignore_index": -100},
        "focal_loss": {"gamma": 2.0, "alpha": None, "ignore_index": -100},
        "sigmoid_focal_loss": {"gamma": 2.0, "alpha": 0.25},
        "generalized_cross_entropy": {"q": 0.7, "ignore_index": -100},
        "symmetric_cross_entropy": {"alpha": 0.1, "beta": 1.0, "log_zero": -4.0, "ignore_index": -100},
        "brier_loss": {"ignore_index": -100},
    }[case.split(",")[0]]
    input, target = example(case)
    if "ignore_index" in defaults:
        target[0] = -100
    explicit = function_of(case)(input, target, **defaults, reduction="mean")
    assert function_of(case)(input, target) == explicit
    if "ignore_index" not in defaults:
        options = {k: in_numpy(v) for k, v in defaults.items() if v is not None}
        twin = getattr(reference, case.split(",")[0])
        np.testing.assert_array_equal(
            twin(input.numpy(), target.numpy()), twin(input.numpy(), target.numpy(), **options)
        )
    else:
        options = {k: v for k, v in defaults.items() if v is not None and k != "ignore_index"}
        for twin in (getattr(reference, case.split(",")[0] + suffix) for suffix in ("", "_grad")):
            arguments = input[1:].numpy(), target[1:].numpy()
            np.testing.assert_array_equal(twin(*arguments), twin(*arguments, **options))


@given(seed=st.integers(0, 2**31), gamma=st.floats(0, 5))
@settings(deadline=None, max_examples=30)
def test_the_losses_are_special_cases_of_one_another(seed, gamma):
    logits, target = example("focal_loss", seed=seed)
    log_loss = F.cross_entropy(logits, target, reduction="none")
    p = (-log_loss).exp()
    for name, options, expected in [
        ("focal_loss", {"gamma": 0}, log_loss),
        ("generalized_cross_entropy", {"q": 0}, log_loss),
        ("generalized_cross_entropy", {"q": 1e-13}, log_loss),
        ("generalized_cross_entropy", {"q": 1}, 1 - p),
        ("generalized_cross_entropy", {"q": 0.5}, 2 * (1 - p.sqrt())),
        ("symmetric_cross_entropy", {"alpha": 1, "beta": 0}, log_loss),
        ("symmetric_cross_entropy", {"alpha": 0}, 4 * (1 - p)),
    ]:
        torch.testing.assert_close(getattr(losses, name)(logits, target, **options, reduction="none"), expected)
    torch.testing.assert_close(losses.nll_loss(logits.log_softmax(1), target, reduction="none"), log_loss)
    two = logits[:, :2]
    lead, label = two[:, 1] - two[:, 0], (target > 1).double()
    torch.testing.assert_close(
        losses.sigmoid_focal_loss(lead, label, gamma=gamma, alpha=None),
        losses.focal_loss(two, label.long(), gamma=gamma),
    )
    torch.testing.assert_close(losses.brier_loss(two, label.long()), 2 * (lead.sigmoid() - label).square().mean())
    torch.testing.assert_close(
        losses.sigmoid_focal_loss(lead, label, gamma=0, alpha=0.5),
        losses.binary_cross_entropy_with_logits(lead, label) / 2,
    )
    torch.testing.assert_close(
        losses.binary_cross_entropy(lead.sigmoid(), label), losses.binary_cross_entropy_with_logits(lead, label)
    )


@given(seed=st.integers(0, 2**31), shift=st.floats(-50, 50), order=st.permutations(range(4)))
@settings(deadline=None, max_examples=30)
def test_neither_a_common_shift_nor_new_names_for_the_classes_nor_the_order_of_rows_matter(seed, shift, order):
    order = torch.tensor(order)
    for case in MULTI_CLASS:
        logits, target = example(case, seed=seed)
        loss = call(case, logits, target)
        torch.testing.assert_close(call(case, logits + shift, target), loss)
        torch.testing.assert_close(call(case, logits.flip(0), target.flip(0)), loss)
        if "alpha" not in MULTI_CLASS[case] or "symmetric" in case:
            torch.testing.assert_close(call(case, logits[:, order], order.argsort()[target]), loss)


@pytest.mark.parametrize("case", [case for case in BINARY if "pos_weight" not in case])
def test_exchanging_yes_and_no_changes_nothing(case):
    input, target = example(case)
    options = {"alpha": 0.75} if "alpha" not in BINARY[case] and "focal" in case else {}
    flipped = 1 - input if case == "binary_cross_entropy" else -input
    torch.testing.assert_close(call(case, flipped, 1 - target, **options), call(case, input, target))


def test_a_pos_weight_of_three_counts_a_yes_three_times():
    logits, yes, no = random(5), torch.ones(5).double(), torch.zeros(5).double()
    loss = losses.binary_cross_entropy_with_logits
    for target, times in ((yes, 3), (no, 1)):
        weighted = loss(logits, target, pos_weight=torch.tensor(3.0))
        torch.testing.assert_close(weighted, times * loss(logits, target))


@pytest.mark.parametrize("target", [0.6, 0.8, 0.95])
def test_cross_entropy_and_brier_are_least_at_the_target_where_focal_goes_beyond_it(target):
    logit = torch.linspace(-8, 8, 160001, dtype=torch.float64)
    p, soft = logit.sigmoid(), torch.full_like(logit, target)
    best = {
        "bce": p[losses.binary_cross_entropy_with_logits(logit, soft, reduction="none").argmin()],
        "brier": p[
            losses.brier_loss(
                torch.stack([logit, 0 * logit], 1), torch.stack([soft, 1 - soft], 1), reduction="none"
            ).argmin()
        ],
        "focal": p[losses.sigmoid_focal_loss(logit, soft, alpha=None, reduction="none").argmin()],
    }
    assert best["bce"].item() == pytest.approx(target, abs=1e-4)
    assert best["brier"].item() == pytest.approx(target, abs=1e-4)
    assert best["focal"] > target + (1 - target) / 4
    if target == 0.8:
        assert best["focal"].item() == pytest.approx(0.95, abs=5e-3)  # as the docstring says


@given(seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=30)
def test_the_bounded_losses_keep_their_bounds_and_focal_stays_below_cross_entropy(seed):
    logits, target = example("focal_loss", seed=seed)
    logits = 20 * logits
    log_loss = losses.cross_entropy(logits, target, reduction="none")
    assert (losses.focal_loss(logits, target, reduction="none") <= log_loss).all()
    assert (losses.generalized_cross_entropy(logits, target, q=0.7, reduction="none") <= 1 / 0.7 + 1e-12).all()
    assert (losses.brier_loss(logits, target, reduction="none") <= 2 + 1e-12).all()
    assert (losses.generalized_cross_entropy(logits, target, q=0.3, reduction="none") <= log_loss * (1 + 1e-12)).all()


# Rows that are ignored


@given(
    seed=st.integers(0, 2**31),
    ignored=st.lists(st.booleans(), min_size=6, max_size=6).filter(lambda rows: not all(rows)),
    ignore_index=st.sampled_from([-100, -1, 2, 255]),
)
@settings(deadline=None, max_examples=30)
def test_ignored_rows_count_no_more_than_removed_rows(seed, ignored, ignore_index):
    ignored = torch.tensor(ignored)
    for case in ROWS:
        input, target = example(case, seed=seed)
        target[target == ignore_index] = 1
        kept = {r: call(case, input[~ignored], target[~ignored], reduction=r) for r in REDUCTIONS}
        input[ignored] = INF  # even the worst input of an ignored row must not matter
        target = target.masked_fill(ignored, ignore_index)
        for reduction in ("mean", "sum"):
            options = ROWS[case] | {"ignore_index": ignore_index, "reduction": reduction}
            value, gradient = value_and_gradient(function_of(case), input, target, **options)
            torch.testing.assert_close(value, kept[reduction])
            assert gradient[ignored].eq(0).all()
            assert gradient.isfinite().all()
        rows = call(case, input, target, ignore_index=ignore_index, reduction="none")
        torch.testing.assert_close(rows[~ignored], kept["none"])
        assert rows[ignored].eq(0).all()


@every_row_loss
@pytest.mark.parametrize("target", [[-100, -100], []], ids=["ignored", "empty"])
def test_the_mean_of_no_rows_is_nan_with_zero_gradient_and_their_sum_zero(case, target):
    target = torch.tensor(target, dtype=torch.long)
    value, gradient = value_and_gradient(lambda x: call(case, x, target), torch.ones(len(target), 4))
    assert value.isnan()
    assert gradient.eq(0).all()
    assert call(case, torch.ones(len(target), 4), target, reduction="sum") == 0


@every_multi_class
@pytest.mark.parametrize("shape", ["(N, C, d)", "(N, C, d, e)"])
def test_each_position_is_a_row(case, shape):
    logits, target = example(case, SHAPES[shape])
    target[0, 0] = -100
    rows, flat = logits.movedim(1, -1).reshape(-1, 4), target.reshape(-1)
    ours = value_and_gradient(lambda x: call(case, x, target), logits)
    value, gradient = value_and_gradient(lambda x: call(case, x, flat), rows)
    torch.testing.assert_close(ours[0], value)
    torch.testing.assert_close(ours[1].movedim(1, -1).reshape(-1, 4), gradient)
    assert call(case, logits, target, reduction="none").shape == target.shape


# Infinite logits


@every_multi_class
def test_a_class_that_is_ruled_out_is_as_good_as_absent(case):
    options = {"alpha": CLASS_WEIGHT[:3].float()} if case == "focal_loss, gamma 0.5" else {}
    logits, target = torch.tensor([[1.0, -INF, 0.5]]), torch.tensor([0])
    value, gradient = value_and_gradient(lambda x: call(case, x, target, **options), logits)
    options = {"alpha": CLASS_WEIGHT[:2].float()} if options else {}
    of_two = value_and_gradient(lambda x: call(case, x, target, **options), logits[:, [0, 2]])
    torch.testing.assert_close((value, gradient[:, [0, 2]]), of_two)
    assert gradient[0, 1] == 0


LIMITS = {
    "focal_loss": INF,
    "focal_loss, gamma 0": INF,
    "focal_loss, gamma 0.5": INF,
    "generalized_cross_entropy": 1 / 0.7,
    "generalized_cross_entropy, q 0": INF,
    "generalized_cross_entropy, q 1": 1.0,
    "symmetric_cross_entropy": INF,
    "symmetric_cross_entropy, reverse alone": 2.0,
    "brier_loss": 2.0,
}


@every_multi_class
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_true_class_that_is_ruled_out_costs_the_limit_and_one_that_is_certain_nothing_without_nan(case, dtype):
    logits = torch.tensor([[-INF, 1.0, -INF, -INF], [3.0, -INF, -INF, -INF]], dtype=dtype)
    options = {"alpha": CLASS_WEIGHT.to(dtype).fill_(1)} if case == "focal_loss, gamma 0.5" else {}
    value, gradient = value_and_gradient(
        lambda x: call(case, x, torch.tensor([0, 0]), reduction="none", **options), logits
    )
    assert value.tolist() == pytest.approx([LIMITS[case], 0])
    assert gradient.isfinite().all()
    assert gradient[1].eq(0).all()


@every_multi_class
def test_the_only_class_there_is_costs_nothing(case):
    options = {"alpha": torch.ones(1)} if case == "focal_loss, gamma 0.5" else {}
    value, gradient = value_and_gradient(
        lambda x: call(case, x, torch.tensor([0, 0]), **options), torch.tensor([[3.0], [-1e30]])
    )
    assert value == 0
    assert gradient.eq(0).all()
    twin, twin_grad = (getattr(reference, case.split(",")[0] + suffix) for suffix in ("", "_grad"))
    options = {name: in_numpy(value) for name, value in (EVERY[case] | options).items()}
    for function in (twin, twin_grad):
        assert not function(np.array([[3.0], [-1e30]]), np.array([0, 0]), **options).any()


@pytest.mark.parametrize("q", [5e-324, 1e-310, TINY, 1e-100])
def test_the_numpy_twin_of_generalized_cross_entropy_tends_to_cross_entropy(q):
    logits, target = (tensor.numpy() for tensor in example("generalized_cross_entropy"))
    for twin in (reference.generalized_cross_entropy, reference.generalized_cross_entropy_grad):
        np.testing.assert_allclose(twin(logits, target, q=q), twin(logits, target, q=0), rtol=1e-15)


@every_multi_class
def test_the_numpy_twin_equals_the_loss_where_classes_are_ruled_out(case):
    logits = torch.tensor([[-INF, 1, -INF, 0], [3, -INF, -INF, -INF], [0.5, 1, -INF, 0], [-INF] * 4]).double()
    target = torch.tensor([0, 0, 1, 1])
    options = {name: in_numpy(value) for name, value in EVERY[case].items()}
    value, gradient = value_and_gradient(lambda x: call(case, x, target, reduction="none"), logits)
    twin, twin_grad = (getattr(reference, case.split(",")[0] + suffix) for suffix in ("", "_grad"))
    np.testing.assert_allclose(twin(logits.numpy(), target.numpy(), **options), value, rtol=1e-12)
    np.testing.assert_allclose(twin_grad(logits.numpy(), target.numpy(), **options), gradient, rtol=1e-12)


@every_multi_class
def test_where_every_class_is_ruled_out_each_has_probability_0_and_no_gradient_is_nan(case):
    limit = 1.0 if case == "brier_loss" else LIMITS[case]  # no rival takes the other 1 of 2
    logits = torch.full((3, 4), -INF).double()
    value, gradient = value_and_gradient(lambda x: call(case, x, torch.tensor([0, 1, 3])), logits)
    if case != "focal_loss, gamma 0.5":  # whose classes weigh differently
        assert value == pytest.approx(limit)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pos_weight", [None, 3.0])
def test_an_infinite_logit_costs_nothing_where_it_is_right_and_infinity_elsewhere(pos_weight, dtype):
    logits = torch.tensor([INF, -INF, INF, -INF, INF, -INF, 2.0], dtype=dtype)
    target = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.3, 0.3, 0.0], dtype=dtype)
    weight = 1.0 if pos_weight is None else pos_weight
    options = {} if pos_weight is None else {"pos_weight": torch.tensor(pos_weight)}
    loss = losses.binary_cross_entropy_with_logits
    value, gradient = value_and_gradient(loss, logits, target, **options, reduction="none")
    assert value[:6].tolist() == [0, 0, INF, INF, INF, INF]
    assert value[6] == loss(logits[6:], target[6:], **options)
    torch.testing.assert_close(gradient[:6], torch.tensor([0, 0, 1, -weight, 0.7, -0.3 * weight], dtype=dtype))


def test_the_gradient_in_the_pos_weight_has_no_part_of_an_impossible_no():
    pos_weight = torch.ones(2).requires_grad_()
    logits, target = torch.tensor([-INF, 1.0]), torch.tensor([0.0, 1.0])
    loss = losses.binary_cross_entropy_with_logits(logits, target, pos_weight=pos_weight, reduction="sum")
    assert grad(loss, pos_weight)[0].tolist() == pytest.approx([0, math.log1p(math.exp(-1))])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("create_graph", [False, True])
def test_focal_of_an_infinite_logit_is_nothing_where_it_is_right_and_infinite_elsewhere(create_graph, gamma, dtype):
    logits = torch.tensor([INF, -INF, INF, -INF, torch.finfo(dtype).max], dtype=dtype, requires_grad=True)
    target = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0], dtype=dtype)
    value = losses.sigmoid_focal_loss(logits, target, gamma=gamma, alpha=0.25, reduction="none")
    assert value[:4].tolist() == [0, 0, INF, INF]
    (gradient,) = grad(value.sum(), logits, create_graph=create_graph)
    assert gradient.tolist() == [0, 0, 0.75, -0.25, 0.75]


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("alpha", [0, 1, 0.0, 1.0])
def test_what_alpha_gives_no_weight_costs_nothing_even_at_an_infinite_logit(alpha, gamma):
    logits = torch.tensor([INF, -INF, INF, -INF], requires_grad=True)
    target = torch.tensor([1.0, 0.0, 0.0, 1.0])
    value = losses.sigmoid_focal_loss(logits, target, gamma=gamma, alpha=alpha, reduction="none")
    assert value.tolist() == ([0, 0, 0, INF] if alpha else [0, 0, INF, 0])
    assert grad(value.sum(), logits)[0].tolist() == ([0, 0, 0, -1] if alpha else [0, 0, 1, 0])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("binary_cross_entropy_with_logits", {}),
        ("binary_cross_entropy_with_logits", {"pos_weight": 0.0}),
        ("binary_cross_entropy_with_logits", {"pos_weight": 3.0}),
        *(("sigmoid_focal_loss", {"gamma": g, "alpha": a}) for g in (0, 0.5, 2) for a in (None, 0, 0.25, 1)),
    ],
)
def test_the_numpy_twins_agree_at_infinite_logits(name, options):
    logits = torch.tensor([INF, -INF, INF, -INF, 2.0], dtype=torch.float64)
    target = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    tensors = options | {key: torch.tensor(options[key]) for key in options if key == "pos_weight"}
    value, gradient = value_and_gradient(getattr(losses, name), logits, target, **tensors, reduction="none")
    arrays = logits.numpy(), target.numpy()
    np.testing.assert_allclose(getattr(reference, name)(*arrays, **options), value, rtol=1e-12)
    np.testing.assert_allclose(getattr(reference, f"{name}_grad")(*arrays, **options), gradient, rtol=1e-12)


def test_of_the_losses_of_rows_nothing_of_the_size_of_the_logits_is_kept_for_the_backward_pass():
    logits, kept = random(8, 50).requires_grad_(), []

    def keep(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        losses.focal_loss(logits, torch.arange(8))
    assert [x.data_ptr() for x in kept if x.numel() >= logits.numel()] == [logits.data_ptr()]


# class_balanced_weights


@given(counts=st.lists(st.integers(1, 10**9), min_size=1, max_size=6), beta=st.floats(0, 1))
@settings(deadline=None)
def test_class_balanced_weights_are_right_and_sum_to_the_number_of_classes(counts, beta):
    weights = losses.class_balanced_weights(torch.tensor(counts, dtype=torch.float64), beta=beta)
    with mpmath.workdps(50):
        effective = [mpf(n) if beta == 1 else (1 - mpf(beta) ** n) / (1 - mpf(beta)) for n in counts]
        total = mpmath.fsum(1 / e for e in effective)
        assert_right(weights.tolist(), [len(counts) / e / total for e in effective], torch.float64)


@pytest.mark.parametrize("beta", [1.0, 1 - 2**-53, 1 - 1e-12])
def test_class_balanced_weights_tend_to_the_inverse_frequency(beta):
    counts = torch.tensor([1, 10, 1000])
    weights = losses.class_balanced_weights(counts, beta=beta)
    torch.testing.assert_close(weights, (1 / counts) * 3 / (1 / counts).sum())


def test_class_balanced_weights_without_memory_are_all_one_and_rare_classes_weigh_more_otherwise():
    counts = torch.tensor([3, 300, 30])
    assert losses.class_balanced_weights(counts, beta=0).tolist() == [1, 1, 1]
    assert losses.class_balanced_weights(counts).argsort().tolist() == [1, 2, 0]
    assert losses.class_balanced_weights(counts).equal(losses.class_balanced_weights(counts, beta=0.999))
    tiny = losses.class_balanced_weights(torch.tensor([1e-300, 1e300], dtype=torch.float64))
    assert tiny.tolist() == pytest.approx([2, 0], abs=1e-300)


def test_class_balanced_weights_have_the_dtype_of_the_counts_or_torchs_default():
    for dtype, expected in [(torch.int64, torch.float32), (torch.uint8, torch.float32), (torch.float16, torch.float16)]:
        counts = torch.tensor([1, 200], dtype=dtype)
        weights = losses.class_balanced_weights(counts)
        assert weights.dtype == expected
        exact = losses.class_balanced_weights(torch.tensor([1.0, 200.0], dtype=torch.float64))
        torch.testing.assert_close(weights, exact.to(expected), rtol=0, atol=0)


# Shapes, dtypes and transformations


@every_loss
def test_a_batch_of_one_costs_what_its_sample_costs_and_the_mean_is_that_of_the_rows(case):
    input, target = example(case)
    rows = call(case, input, target, reduction="none")
    alone = [call(case, x, t, reduction="sum") for x, t in zip(input.split(1), target.split(1), strict=True)]
    torch.testing.assert_close(torch.stack(alone), rows)
    torch.testing.assert_close(call(case, input, target, reduction="sum"), rows.sum())
    if "weight" not in ROWS.get(case, {}):
        torch.testing.assert_close(call(case, input, target), rows.mean())


@every_binary
def test_the_mean_of_no_elements_is_nan_and_their_sum_zero(case):
    empty = torch.empty(0)
    assert call(case, empty, empty).isnan()
    assert call(case, empty, empty, reduction="sum") == 0
    assert value_and_gradient(lambda x: call(case, x, empty), empty)[1].shape == (0,)


@every_loss
def test_strided_input_costs_what_its_contiguous_copy_costs(case):
    input, target = example(case, (4, 6) if case in BINARY else (4, 4, 6))
    strided = input.repeat_interleave(2, -1)[..., ::2]
    assert not strided.is_contiguous()
    ours = value_and_gradient(lambda x: call(case, x, target), strided)
    torch.testing.assert_close(ours, value_and_gradient(lambda x: call(case, x, target), input))
    transposed = input.transpose(0, -1).contiguous().transpose(0, -1)
    torch.testing.assert_close(call(case, transposed, target), call(case, input, target))


def half_example(case, dtype):
    input, target = example(case, (40,) if case in BINARY else (40, 4))
    return input.to(dtype), target.to(dtype) if case in BINARY else target


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@every_loss
def test_half_precision_is_computed_in_float32_and_rounded_once(case, dtype):
    input, target = half_example(case, dtype)
    full = target.float() if case in BINARY else target
    options = {k: v.to(dtype) if isinstance(v, torch.Tensor) else v for k, v in EVERY[case].items()}
    for reduction in REDUCTIONS:
        ours = function_of(case)(input, target, **options, reduction=reduction)
        exact = function_of(case)(input.float(), full, **options, reduction=reduction)
        assert exact.dtype == torch.float32
        assert ours.dtype == dtype
        torch.testing.assert_close(ours, exact.to(dtype), rtol=0, atol=0)


@every_loss
def test_under_autocast_a_half_precision_loss_stays_in_float32(case):
    input, target = half_example(case, torch.bfloat16)
    full = target.float() if case in BINARY else target
    options = {k: v.bfloat16() if isinstance(v, torch.Tensor) else v for k, v in EVERY[case].items()}
    exact = function_of(case)(input.float(), full, **options)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = function_of(case)(input, target, **options)
    assert ours.dtype == torch.float32
    assert ours == exact


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int32])
@every_row_loss
def test_class_indices_may_have_any_integer_dtype(case, dtype):
    input, target = example(case)
    assert call(case, input, target.to(dtype)) == call(case, input, target)


def test_class_probabilities_of_another_dtype_promote_the_brier_score():
    logits, target = random(3, 4).float(), random(3, 4, seed=1).softmax(1)
    ours = losses.brier_loss(logits, target)
    assert ours.dtype == torch.float64
    assert ours == losses.brier_loss(logits.double(), target)


@every_loss
def test_the_loss_can_be_mapped_over_samples(case):
    input, target = example(case)
    one_by_one = torch.func.vmap(torch.func.grad(lambda x, t: call(case, x, t, reduction="sum")))(input, target)
    together = value_and_gradient(lambda x: call(case, x, target, reduction="sum"), input)[1]
    torch.testing.assert_close(one_by_one, together)


@pytest.mark.parametrize("case", [case for case in EVERY if "," not in case])
def test_the_loss_compiles_to_one_graph(case):
    torch.compiler.reset()
    input, target = example(case)
    if case in ROWS:
        target[0] = -100

    def loss(x):
        return call(case, x, target)

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(value_and_gradient(compiled, input), value_and_gradient(loss, input))


# Refusals

X, T = torch.zeros(2), torch.tensor([1.0, 0.0])
Z, Y = torch.zeros(2, 3), torch.tensor([0, 2])
BAD_BINARY = [
    (([0.0], T), {}, TypeError, "input must be a torch.Tensor, got list"),
    ((T.long(), T), {}, TypeError, "input must be a floating-point tensor, got torch.int64"),
    ((X, [1.0]), {}, TypeError, "target must be a torch.Tensor, got list"),
    ((X, T > 0), {}, TypeError, "target must hold real numbers, got torch.bool"),
    ((X[:, None], T), {}, ValueError, r"same shape, got \(2, 1\) and \(2,\)"),
    ((X, T), {"reduction": "average"}, ValueError, "'sum', got 'average'"),
]
BAD_ROWS = [
    (([0.0], Y), {}, TypeError, "input must be a torch.Tensor, got list"),
    ((Z.long(), Y), {}, TypeError, "input must be a floating-point tensor, got torch.int64"),
    ((Z, [0, 2]), {}, TypeError, "target must be a torch.Tensor, got list"),
    ((Z, Y > 0), {}, TypeError, r"integers\), got torch.bool"),
    ((torch.tensor(1.0), torch.tensor(0)), {}, ValueError, "must have a class dimension"),
    ((torch.zeros(2, 0), Y), {}, ValueError, r"at least one class, got shape \(2, 0\)"),
    ((torch.zeros(0, 0), Y[:0]), {}, ValueError, r"at least one class, got shape \(0, 0\)"),
    ((Z, Y[:, None]), {}, ValueError, r"must have shape \(2,\), got \(2, 1\)"),
    ((Z, torch.tensor([0, 3])), {}, ValueError, r"in \[0, 3\) or ignore_index \(-100\), got 3"),
    ((Z, torch.tensor([0, -1])), {"ignore_index": 7}, ValueError, r"ignore_index \(7\), got -1"),
    ((Z, Y), {"reduction": "average"}, ValueError, "'sum', got 'average'"),
]
NO_INDEX = {1.5: "float", True: "bool", 0.0: "float", None: "NoneType", "a": "str"}
BAD_ROWS += [
    ((Z, Y), {"ignore_index": value}, TypeError, f"ignore_index must be an integer, got {kind}$")
    for value, kind in NO_INDEX.items()
]
ROW_LOSSES = ["nll_loss", "focal_loss", "generalized_cross_entropy", "symmetric_cross_entropy"]


def option(name, value, error, message):
    return {name: value}, error, f"{name} must be {message}"


REFUSALS = [
    *((name, *case) for name, case in itertools.product([*list(BINARY)[:2], "sigmoid_focal_loss"], BAD_BINARY)),
    *((name, *case) for name, case in itertools.product([*ROW_LOSSES, "brier_loss"], BAD_ROWS)),
    *((name, (Z, Y.float()), {}, TypeError, r"class indices \(integers\), got torch.float32") for name in ROW_LOSSES),
    *(
        (name, (X, T), {which: weight}, error, message)
        for name, which in [
            ("binary_cross_entropy", "weight"),
            ("binary_cross_entropy_with_logits", "weight"),
            ("binary_cross_entropy_with_logits", "pos_weight"),
        ]
        for weight, error, message in [
            (2.0, TypeError, f"^{which} must be a torch.Tensor, got float"),
            (torch.ones(3), ValueError, rf"^{which} must .* broadcasts to that of input, \(2,\), got \(3,\)"),
            (torch.ones(4, 2), ValueError, rf"^{which} must .* broadcasts to that of input, \(2,\), got \(4, 2\)"),
        ]
    ),
    *(
        (name, (Z, Y), {which: weight}, error, message)
        for name, which in [("nll_loss", "weight"), ("focal_loss", "alpha")]
        for weight, error, message in [
            (0.25, TypeError, f"^{which} must be a torch.Tensor, got float"),
            (torch.ones(3).long(), TypeError, f"^{which} must be a floating-point tensor, got torch.int64"),
            (torch.ones(2), ValueError, rf"^{which} must have one factor for each of the 3 classes, got \(2,\)"),
        ]
    ),
    *(
        (
            "binary_cross_entropy",
            (torch.tensor([0.5, bad]), T),
            {},
            ValueError,
            rf"^input must .* in \[0, 1\], got {bad}.*; .*with_logits",
        )
        for bad in (-0.5, 1.5, math.nan)
    ),
    *(
        (name, (X, torch.tensor([0.5, bad])), {}, ValueError, rf"^target must .* in \[0, 1\], got {bad}")
        for bad in (-1.0, 1.5, math.nan)
        for name in ("binary_cross_entropy", "sigmoid_focal_loss")
    ),
    *(
        ("brier_loss", (Z, torch.full_like(Z, bad)), {}, ValueError, rf"^target must .* in \[0, 1\], got {bad}")
        for bad in (-0.5, 1.5, math.nan)
    ),
    ("brier_loss", (Z, Z[:, :1]), {}, ValueError, r"shape of input, \(2, 3\), got \(2, 1\)"),
    ("brier_loss", (Z[:, :0], Z[:, :0]), {}, ValueError, r"at least one class, got shape \(2, 0\)"),
    ("brier_loss", (Z, Z), {"ignore_index": 1}, ValueError, "target holds probabilities; got 1"),
    *(
        (name, arguments, *option(which, value, error, message))
        for name, arguments, which, message, values in [
            ("focal_loss", (Z, Y), "gamma", "0 or above and finite, got", (-0.5, INF, math.nan)),
            ("sigmoid_focal_loss", (X, T), "gamma", "0 or above and finite, got", (-0.5, INF, math.nan)),
            ("sigmoid_focal_loss", (X, T), "alpha", r"in \[0, 1\], or None or -1, got", (-0.5, 1.5, math.nan)),
            ("generalized_cross_entropy", (Z, Y), "q", r"in \[0, 1\], got", (-0.5, 1.5, math.nan)),
            ("symmetric_cross_entropy", (Z, Y), "alpha", "0 or above and finite, got", (-0.5, INF)),
            ("symmetric_cross_entropy", (Z, Y), "beta", "0 or above and finite, got", (-0.5, INF)),
            ("symmetric_cross_entropy", (Z, Y), "log_zero", "below 0 and finite, got", (0.0, 1.0, -INF)),
            ("class_balanced_weights", (torch.ones(2),), "beta", r"in \[0, 1\], got", (-0.1, 1.1, math.nan)),
        ]
        for value, error, message in [
            *((v, ValueError, message) for v in values),
            ("2", TypeError, "a number, got str"),
        ]
    ),
    ("class_balanced_weights", ([1, 2],), {}, TypeError, "counts must be a torch.Tensor, got list"),
    ("class_balanced_weights", (torch.tensor([True]),), {}, TypeError, "counts must hold real numbers, got torch.bool"),
    *(
        ("class_balanced_weights", (torch.tensor(bad),), {}, ValueError, message)
        for bad, message in [
            ([3, 0], "above 0 and finite, got 0"),
            ([3, -2], "above 0 and finite, got -2"),
            ([3.0, math.nan], "above 0 and finite, got nan"),
            ([3.0, INF], "above 0 and finite, got inf"),
            ([[1, 2]], r"shape \(C,\) with at least one class, got \(1, 2\)"),
            ([], r"shape \(C,\) with at least one class, got \(0,\)"),
        ]
    ),
]


@pytest.mark.parametrize(("name", "arguments", "options", "error", "message"), REFUSALS)
def test_bad_input_is_refused_with_what_was_given_and_what_is_wanted(name, arguments, options, error, message):
    with pytest.raises(error, match=message):
        getattr(losses, name)(*arguments, **options)
