"""The divergences against torch, against 50 digits of mpmath, and against what theory says of them."""

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

from lib.losses.classification import cross_entropy
from lib.losses.divergence import distillation_loss, gaussian_kl, js_divergence, kl_div
from lib.reference import divergence as reference

INF = torch.inf
PRECISIONS = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-12)])
REDUCTIONS = ["none", "mean", "sum"]


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def probabilities(*shape, seed=0):
    return random(*shape, seed=seed).mul(3).softmax(-1)


def value_and_gradients(loss, *inputs, **options):
    inputs = [x.detach().clone().requires_grad_() if x.is_floating_point() else x for x in inputs]
    value = loss(*inputs, **options)
    return value.detach(), grad(value.sum(), [x for x in inputs if x.is_floating_point()])


def assert_near(ours, truth, tolerance, scale=None):
    """Assert that a float is within the tolerance, relative to the truth or to ``scale``, down to subnormal numbers."""
    tiny = torch.finfo(torch.float32 if tolerance > 1e-7 else torch.float64).tiny
    assert abs(mpf(ours) - truth) <= tolerance * abs(truth if scale is None else scale) + tiny


LOSSES = {  # each with differentiable inputs of two samples
    "kl_div": (kl_div, [probabilities(2, 3).log(), probabilities(2, 3, seed=1)]),
    "kl_div, log_target": (
        lambda x, t, **options: kl_div(x, t, log_target=True, **options),
        [probabilities(2, 3).log(), probabilities(2, 3, seed=1).log()],
    ),
    "js_divergence": (js_divergence, [random(2, 3).softmax(-1), random(2, 3, seed=1).softmax(-1)]),
    "js_divergence, near": (js_divergence, [random(2, 3).softmax(-1), 0.9 * random(2, 3).softmax(-1) + 0.1 / 3]),
    "gaussian_kl": (gaussian_kl, [random(2, 3), random(2, 3, seed=1)]),
    "distillation_loss": (
        lambda z, t, **options: distillation_loss(z, t, torch.tensor([0, 2])[: len(z)], **options),
        [3 * random(2, 3), 3 * random(2, 3, seed=1)],
    ),
    "distillation_loss, hot": (
        lambda z, t, **options: distillation_loss(z, t, torch.tensor([0, 2])[: len(z)], temperature=50, **options),
        [random(2, 3), random(2, 3, seed=1)],
    ),
}
EVERY_LOSS = pytest.mark.parametrize(("loss", "inputs"), LOSSES.values(), ids=list(LOSSES))


# What holds for each of them


@EVERY_LOSS
def test_gradient_is_the_derivative_of_the_value(loss, inputs):
    inputs = [x.clone().requires_grad_() for x in inputs]
    assert gradcheck(loss, inputs)
    assert gradgradcheck(loss, inputs)


@EVERY_LOSS
def test_mean_and_sum_are_those_of_the_unreduced_loss(loss, inputs):
    unreduced = loss(*inputs, reduction="none")
    torch.testing.assert_close(loss(*inputs), unreduced.mean())
    torch.testing.assert_close(loss(*inputs, reduction="sum"), unreduced.sum())


@EVERY_LOSS
def test_a_batch_of_one_is_its_only_sample(loss, inputs):
    one = loss(*(x[:1] for x in inputs), reduction="none")
    torch.testing.assert_close(one, loss(*inputs, reduction="none")[:1])


@EVERY_LOSS
def test_an_empty_batch_has_sum_zero_and_mean_nan(loss, inputs):
    empty = [x[:0] for x in inputs]
    assert loss(*empty, reduction="sum").item() == 0
    assert loss(*empty).isnan()
    assert loss(*empty, reduction="none").numel() == 0


@EVERY_LOSS
def test_order_of_memory_does_not_matter(loss, inputs):
    strided = [x.T.contiguous().T for x in inputs]
    assert not strided[0].is_contiguous()
    torch.testing.assert_close(value_and_gradients(loss, *strided), value_and_gradients(loss, *inputs))


@EVERY_LOSS
def test_loss_can_be_mapped_over_samples(loss, inputs):
    def of_one(*sample):
        return loss(*(x.unsqueeze(0) for x in sample), reduction="sum")

    mapped = torch.vmap(torch.func.grad(of_one, argnums=(0, 1)))(*inputs)
    one_by_one = [value_and_gradients(of_one, *sample)[1] for sample in zip(*inputs, strict=True)]
    torch.testing.assert_close(mapped, tuple(torch.stack(rows) for rows in zip(*one_by_one, strict=True)))


