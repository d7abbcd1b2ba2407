"""The margin losses against torch, against 50 digits of mpmath, and against what theory says of them."""

import itertools
import math

import mpmath
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import grad, gradcheck, gradgradcheck

from lib.losses import margin as losses
from lib.reference import margin as reference

BINARY = {"hinge_loss": {}, "squared_hinge_loss": {}, "soft_margin_loss": {}}
MULTI_CLASS = {
    "multi_margin_loss": {"p": 1, "margin": 0.7},
    "multi_margin_loss, squared": {"p": 2, "margin": 0.7},
    "crammer_singer_loss": {"margin": 0.7},
}
PAIRS = {"margin_ranking_loss": {"margin": 0.7}, "margin_ranking_loss, no margin": {"margin": 0.0}}
OPTIONS = BINARY | MULTI_CLASS | PAIRS
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-12}
DTYPES = list(TOLERANCE)


def function_of(case, module=losses):
    return getattr(module, case.split(",")[0])


def random_arguments(case, seed=0, samples=7, classes=5):
    """Return the differentiable inputs and the target of a case, in float64."""
    generator = torch.Generator().manual_seed(seed)
    if case in MULTI_CLASS:
        target = torch.randint(0, classes, (samples,), generator=generator)
        return [torch.randn(samples, classes, generator=generator, dtype=torch.float64)], target
    target = torch.randint(0, 2, (samples,), generator=generator) * 2.0 - 1
    count = 2 if case in PAIRS else 1
    inputs = [torch.randn(samples, generator=generator, dtype=torch.float64) for _ in range(count)]
    return inputs, target.double()


def value_and_gradients(loss, inputs, target, **options):
    inputs = [x.clone().requires_grad_() for x in inputs]
    value = loss(*inputs, target, **options)
    return value.detach(), grad(value.sum(), inputs)


# Against mpmath


def relative_error(ours, truth, dtype):
    """Return how far off a result is, 0 where it and the truth are too large or too small for the dtype."""
    limits = torch.finfo(dtype)
    if abs(truth) > limits.max:
        return 0.0 if ours == math.copysign(math.inf, truth) else math.inf
    error = abs(ours - truth)
    if not error <= abs(truth) * 1e-15 + limits.tiny:  # NaN too
        return float(error / abs(truth)) if truth else math.inf
    return 0.0


def worst_binary_error(name, dtype):
    epsilon = torch.finfo(dtype).eps
    sizes = [
        0.0,
        1e-30,
        1e-4,
        0.3,
        1 - epsilon,
        1.0,
        1 + epsilon,
        15.0,
        20.1,
        39.9,
        40.1,
        86.0,
        100.0,
        700.0,
        1e4,
        1e30,
    ]
    scores = torch.tensor([s * size for size in sizes for s in (-1, 1)], dtype=dtype)
    errors = []
    for y in (-1, 1):
        target = torch.full_like(scores, y)
        value, (gradient,) = value_and_gradients(function_of(name), [scores], target, reduction="none")
        for x, ours, our_gradient in zip(scores.tolist(), value.tolist(), gradient.tolist(), strict=True):
            shortfall = max(mpmath.mpf(0), 1 - y * mpmath.mpf(x))
            truth, slope = {
                "hinge_loss": (shortfall, -y * (shortfall > 0)),
                "squared_hinge_loss": (shortfall**2, -2 * y * shortfall),
                "soft_margin_loss": (mpmath.log1p(mpmath.exp(-y * mpmath.mpf(x))), -y / (1 + mpmath.exp(y * x))),
            }[name]
            errors += [relative_error(ours, truth, dtype), relative_error(our_gradient, slope, dtype)]
    return max(errors)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BINARY)
def test_value_and_gradient_are_right_at_every_score(name, dtype):
    with mpmath.workdps(50):
        assert worst_binary_error(name, dtype) <= TOLERANCE[dtype]


def contests(margin, dtype):
    """Return scores of winners and rivals that stand where rounding hurts: at the kink, nearly equal, huge, tiny."""
    winners = torch.tensor([0.0, 1.5, -2.7, 1e-30, 3.14159, -1e4, 1e8, 1e30, -1e30], dtype=dtype)
    kinks = winners - margin
    below, above = kinks.nextafter(kinks - 1), kinks.nextafter(kinks + 1)
    rivals = [kinks, below, above, below.nextafter(below - 1), above.nextafter(above + 1), kinks * (1 + 1e-4), winners]
    rivals += [winners * 0, winners * 0 + 1e-30, -winners, winners + 2 * margin]
    return winners.repeat(len(rivals)), torch.cat(rivals)