@EVERY_LOSS
def test_loss_compiles_to_one_graph(loss, inputs):
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(value_and_gradients(compiled, *inputs), value_and_gradients(loss, *inputs))


@EVERY_LOSS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32_and_rounded_once(loss, inputs, dtype):
    inputs = [x.to(dtype) for x in inputs]
    for reduction in REDUCTIONS:
        ours = loss(*inputs, reduction=reduction)
        assert ours.dtype == dtype
        exact = loss(*(x.float() for x in inputs), reduction=reduction)
        torch.testing.assert_close(ours, exact.to(dtype), rtol=0, atol=0)


# The Kullback-Leibler divergence


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")  # torch's, against its own default
@pytest.mark.parametrize("reduction", [*REDUCTIONS, "batchmean"])
@pytest.mark.parametrize("log_target", [False, True])
@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 3, 4)], ids=str)
def test_kl_div_equals_torch(shape, log_target, reduction):
    x, target = random(*shape), random(*shape, seed=1)
    target = target if log_target else target.exp()
    options = {"log_target": log_target, "reduction": reduction}
    ours = value_and_gradients(kl_div, x, target, **options)
    torch.testing.assert_close(ours, value_and_gradients(F.kl_div, x, target, **options), rtol=1e-12, atol=1e-14)


def test_kl_div_equals_torch_where_a_class_never_occurs_or_is_ruled_out():
    x, target = torch.tensor([-1.0, -2.0, -INF]), torch.tensor([0.0, 0.3, 0.7])
    truth = F.kl_div(x, target, reduction="none")
    torch.testing.assert_close(kl_div(x, target, reduction="none"), truth)
    # torch has NaN for the first class where the target comes as logarithms
    torch.testing.assert_close(kl_div(x, target.log(), reduction="none", log_target=True), truth)


@pytest.mark.parametrize(("log_target", "never"), [(False, 0.0), (True, -INF)])
def test_a_class_that_is_ruled_out_and_never_occurs_costs_nothing_where_torch_gives_nan(log_target, never):
    x, target = torch.tensor([-INF, 0.0]), torch.tensor([never, 0.0 if log_target else 1.0])
    value, gradients = value_and_gradients(kl_div, x, target, reduction="sum", log_target=log_target)
    assert F.kl_div(x, target, reduction="sum", log_target=log_target).isnan()
    assert value.item() == 0
    assert gradients[0].tolist() == [0, -1]
    assert gradients[1].isfinite().all()
    assert log_target or gradients[1][0] > 1e30  # to let it occur would cost infinity


@pytest.mark.parametrize("never", [0.0, 0.5])
def test_kl_div_does_not_hide_a_nan(never):
    assert kl_div(torch.tensor([torch.nan]), torch.tensor([never])).isnan()


def test_kl_div_towards_a_target_of_softmax_that_underflows_leaves_no_nan_in_the_gradient():
    logits = torch.tensor([0.0, -500.0, 1.0], requires_grad=True)
    loss = kl_div(torch.tensor([-1.0, -1.0, -1.0]), logits.softmax(0), reduction="sum")
    assert grad(loss, logits)[0].isfinite().all()


@PRECISIONS
@pytest.mark.parametrize("x", [0.0, -1e-30, -1e-5, -0.1, -0.7, -50.0, -100.0, -1e10, -1e30, 1.0, 50.0, 1e30])
def test_kl_div_is_right_over_the_whole_range(dtype, tolerance, x):
    log_probability = torch.tensor(x, dtype=dtype)
    limits = torch.finfo(dtype)
    with mpmath.workdps(50):
        x = mpf(log_probability.item())
        for p in [0.0, 1e-45, 1e-38, 1e-30, 1e-5, 0.1, 0.5, 1 - 1e-7, 1.0, 3.0, 1e10, 1e30]:
            target = torch.tensor(p, dtype=dtype)
            value, (gradient, _) = value_and_gradients(kl_div, log_probability, target)
            p = mpf(target.item())
            truth = p * (mpmath.log(p) - x) if p else mpf(0)
            if abs(truth) < limits.max:
                # the logarithm is rounded before the difference is taken
                assert_near(value.item(), truth, tolerance, p * max(abs(mpmath.log(p)), abs(x)) if p else 0)
            assert gradient == -target
        for t in [-INF, -1e4, -150.0, -110.0, -50.0, -3.0, -0.1, -1e-9, 0.0, 1.0, 60.0]:
            target = torch.tensor(t, dtype=dtype)
            value, (gradient, _) = value_and_gradients(kl_div, log_probability, target, log_target=True)
            p = mpmath.exp(mpf(target.item()))
            truth = p * (mpf(target.item()) - x) if p else mpf(0)
            if abs(truth) < limits.max:
                assert_near(value.item(), truth, tolerance)
            assert_near(gradient.item(), -p, tolerance)


@given(seed=st.integers(0, 2**31))
@settings(deadline=None)
def test_kl_is_never_negative_and_zero_only_for_the_target_itself(seed):
    p, q = probabilities(5, 4, seed=seed), probabilities(5, 4, seed=seed + 1)
    assert kl_div(q.log(), p, reduction="none").sum(-1).gt(0).all()
    assert kl_div(p.log(), p, reduction="none").abs().max() < 1e-15


def test_batchmean_is_the_divergence_per_sample_and_mean_is_smaller_by_the_number_of_classes():
    p, q = probabilities(5, 4), probabilities(5, 4, seed=1)
    per_sample = kl_div(q.log(), p, reduction="none").sum(-1)
    torch.testing.assert_close(kl_div(q.log(), p, reduction="batchmean"), per_sample.mean())
    torch.testing.assert_close(kl_div(q.log(), p) * 4, per_sample.mean())


def test_cross_entropy_with_a_distribution_is_kl_plus_its_entropy():
    logits, p = random(5, 4), probabilities(5, 4, seed=1)
    entropy = -(p * p.log()).sum(-1).mean()
    kl = kl_div(logits.log_softmax(-1), p, reduction="batchmean")
    torch.testing.assert_close(cross_entropy(logits, p), kl + entropy)


def test_the_one_prediction_that_minimises_kl_is_the_mean_of_the_targets():
    targets = probabilities(50, 4)
    mean = targets.mean(0)

    def cost(prediction):
        return kl_div(prediction.log().expand(50, -1), targets, reduction="sum")

    for step in torch.eye(4, dtype=torch.float64) - 0.25:
        for size in (0.01, -0.01):
            assert cost(mean + size * step) > cost(mean)


# The Jensen-Shannon divergence


@PRECISIONS
@pytest.mark.parametrize("distance", [1e-7, 1e-5, 1e-3, 0.1, 0.33333, 0.4, 0.9, 1.0])
@pytest.mark.parametrize("smallest", [0.2, 1e-3, 1e-10, 1e-30])
def test_js_divergence_is_right_however_near_or_far_apart(dtype, tolerance, distance, smallest):
    p = torch.tensor([smallest, 0.7 - smallest, 0.2, 0.1, 0.0], dtype=dtype)
    q = torch.tensor([smallest, 0.1, 0.2, 0.3, 0.4 - smallest], dtype=dtype)
    q = p + distance * (q - p)
    value, gradients = value_and_gradients(js_divergence, p, q)
    with mpmath.workdps(50):
        truth = mpf(0)
        for j in range(5):
            a, b = mpf(p[j].item()), mpf(q[j].item())
            for mine, other, gradient in ((a, b, gradients[0][j]), (b, a, gradients[1][j])):
                if mine:
                    slope = mpmath.log(2 * mine / (mine + other)) / 2
                    truth += mine * slope
                    assert_near(gradient.item(), slope, tolerance)
                elif other:
                    assert -1000 < gradient.item() < -30
        assert_near(value.item(), truth, tolerance)


@given(seed=st.integers(0, 2**31))
@settings(deadline=None)
def test_js_divergence_is_symmetric_and_between_zero_and_log_2(seed):
    p, q = probabilities(5, 4, seed=seed), probabilities(5, 4, seed=seed + 1)
    value = js_divergence(p, q, reduction="none")
    torch.testing.assert_close(value, js_divergence(q, p, reduction="none"), rtol=1e-14, atol=0)
    assert value.gt(0).all()
    assert value.lt(math.log(2)).all()
    assert js_divergence(p, p).item() == 0