def worst_contest_error(case, margin, dtype):
    winner, rival = contests(margin, dtype)
    loss, options = function_of(case), OPTIONS[case] | {"margin": margin, "reduction": "none"}
    if case in PAIRS:
        target = torch.ones_like(winner)
        value, (first, second) = value_and_gradients(loss, [winner, rival], target, **options)
    else:
        scores, target = torch.stack([rival, winner], 1), torch.ones(len(winner), dtype=torch.long)
        value, (gradient,) = value_and_gradients(loss, [scores], target, **options)
        second, first = gradient.unbind(1)
    factor = mpmath.mpf(1) / 2 if "multi" in case else 1
    power = options.get("p", 1)
    errors = []
    for x, r, *ours in zip(*(t.tolist() for t in (winner, rival, value, first, second)), strict=True):
        excess = mpmath.mpf(margin) - mpmath.mpf(x) + mpmath.mpf(r)
        active = excess >= 0 if case in PAIRS else excess > 0
        slope = factor * power * excess ** (power - 1) if active else 0
        truths = (factor * max(mpmath.mpf(0), excess) ** power, -slope, slope)
        errors += [relative_error(our, truth, dtype) for our, truth in zip(ours, truths, strict=True)]
    return max(errors)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("case", "margin"),
    [
        (case, margin)
        for case in [*MULTI_CLASS, "margin_ranking_loss"]
        for margin in (0.0, 1e-6, 0.1, 0.3, 1.0, 1e6, -0.3)
        if margin >= 0 or "crammer" not in case  # which refuses a negative margin
    ],
)
def test_value_and_gradient_are_right_next_to_the_kink_and_at_every_scale(case, margin, dtype):
    with mpmath.workdps(100):
        assert worst_contest_error(case, margin, dtype) <= TOLERANCE[dtype]


@pytest.mark.parametrize("case", MULTI_CLASS)
def test_equal_scores_violate_the_margin_however_large_they_are_where_torch_sees_no_loss(case):
    scores, target = torch.full((1, 3), 1e9), torch.tensor([1])
    value, (gradient,) = value_and_gradients(function_of(case), [scores], target)
    assert F.multi_margin_loss(scores, target).item() == 0
    assert value.item() == pytest.approx(1 if "crammer" in case else 2 / 3)
    assert gradient[0, 1].item() < 0


def test_soft_margin_is_finite_where_the_exponential_overflows():
    score, target = torch.tensor([-100.0]), torch.tensor([1.0])
    value, (gradient,) = value_and_gradients(losses.soft_margin_loss, [score], target)
    assert torch.log(1 + torch.exp(-score)).item() == math.inf
    assert (value.item(), gradient.item()) == (100, -1)