def test_js_divergence_of_what_has_nothing_in_common_is_log_2_with_a_finite_gradient():
    p, q = torch.tensor([0.5, 0.5, 0.0, 0.0]), torch.tensor([0.0, 0.0, 1.0, 0.0])
    value, gradients = value_and_gradients(js_divergence, p, q)
    assert value.item() == pytest.approx(math.log(2), rel=1e-7)
    for gradient in gradients:
        assert gradient.isfinite().all()
    assert gradients[0][2] < -40  # towards where only the target is
    logits = torch.tensor([0.0, 0.0, -500.0, -500.0], requires_grad=True)
    assert grad(js_divergence(logits.softmax(0), q), logits)[0].isfinite().all()


def test_js_divergence_is_the_mean_of_the_divergences_from_the_mean():
    p, q = probabilities(5, 4), probabilities(5, 4, seed=1)
    log_mean = ((p + q) / 2).log()
    halves = [kl_div(log_mean, x, reduction="batchmean") / 2 for x in (p, q)]
    torch.testing.assert_close(js_divergence(p, q), halves[0] + halves[1])


def test_square_root_of_js_divergence_obeys_the_triangle_inequality():
    p, q, r = (probabilities(1000, 4, seed=seed) for seed in range(3))
    distance = [js_divergence(a, b, reduction="none").sqrt() for a, b in ((p, q), (q, r), (p, r))]
    assert (distance[0] + distance[1] >= distance[2]).all()


# The divergence of a Gaussian from the standard normal


@PRECISIONS
@pytest.mark.parametrize("log_variance", [1e-30, 1e-10, 1e-4, 1e-2, 0.3, 0.4999999, 0.5, 0.51, 1, 5, 20, 88, 1e4, 1e30])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("mean", [0.0, 1e-5, -1.0, 1e15, 1e30])
def test_gaussian_kl_is_right_at_every_scale(dtype, tolerance, log_variance, sign, mean):
    mu, v = torch.tensor([mean], dtype=dtype), torch.tensor([sign * log_variance], dtype=dtype)
    value, gradients = value_and_gradients(gaussian_kl, mu, v)
    with mpmath.workdps(100):
        m, w = mpf(mu.item()), mpf(v.item())
        variance = mpmath.exp(w) if w < 1e5 else mpmath.inf
        for ours, truth in (
            (value.item(), (m * m + variance - 1 - w) / 2),
            (gradients[0].item(), m),
            (gradients[1].item(), (variance - 1) / 2),
        ):
            if truth > torch.finfo(dtype).max:
                assert ours == INF
            else:
                assert_near(ours, truth, tolerance)


def test_gaussian_kl_equals_torch_distributions():
    mu, v = random(5, 3), random(5, 3, seed=1)
    normal = torch.distributions.Normal
    truth = torch.distributions.kl_divergence(normal(mu, (v / 2).exp()), normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(gaussian_kl(mu, v, reduction="none"), truth)


def test_gaussian_kl_keeps_a_small_divergence_where_the_plain_formula_rounds_it_away():
    v = torch.tensor([1e-4])
    assert (v.exp() - 1 - v).item() != pytest.approx(5e-9, rel=0.5)
    assert gaussian_kl(torch.zeros(1), v).item() == pytest.approx(2.5e-9, rel=1e-4)


@given(mean=st.floats(-1e3, 1e3), log_variance=st.floats(-50, 50))
@settings(deadline=None)
def test_only_the_standard_normal_is_at_distance_zero(mean, log_variance):
    mu, v = torch.tensor([[mean]], dtype=torch.float64), torch.tensor([[log_variance]], dtype=torch.float64)
    value = gaussian_kl(mu, v)
    assert value >= 0
    if abs(mean) > 1e-100 or abs(log_variance) > 1e-100:
        assert value > 0
    assert gaussian_kl(torch.zeros(3), torch.zeros(3)).item() == 0


# Distillation


@PRECISIONS
@pytest.mark.parametrize("temperature", [1e-3, 0.25, 1, 4, 32, 1000, 1e6, 1e15, 1e30])
@pytest.mark.parametrize("gap", [1e-6, 1e-3, 0.1, 1.0, 10.0])
def test_softened_divergence_is_right_at_every_temperature_and_however_near_the_teacher(
    dtype, tolerance, temperature, gap
):
    teacher = torch.tensor([[1.0, -0.5, 3.0, 0.25]], dtype=dtype)
    student = teacher + torch.tensor([[0.5, -1.0, 0.125, 0.75]], dtype=dtype) * gap
    value, (gradient, _) = value_and_gradients(
        lambda z, t: distillation_loss(z, t, torch.tensor([0]), temperature=temperature, weight=1.0), student, teacher
    )
    with mpmath.workdps(4000 if temperature < 0.1 else 100):
        scale = mpf(temperature)
        p, q = ([mpmath.exp(mpf(v) / scale) for v in logits[0].tolist()] for logits in (teacher, student))
        p, q = ([v / mpmath.fsum(values) for v in values] for values in (p, q))
        truth = scale**2 * mpmath.fsum(a * mpmath.log(a / b) for a, b in zip(p, q, strict=True))
        slopes = [scale * (b - a) for a, b in zip(p, q, strict=True)]
        assert_near(value.item(), truth, tolerance)
        for ours, slope in zip(gradient[0].tolist(), slopes, strict=True):
            assert_near(ours, slope, tolerance, max(map(abs, slopes)))


@PRECISIONS
@pytest.mark.parametrize("unlikely", [-3.0, -30.0, -60.0])
@pytest.mark.parametrize("gap", [0.499, 0.501, 7.0, -7.0])
def test_softened_divergence_is_right_where_only_some_classes_agree(dtype, tolerance, unlikely, gap):
    teacher = torch.tensor([[1.0, 0.5, unlikely]], dtype=dtype)
    student = teacher + torch.tensor([[0.0, 1e-3, gap]], dtype=dtype)
    value, gradients = value_and_gradients(
        lambda z, t: distillation_loss(z, t, torch.tensor([0]), temperature=1.0, weight=1.0), student, teacher
    )
    with mpmath.workdps(100):
        p, q = ([mpmath.exp(mpf(v)) for v in logits[0].tolist()] for logits in (teacher, student))
        p, q = ([v / mpmath.fsum(values) for v in values] for values in (p, q))
        truth = mpmath.fsum(a * mpmath.log(a / b) for a, b in zip(p, q, strict=True))
        of_student = [b - a for a, b in zip(p, q, strict=True)]
        of_teacher = [a * (mpmath.log(a / b) - truth) for a, b in zip(p, q, strict=True)]
        assert_near(value.item(), truth, tolerance)
        for gradient, slopes in zip(gradients, (of_student, of_teacher), strict=True):
            for ours, slope in zip(gradient[0].tolist(), slopes, strict=True):
                assert_near(ours, slope, tolerance, max(map(abs, slopes)))


def test_softened_divergence_beyond_the_largest_float_is_infinite():
    z, t = 1e20 * torch.tensor([[0.0, 0.3, 1.0]]), 1e20 * torch.tensor([[0.1, 0.0, 2.0]])
    assert distillation_loss(z, t, torch.tensor([0]), temperature=1e20) == INF


@pytest.mark.parametrize(("temperature", "tolerance"), [(1e4, 1e-3), (1e12, 1e-11)])
def test_as_temperature_grows_distillation_becomes_half_the_mean_square_of_the_centred_difference(
    temperature, tolerance
):
    z, t = random(5, 4), random(5, 4, seed=1)
    centred = (z - t) - (z - t).mean(-1, keepdim=True)
    hot = distillation_loss(z, t, torch.zeros(5).long(), temperature=temperature, weight=1.0)
    torch.testing.assert_close(hot, centred.square().mean() / 2, rtol=tolerance, atol=0)


@pytest.mark.parametrize("shape", [(4,), (3, 4), (3, 4, 2)], ids=str)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_distillation_is_the_weighted_sum_of_two_losses_of_torch(shape, temperature, weight):
    z, t = 3 * random(*shape), 3 * random(*shape, seed=1)
    class_dim = 0 if len(shape) == 1 else 1
    target = t.argmin(class_dim)

    def torchs(z, t):
        log_q, log_p = (z / temperature).log_softmax(class_dim), (t / temperature).log_softmax(class_dim)
        kl = F.kl_div(log_q, log_p, log_target=True, reduction="none").sum(class_dim).mean()
        return weight * temperature**2 * kl + (1 - weight) * F.cross_entropy(z, target)

    def ours(z, t):
        return distillation_loss(z, t, target, temperature=temperature, weight=weight) + 0 * t.sum()

    torch.testing.assert_close(value_and_gradients(ours, z, t), value_and_gradients(torchs, z, t))


def test_distillation_takes_class_probabilities():
    z, t, target = random(5, 4), random(5, 4, seed=1), torch.tensor([0, 1, 2, 3, 0])
    one_hot = F.one_hot(target, 4).double()
    torch.testing.assert_close(distillation_loss(z, t, one_hot), distillation_loss(z, t, target))


def test_weight_zero_is_cross_entropy_and_weight_one_forgets_the_target():
    z, t, target = random(5, 4), random(5, 4, seed=1), torch.tensor([0, 1, 2, 3, 0])
    assert distillation_loss(z, t, target, weight=0.0) == cross_entropy(z, target)
    assert distillation_loss(z, t, target, weight=1.0) == distillation_loss(z, t, 3 - target, weight=1.0)


def test_the_gradient_of_distillation_does_not_vanish_as_temperature_grows():
    z, t = random(5, 4), random(5, 4, seed=1)
    sizes = [
        value_and_gradients(
            lambda z, t, scale=scale: distillation_loss(z, t, torch.zeros(5).long(), temperature=scale, weight=1.0),
            z,
            t,
        )[1][0].norm()
        for scale in (10.0, 1e5)
    ]
    assert sizes[1].item() == pytest.approx(sizes[0].item(), rel=0.2)


@given(seed=st.integers(0, 2**31), shift=st.floats(-50, 50))
@settings(deadline=None)
def test_distillation_ignores_a_constant_added_to_all_logits(seed, shift):
    z, t, target = random(5, 4, seed=seed), random(5, 4, seed=seed + 1), torch.tensor([0, 1, 2, 3, 0])
    torch.testing.assert_close(distillation_loss(z + shift, t - shift, target), distillation_loss(z, t, target))


@given(
    seed=st.integers(0, 2**31),
    ignored=st.lists(st.booleans(), min_size=6, max_size=6).filter(lambda rows: not all(rows)),
)
@settings(deadline=None)
def test_ignored_rows_count_no_more_than_removed_rows(seed, ignored):
    ignored, target = torch.tensor(ignored), torch.tensor([0, 1, 2, 3, 0, 1])
    z, t = random(6, 4, seed=seed), random(6, 4, seed=seed + 1)
    kept = distillation_loss(z[~ignored], t[~ignored], target[~ignored])
    z[ignored], t[ignored] = INF, -INF
    target = target.masked_fill(ignored, -100)
    value, gradients = value_and_gradients(lambda z, t: distillation_loss(z, t, target), z, t)
    torch.testing.assert_close(value, kept)
    for gradient in gradients:
        assert gradient[ignored].eq(0).all()
        assert gradient.isfinite().all()


def test_a_class_that_both_rule_out_does_not_count():
    z, t = torch.tensor([[1.0, -INF, 2.0]]), torch.tensor([[0.5, -INF, -3.0]])
    value, (gradient, _) = value_and_gradients(lambda z, t: distillation_loss(z, t, torch.tensor([0])), z, t)
    without = value_and_gradients(lambda z, t: distillation_loss(z, t, torch.tensor([0])), z[:, ::2], t[:, ::2])
    torch.testing.assert_close(value, without[0])
    torch.testing.assert_close(gradient[:, ::2], without[1][0])
    assert gradient[0, 1] == 0


@PRECISIONS
@pytest.mark.parametrize("certainty", [1e-3, 1.0, 15.0, 30.0, 80.0])
def test_the_gradient_in_a_teacher_keeps_its_digits_however_sure_the_teacher_is(certainty, dtype, tolerance):
    student = torch.tensor([[0.0, 0.5, 0.0]], dtype=dtype)
    teacher = torch.tensor([[0.0, certainty, 0.25 * certainty]], dtype=dtype)
    _, (_, gradient) = value_and_gradients(
        lambda z, t: distillation_loss(z, t, torch.tensor([0]), temperature=1.0, weight=1.0), student, teacher
    )
    with mpmath.workdps(50):
        p, q = ([mpmath.exp(mpf(v)) for v in logits[0].tolist()] for logits in (teacher, student))
        p, q = ([v / mpmath.fsum(w) for v in w] for w in (p, q))
        log_ratio = [mpmath.log(a / b) for a, b in zip(p, q, strict=True)]
        mean = mpmath.fdot(p, log_ratio)
        for ours, a, r in zip(gradient[0].tolist(), p, log_ratio, strict=True):
            assert abs(ours - a * (r - mean)) <= tolerance * abs(a * (r - mean))


@pytest.mark.parametrize("unlikely", [-INF, -200.0])
def test_a_class_that_only_the_teacher_rules_out_is_pushed_down(unlikely):
    z, t = torch.tensor([[1.0, 0.0, 2.0]]), torch.tensor([[0.5, unlikely, -3.0]])
    value, (gradient,) = value_and_gradients(
        lambda z: distillation_loss(z, t, torch.tensor([0]), temperature=1.0, weight=1.0), z
    )
    log_q, p = z.double().log_softmax(1), t.double().softmax(1)
    torch.testing.assert_close(value.double(), (torch.xlogy(p, p) - p * log_q).sum(), rtol=2e-6, atol=0)
    torch.testing.assert_close(gradient.double(), log_q.exp() - p, rtol=2e-6, atol=1e-8)


def test_a_class_that_only_the_student_rules_out_costs_infinity_and_leaves_no_nan_in_the_gradient():
    z, t = torch.tensor([[1.0, -INF, 2.0]]), torch.tensor([[0.5, 0.0, -3.0]])
    value, (gradient,) = value_and_gradients(lambda z: distillation_loss(z, t, torch.tensor([0])), z)
    assert value.item() == INF
    assert not gradient.isnan().any()


def test_the_student_that_minimises_the_softened_divergence_is_the_teacher():
    teacher = 3 * random(5, 4)
    value, (gradient, _) = value_and_gradients(
        lambda z, t: distillation_loss(z, t, torch.zeros(5).long(), weight=1.0), teacher + 7, teacher
    )
    assert abs(value.item()) < 1e-28
    assert gradient.abs().max() < 1e-14
    worse = distillation_loss(teacher + random(5, 4, seed=1), teacher, torch.zeros(5).long(), weight=1.0)
    assert worse > 0


# The NumPy twins


def test_kl_div_equals_its_twin():
    x, p = probabilities(5, 4).log(), probabilities(5, 4, seed=1)
    p[0] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    x[0, 1] = -INF
    for target, log_target in ((p, False), (p.log(), True)):
        options = {"log_target": log_target}
        value, (gradient, _) = value_and_gradients(kl_div, x, target, reduction="none", **options)
        np.testing.assert_allclose(
            value, reference.kl_div(x.numpy(), target.numpy(), **options), rtol=1e-12, atol=1e-15
        )
        np.testing.assert_allclose(gradient, reference.kl_div_grad(x.numpy(), target.numpy(), **options), rtol=1e-12)


@pytest.mark.parametrize("distance", [1e-8, 0.1, 1.0])
def test_js_divergence_equals_its_twin(distance):
    p, q = probabilities(5, 4), probabilities(5, 4, seed=1)
    p[0], q[0] = torch.tensor([1.0, 0.0, 0.0, 0.0]), torch.tensor([0.5, 0.5, 0.0, 0.0])
    q = p + distance * (q - p)
    value, (gradient, _) = value_and_gradients(js_divergence, p, q, reduction="none")
    np.testing.assert_allclose(value, reference.js_divergence(p.numpy(), q.numpy()), rtol=1e-12)
    truth = reference.js_divergence_grad(p.numpy(), q.numpy())
    occurs = p.numpy() > 0
    np.testing.assert_allclose(gradient.numpy()[occurs], truth[occurs], rtol=1e-12)
    assert np.isfinite(truth).all()


@pytest.mark.parametrize("scale", [1e-8, 0.1, 1.0, 10.0])
def test_gaussian_kl_equals_its_twin(scale):
    mu, v = scale * random(5, 4), scale * random(5, 4, seed=1)
    value, gradients = value_and_gradients(gaussian_kl, mu, v, reduction="none")
    np.testing.assert_allclose(value, reference.gaussian_kl(mu.numpy(), v.numpy()), rtol=1e-12)
    for ours, truth in zip(gradients, reference.gaussian_kl_grad(mu.numpy(), v.numpy()), strict=True):
        np.testing.assert_allclose(ours, truth, rtol=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 4.0, 1e6])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("gap", [1e-6, 0.1, 1.0])