# Against torch


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("shape", [(), (7,), (4, 3), (2, 3, 2)])
@pytest.mark.parametrize("target_kind", ["labels", "integer labels", "soft labels"])
def test_soft_margin_equals_torch(shape, target_kind, reduction):
    generator = torch.Generator().manual_seed(1)
    scores = 5 * torch.randn(shape, generator=generator, dtype=torch.float64)
    target = torch.randn(shape, generator=generator, dtype=torch.float64)
    target = target if target_kind == "soft labels" else target.sign()
    target = target.long() if target_kind == "integer labels" else target
    ours = value_and_gradients(losses.soft_margin_loss, [scores], target, reduction=reduction)
    torchs = value_and_gradients(F.soft_margin_loss, [scores], target, reduction=reduction)
    torch.testing.assert_close(ours, torchs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("weight", [None, [0.5, 2.0, 0.0, 1.0, 3.0]], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("margin", [1.0, 0.3, 0.0, -0.5])
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize(
    ("shape", "target"),
    [((5,), 3), ((5,), [3]), ((1, 5), 3), ((1, 5), [3]), ((4, 5), [0, 4, 2, 2])],
    ids=str,
)
def test_multi_margin_equals_torch_for_every_kind_of_input(shape, target, p, margin, weight, reduction):
    scores = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    weight = None if weight is None else torch.tensor(weight, dtype=torch.float64)
    options = {"p": p, "margin": margin, "weight": weight, "reduction": reduction}
    ours = value_and_gradients(losses.multi_margin_loss, [scores], torch.tensor(target), **options)
    torchs = value_and_gradients(F.multi_margin_loss, [scores], torch.tensor(target), **options)
    torch.testing.assert_close(ours, torchs, rtol=1e-12, atol=1e-14)


def test_multi_margin_of_one_class_is_zero_as_in_torch():
    for scores, target in [(torch.ones(3, 1), torch.zeros(3)), (torch.tensor(1.0), torch.tensor(0))]:
        ours = value_and_gradients(losses.multi_margin_loss, [scores], target.long(), reduction="none")
        torch.testing.assert_close(
            ours, value_and_gradients(F.multi_margin_loss, [scores], target.long(), reduction="none")
        )


@pytest.mark.parametrize("case", ["multi_margin_loss", "margin_ranking_loss"])
def test_gradient_at_the_kink_is_torchs(case):
    if case == "multi_margin_loss":
        inputs, target, options = [torch.tensor([[2.0, 1.0, 1.5]])], torch.tensor([0]), {}
    else:
        inputs, target, options = [torch.tensor([1.0, 3.0]), torch.tensor([1.0, 2.0])], torch.tensor([1.0, 1.0]), {}
    ours = value_and_gradients(function_of(case), inputs, target, **options)
    torch.testing.assert_close(ours, value_and_gradients(getattr(F, case), inputs, target, **options))


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("margin", [0.0, 0.3, 1.0, -0.5])
@pytest.mark.parametrize("shape", [(), (7,), (4, 3)])
@pytest.mark.parametrize("target_kind", ["order", "integer order", "soft order"])
def test_margin_ranking_equals_torch(shape, target_kind, margin, reduction):
    generator = torch.Generator().manual_seed(3)
    first, second, target = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(3))
    target = target if target_kind == "soft order" else target.sign()
    target = target.long() if target_kind == "integer order" else target
    options = {"margin": margin, "reduction": reduction}
    ours = value_and_gradients(losses.margin_ranking_loss, [first, second], target, **options)
    torchs = value_and_gradients(F.margin_ranking_loss, [first, second], target, **options)
    torch.testing.assert_close(ours, torchs, rtol=1e-12, atol=1e-14)


def test_margin_ranking_of_two_dtypes_has_the_dtype_they_promote_to_as_in_torch():
    first, second, target = torch.tensor([1.5]).half(), torch.tensor([1.3]), torch.tensor([-1])
    ours = losses.margin_ranking_loss(first, second, target)
    assert ours.dtype == F.margin_ranking_loss(first, second, target).dtype == torch.float32
    assert losses.margin_ranking_loss(first, second.half(), target).dtype == torch.float16


# The NumPy twin


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("case", OPTIONS)
def test_the_numpy_twin_has_the_same_value_and_its_hand_derived_gradient_is_autograds(case, seed):
    inputs, target = random_arguments(case, seed, samples=30)
    value, gradients = value_and_gradients(function_of(case), inputs, target, **OPTIONS[case], reduction="none")
    arrays = [x.numpy() for x in (*inputs, target)]
    twin = function_of(case, reference)(*arrays, **OPTIONS[case])
    twin_gradients = getattr(reference, case.split(",")[0] + "_grad")(*arrays, **OPTIONS[case])
    twin_gradients = twin_gradients if isinstance(twin_gradients, tuple) else (twin_gradients,)
    np.testing.assert_allclose(twin, value, rtol=1e-12, atol=1e-14)
    for ours, theirs in zip(twin_gradients, gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


def test_the_numpy_twin_weighs_the_true_class():
    (scores,), target = random_arguments("multi_margin_loss")
    weight = torch.tensor([0.2, 1.0, 3.0, 0.0, 2.0], dtype=torch.float64)
    value, (gradient,) = value_and_gradients(
        losses.multi_margin_loss, [scores], target, weight=weight, reduction="none"
    )
    arguments = {"input": scores.numpy(), "target": target.numpy(), "weight": weight.numpy()}
    np.testing.assert_allclose(reference.multi_margin_loss(**arguments), value, rtol=1e-12)
    np.testing.assert_allclose(reference.multi_margin_loss_grad(**arguments), gradient, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("score", [-1e30, -800.0, 800.0, 1e30])
def test_the_numpy_twin_of_the_soft_margin_neither_overflows_nor_warns(score):
    for y in (-1, 1):
        assert reference.soft_margin_loss(score, y) == max(0.0, -y * score)
        assert reference.soft_margin_loss_grad(score, y) == (-y if y * score < 0 else 0)


def test_twin_and_torch_share_the_gradient_of_tied_rivals_and_take_no_side_at_the_kinks():
    ties = np.array([[1.0, 1.0, 1.0, 0.0], [2.0, 1.0, 1.0, -1.0]])  # two rivals tie; the margin is just reached
    target = np.array([0, 0])
    _, (gradient,) = value_and_gradients(losses.crammer_singer_loss, [torch.tensor(ties)], torch.tensor(target))
    expected = [[-1, 0.5, 0.5, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(reference.crammer_singer_loss_grad(ties, target), expected)
    np.testing.assert_array_equal(2 * gradient, expected)
    assert reference.hinge_loss_grad(1.0, 1) == 0 == reference.multi_margin_loss_grad(ties, target)[1].any()
    assert value_and_gradients(losses.hinge_loss, [torch.ones(1)], torch.ones(1))[1][0].item() == 0
    assert reference.margin_ranking_loss_grad(2.0, 2.0, 1) == (-1, 1)


# What theory says


@pytest.mark.parametrize("case", OPTIONS)
def test_gradient_is_the_derivative_of_the_value_and_can_be_derived_again(case):
    inputs, target = random_arguments(case)
    inputs = [x.requires_grad_() for x in inputs]

    def loss(*inputs):
        return function_of(case)(*inputs, target, **OPTIONS[case])

    assert gradcheck(loss, inputs)
    assert gradgradcheck(loss, inputs)


@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 2**31))
@settings(deadline=None)
def test_scaling_scores_and_margin_scales_the_loss(scale, seed):
    for case, degree in [("multi_margin_loss", 1), ("multi_margin_loss, squared", 2), ("crammer_singer_loss", 1)]:
        (scores,), target = random_arguments(case, seed)
        options = OPTIONS[case]
        scaled = function_of(case)(scores * scale, target, **options | {"margin": options["margin"] * scale})
        torch.testing.assert_close(scaled, scale**degree * function_of(case)(scores, target, **options))
    (first, second), order = random_arguments("margin_ranking_loss", seed)
    scaled = losses.margin_ranking_loss(first * scale, second * scale, order, margin=scale)
    torch.testing.assert_close(scaled, scale * losses.margin_ranking_loss(first, second, order, margin=1.0))


@given(shift=st.floats(-50, 50), seed=st.integers(0, 2**31))
@settings(deadline=None)
def test_only_differences_of_scores_matter_where_scores_compete(shift, seed):
    for case in MULTI_CLASS | PAIRS:
        inputs, target = random_arguments(case, seed)
        loss = function_of(case)(*inputs, target, **OPTIONS[case])
        torch.testing.assert_close(function_of(case)(*(x + shift for x in inputs), target, **OPTIONS[case]), loss)


@given(order=st.permutations(range(5)), seed=st.integers(0, 2**31))
@settings(deadline=None)
def test_renaming_the_classes_changes_nothing(order, seed):
    order = torch.tensor(order)
    for case in MULTI_CLASS:
        (scores,), target = random_arguments(case, seed)
        renamed = function_of(case)(scores[:, order], order.argsort()[target], **OPTIONS[case])
        torch.testing.assert_close(renamed, function_of(case)(scores, target, **OPTIONS[case]))


@given(seed=st.integers(0, 2**31))
@settings(deadline=None)
def test_changing_the_sign_of_score_and_label_changes_nothing(seed):
    for name in BINARY:
        (scores,), target = random_arguments(name, seed)
        assert function_of(name)(-scores, -target) == function_of(name)(scores, target)
    (first, second), target = random_arguments("margin_ranking_loss", seed)
    swapped = losses.margin_ranking_loss(second, first, -target, margin=0.5)
    torch.testing.assert_close(swapped, losses.margin_ranking_loss(first, second, target, margin=0.5))


@given(seed=st.integers(0, 2**31))
@settings(deadline=None)
def test_with_two_classes_every_multi_class_hinge_is_the_binary_hinge_of_the_lead(seed):
    (scores,), target = random_arguments("crammer_singer_loss", seed, classes=2)
    lead, label = scores[:, 1] - scores[:, 0], 2 * target - 1
    hinge = losses.hinge_loss(lead, label)
    torch.testing.assert_close(losses.crammer_singer_loss(scores, target), hinge)
    torch.testing.assert_close(2 * losses.multi_margin_loss(scores, target), hinge)
    torch.testing.assert_close(losses.margin_ranking_loss(lead, 0 * lead, label, margin=1.0), hinge)
    squared = losses.squared_hinge_loss(lead, label)
    torch.testing.assert_close(2 * losses.multi_margin_loss(scores, target, p=2), squared)


@given(seed=st.integers(0, 2**31))
@settings(deadline=None)
def test_the_strongest_rival_costs_at_least_an_error_and_at_most_what_all_rivals_cost(seed):
    (scores,), target = random_arguments("crammer_singer_loss", seed)
    strongest = losses.crammer_singer_loss(scores, target, reduction="none")
    everyone = 5 * losses.multi_margin_loss(scores, target, reduction="none")
    assert (strongest >= (scores.argmax(1) != target)).all()
    assert (strongest <= everyone + 1e-12).all()
    assert (everyone <= 4 * strongest + 1e-12).all()


def test_crammer_singer_leaves_the_true_class_out_of_the_rivals():
    scores, target = torch.tensor([[-4.5, -5.0, -7.0]]), torch.tensor([0])
    zeroed = scores.clone().scatter(1, target[:, None], 0.0).amax(1)
    assert (1 - scores[0, 0] + zeroed).item() == 5.5  # what a zeroed true slot would give
    assert losses.crammer_singer_loss(scores, target).item() == 0.5


def test_crammer_singer_without_a_rival_is_zero():
    value, (gradient,) = value_and_gradients(losses.crammer_singer_loss, [torch.ones(2, 1)], torch.tensor([0, 0]))
    assert value.item() == 0 == gradient.any()


@pytest.mark.parametrize("case", MULTI_CLASS)
def test_a_class_that_is_ruled_out_is_no_rival(case):
    scores, target = torch.tensor([[1.0, -torch.inf, 0.5]]), torch.tensor([0])
    value, (gradient,) = value_and_gradients(function_of(case), [scores], target, reduction="sum")
    two_classes, (gradient_of_two,) = value_and_gradients(
        function_of(case), [scores[:, [0, 2]]], target, reduction="sum"
    )
    factor = 1 if "crammer" in case else 2 / 3
    torch.testing.assert_close(value, factor * two_classes)
    torch.testing.assert_close(gradient[:, [0, 2]], factor * gradient_of_two)
    assert gradient[0, 1] == 0


@pytest.mark.parametrize("case", MULTI_CLASS)
def test_infinite_scores_of_the_true_class_leave_no_nan(case):
    scores = torch.tensor([[torch.inf, 1.0, 0.5], [-torch.inf, 1.0, 0.5]])
    value, (gradient,) = value_and_gradients(function_of(case), [scores], torch.tensor([0, 0]), reduction="none")
    assert value.tolist() == [0, torch.inf]
    assert not gradient.isnan().any()
    assert gradient[0].eq(0).all()


@pytest.mark.parametrize("probability", [0.2, 0.6, 0.9])
def test_the_best_constant_score_is_the_majority_the_double_surplus_and_the_log_odds(probability):
    grid = torch.linspace(-3, 3, 6001, dtype=torch.float64)
    expected = {"hinge_loss": math.copysign(1, probability - 0.5), "squared_hinge_loss": 2 * probability - 1}
    expected["soft_margin_loss"] = math.log(probability / (1 - probability))
    for name, minimiser in expected.items():
        positive, negative = (function_of(name)(grid, torch.full_like(grid, y), reduction="none") for y in (1, -1))
        risk = probability * positive + (1 - probability) * negative
        assert grid[risk.argmin()].item() == pytest.approx(minimiser, abs=1.1e-3)


def test_soft_margin_is_the_binary_cross_entropy_of_the_logit():
    (scores,), target = random_arguments("soft_margin_loss", samples=50)
    expected = F.binary_cross_entropy_with_logits(scores, (target + 1) / 2)
    torch.testing.assert_close(losses.soft_margin_loss(scores, target), expected)


# Shapes, dtypes and transformations


@pytest.mark.parametrize("case", OPTIONS)
def test_a_batch_of_one_costs_what_its_sample_costs_and_an_empty_batch_nan_or_zero(case):
    inputs, target = random_arguments(case)
    loss = function_of(case)
    alone = [loss(*(x[i : i + 1] for x in inputs), target[i : i + 1], **OPTIONS[case]) for i in range(len(target))]
    torch.testing.assert_close(torch.stack(alone), loss(*inputs, target, **OPTIONS[case], reduction="none"))
    empty = [x[:0] for x in inputs]
    assert loss(*empty, target[:0], **OPTIONS[case]).isnan()
    assert loss(*empty, target[:0], **OPTIONS[case], reduction="sum") == 0
    assert loss(*empty, target[:0], **OPTIONS[case], reduction="none").shape == (0,)
    assert value_and_gradients(loss, empty, target[:0], **OPTIONS[case])[1][0].shape == empty[0].shape


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
@pytest.mark.parametrize("case", MULTI_CLASS)
def test_class_indices_may_have_any_integer_dtype_even_one_too_narrow_for_the_number_of_classes(case, dtype):
    (scores,), target = random_arguments(case, classes=300)
    target = target.clamp(max=255)
    loss = function_of(case)(scores, target.to(dtype), **OPTIONS[case])
    assert loss == function_of(case)(scores, target, **OPTIONS[case])


@pytest.mark.parametrize("case", OPTIONS)
def test_strided_input_costs_what_its_contiguous_copy_costs(case):
    inputs, target = random_arguments(case, samples=8)
    strided = [x.repeat_interleave(2, -1)[..., ::2] for x in inputs]
    assert not strided[0].is_contiguous()
    ours = value_and_gradients(function_of(case), strided, target, **OPTIONS[case])
    torch.testing.assert_close(ours, value_and_gradients(function_of(case), inputs, target, **OPTIONS[case]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("case", OPTIONS)
def test_half_precision_is_computed_in_float32_and_rounded_once(case, dtype):
    inputs, target = random_arguments(case, samples=40)
    inputs = [(3 * x).to(dtype) for x in inputs]
    for reduction in ("none", "mean", "sum"):
        options = OPTIONS[case] | {"reduction": reduction}
        ours = function_of(case)(*inputs, target, **options)
        exact = function_of(case)(*(x.float() for x in inputs), target, **options)
        assert ours.dtype == dtype
        torch.testing.assert_close(ours, exact.to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize("case", OPTIONS)
def test_the_loss_can_be_mapped_over_samples(case):
    inputs, target = random_arguments(case)

    def sample_loss(*args):
        return function_of(case)(*args, **OPTIONS[case])

    which = tuple(range(len(inputs)))
    one_by_one = torch.func.vmap(torch.func.grad(sample_loss, argnums=which))(*inputs, target)
    together = value_and_gradients(function_of(case), inputs, target, **OPTIONS[case], reduction="sum")[1]
    torch.testing.assert_close(one_by_one, together)


@pytest.mark.parametrize("case", OPTIONS)
def test_the_loss_compiles_to_one_graph(case):
    inputs, target = random_arguments(case)
    inputs = [x.float() for x in inputs]
    compiled = torch.compile(function_of(case), backend="aot_eager", fullgraph=True)
    margins = (0.7, 0.3) if "margin" in OPTIONS[case] else (None,)
    for margin in margins:
        options = OPTIONS[case] | ({} if margin is None else {"margin": margin})
        ours = value_and_gradients(compiled, inputs, target, **options)
        torch.testing.assert_close(ours, value_and_gradients(function_of(case), inputs, target, **options))


# Refusals

X, Y, SCORES, CLASS = torch.zeros(2), torch.tensor([1, -1]), torch.zeros(2, 3), torch.tensor([0, 2])
BAD_SCORES = [
    (([0.0], Y), {}, TypeError, "input must be a torch.Tensor, got list"),
    ((Y, Y), {}, TypeError, "input must be a floating-point tensor, got torch.int64"),
    ((X, [1, -1]), {}, TypeError, "target must be a torch.Tensor, got list"),
    ((X, Y > 0), {}, TypeError, r"numbers -1 and \+1 .*, got torch.bool"),
    ((X, Y.to(torch.complex64)), {}, TypeError, "got torch.complex64"),
    ((X[:, None], Y), {}, ValueError, r"same shape, got .*\(2, 1\) and .*\(2,\)"),
    ((X, Y), {"reduction": "average"}, ValueError, "'sum', got 'average'"),
]
BAD_CLASSES = [
    (([0.0], CLASS), {}, TypeError, "input must be a torch.Tensor, got list"),
    ((SCORES.long(), CLASS), {}, TypeError, "input must be a floating-point tensor, got torch.int64"),
    ((SCORES, [0, 2]), {}, TypeError, "target must be a torch.Tensor, got list"),
    ((SCORES, CLASS.float()), {}, TypeError, r"class indices \(integers\), got torch.float32"),
    ((SCORES, CLASS > 0), {}, TypeError, r"class indices \(integers\), got torch.bool"),
    ((SCORES, CLASS.to(torch.complex64)), {}, TypeError, r"class indices \(integers\), got torch.complex64"),
    ((torch.zeros(2, 0), CLASS), {}, ValueError, r"at least one class, got \(2, 0\)"),
    ((torch.zeros(1, 2, 3), CLASS), {}, ValueError, r"\(C,\) or \(N, C\) .*, got \(1, 2, 3\)"),
    ((SCORES, CLASS[:1]), {}, ValueError, r"shape \(2, 3\) must have shape \(2,\), got \(1,\)"),
    ((SCORES, CLASS[:, None]), {}, ValueError, r"must have shape \(2,\), got \(2, 1\)"),
    ((SCORES[0], CLASS), {}, ValueError, r"must have shape \(\) or \(1,\), got \(2,\)"),
    ((SCORES, torch.tensor([0, 3])), {}, ValueError, r"in \[0, 3\), got 3"),
    ((SCORES, torch.tensor([-100, 0])), {}, ValueError, r"in \[0, 3\), got -100"),
    ((SCORES, CLASS), {"margin": "1"}, TypeError, "margin must be a number, got str"),
    ((SCORES, CLASS), {"margin": math.nan}, ValueError, "margin must be finite, got nan"),
    ((SCORES, CLASS), {"reduction": "average"}, ValueError, "'sum', got 'average'"),
]
BAD_PAIRS = [
    (([0.0], X, Y), {}, TypeError, "input1 must be a torch.Tensor, got list"),
    ((X, Y, Y), {}, TypeError, "input2 must be a floating-point tensor, got torch.int64"),
    ((X, X, 1), {}, TypeError, "target must be a torch.Tensor, got int"),
    ((X, X, Y > 0), {}, TypeError, r"numbers -1 and \+1 .*, got torch.bool"),
    ((X, X[:1], Y), {}, ValueError, r"same shape, got \(2,\), \(1,\) and \(2,\)"),
    ((X, X, Y[:1]), {}, ValueError, r"same shape, got \(2,\), \(2,\) and \(1,\)"),
    ((X, X, Y), {"margin": None}, TypeError, "margin must be a number, got NoneType"),
    ((X, X, Y), {"margin": math.inf}, ValueError, "margin must be finite, got inf"),
    ((X, X, Y), {"reduction": "average"}, ValueError, "'sum', got 'average'"),
]
REFUSALS = [
    *((name, *case) for name, case in itertools.product(BINARY, BAD_SCORES)),
    *(
        (name, (X, bad), {}, ValueError, "-1 or")
        for name in ("hinge_loss", "squared_hinge_loss")
        for bad in (0 * X, 2 * Y)
    ),
    ("hinge_loss", (X, torch.tensor([1, 0])), {}, ValueError, r"got 0; 2 \* target - 1 turns 0 and 1 into -1 and \+1"),
    *((name, *case) for name, case in itertools.product(("multi_margin_loss", "crammer_singer_loss"), BAD_CLASSES)),
    ("multi_margin_loss", (SCORES, CLASS), {"p": 3}, ValueError, "p must be 1 or 2, got 3"),
    ("multi_margin_loss", (SCORES, CLASS), {"weight": [1.0] * 3}, TypeError, "weight must be a torch.Tensor, got list"),
    ("multi_margin_loss", (SCORES, CLASS), {"weight": torch.ones(2)}, ValueError, r"each of the 3 classes, got \(2,\)"),
    ("crammer_singer_loss", (SCORES, CLASS), {"margin": -1.0}, ValueError, "margin must be at least 0, got -1.0"),
    *(("margin_ranking_loss", *case) for case in BAD_PAIRS),
]


@pytest.mark.parametrize(("name", "arguments", "options", "error", "message"), REFUSALS)
def test_bad_input_is_refused_with_what_was_given_and_what_is_wanted(name, arguments, options, error, message):
    with pytest.raises(error, match=message):
        function_of(name)(*arguments, **options)