def test_distillation_loss_equals_its_twin(temperature, weight, gap):
    teacher, target = 3 * random(5, 4), torch.tensor([0, 1, 2, 3, 0])
    student = teacher + gap * random(5, 4, seed=1)
    options = {"temperature": temperature, "weight": weight}
    value, (gradient,) = value_and_gradients(
        lambda z: distillation_loss(z, teacher, target, reduction="none", **options), student
    )
    arrays = student.numpy(), teacher.numpy(), target.numpy()
    np.testing.assert_allclose(value, reference.distillation_loss(*arrays, **options), rtol=1e-12)
    truth = reference.distillation_loss_grad(*arrays, **options)
    np.testing.assert_allclose(gradient, truth, rtol=1e-12, atol=1e-12 * abs(truth).max())


# Bad input

ONES, HALVES, INDICES = torch.ones(2, 3), torch.full((3, 2), 0.5), torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: kl_div([0.0], ONES), TypeError, "input must be a torch.Tensor, got list"),
        (lambda: kl_div(ONES, [0.0]), TypeError, "target must be a torch.Tensor, got list"),
        (lambda: kl_div(ONES.long(), ONES), TypeError, "input must be a floating-point tensor, got torch.int64"),
        (lambda: kl_div(ONES, ONES.long()), TypeError, "target must be a floating-point tensor, got torch.int64"),
        (lambda: kl_div(ONES, ONES[:, :1]), ValueError, r"input and target .* got \(2, 3\) and \(2, 1\)"),
        (lambda: kl_div(ONES, ONES, reduction="avg"), ValueError, "'sum', 'batchmean', got 'avg'"),
        (lambda: js_divergence(0.5, HALVES), TypeError, "input must be a torch.Tensor, got float"),
        (lambda: js_divergence(HALVES, HALVES.int()), TypeError, "target must be a floating.* got torch.int32"),
        (lambda: js_divergence(torch.tensor(1.0), HALVES), ValueError, "input must hold vectors .* got a scalar"),
        (lambda: js_divergence(HALVES, HALVES[:1]), ValueError, r"input and target .* got \(3, 2\) and \(1, 2\)"),
        (lambda: js_divergence(HALVES - 1, HALVES), ValueError, "input must hold probabilities, got -0.5"),
        (lambda: js_divergence(HALVES, 2 * HALVES), ValueError, r"target must sum to 1 .* got a sum of 2"),
        (lambda: js_divergence(HALVES, HALVES, reduction="batchmean"), ValueError, "'sum', got 'batchmean'"),
        (lambda: gaussian_kl(0.0, ONES), TypeError, "mean must be a torch.Tensor, got float"),
        (lambda: gaussian_kl(ONES, ONES.long()), TypeError, "log_variance must be a floating.* got torch.int64"),
        (lambda: gaussian_kl(torch.tensor(0.0), ONES), ValueError, "mean must hold vectors .* got a scalar"),
        (lambda: gaussian_kl(ONES, ONES[:1]), ValueError, r"got mean \(2, 3\) and log_variance \(1, 3\)"),
        (lambda: gaussian_kl(ONES, ONES, reduction="avg"), ValueError, "'sum', got 'avg'"),
        (lambda: distillation_loss(1.0, ONES, INDICES), TypeError, "input must be a torch.Tensor, got float"),
        (lambda: distillation_loss(ONES, 1.0, INDICES), TypeError, "teacher must be a torch.Tensor, got float"),
        (lambda: distillation_loss(ONES, ONES.int(), INDICES), TypeError, "teacher must be a floating.* torch.int32"),
        (lambda: distillation_loss(ONES, ONES[:1], INDICES), ValueError, r"input \(2, 3\) and teacher \(1, 3\)"),
        (lambda: distillation_loss(ONES, ONES, 3 * INDICES), ValueError, r"in \[0, 3\) .* got 3"),
        (lambda: distillation_loss(ONES, ONES, INDICES, reduction="avg"), ValueError, "'sum', got 'avg'"),
        (lambda: distillation_loss(ONES, ONES, INDICES, temperature=0.0), ValueError, "positive and finite, got 0.0"),
        (lambda: distillation_loss(ONES, ONES, INDICES, temperature=-1), ValueError, "positive and finite, got -1"),
        (lambda: distillation_loss(ONES, ONES, INDICES, temperature=INF), ValueError, "positive and finite, got inf"),
        (lambda: distillation_loss(ONES, ONES, INDICES, temperature="4"), TypeError, "temperature .* number, got str"),
        (lambda: distillation_loss(ONES, ONES, INDICES, weight=1.5), ValueError, "between 0 and 1, got 1.5"),
        (lambda: distillation_loss(ONES, ONES, INDICES, weight=-0.5), ValueError, "between 0 and 1, got -0.5"),
        (lambda: distillation_loss(ONES, ONES, INDICES, weight=None), TypeError, "weight must be a number, got None"),
    ],
)
def test_bad_input_is_refused_with_what_was_given_and_what_is_wanted(call, error, message):
    with pytest.raises(error, match=message):
        call()
