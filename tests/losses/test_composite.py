"""Sums of named losses: against 50 digits of mpmath, against NumPy twins, and against what theory says of them."""

import copy
import io
import math

import mpmath
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import grad, gradcheck, gradgradcheck

from lib.losses import composite as losses
from lib.reference import composite as reference

TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-12}
DTYPES = list(TOLERANCE)
NAMES = ("label", "depth", "normal")
WEIGHTS = {"label": 1.0, "depth": 0.25, "normal": 3.0}
MODULES = (losses.UncertaintyWeighting, losses.GradNorm)

positive = st.floats(1e-3, 1e3)
each_module = pytest.mark.parametrize("module", MODULES)


def scalars(values, dtype=torch.float64):
    return {
        name: torch.tensor(value, dtype=dtype, requires_grad=True) for name, value in zip(NAMES, values, strict=False)
    }


def stacked(terms):
    return np.array([term.item() for term in terms.values()])


def gradients(total, terms):
    return np.array([slope.item() for slope in grad(total, list(terms.values()))])


def uncertainty_weighting(log_variances, dtype=torch.float64):
    weighting = losses.UncertaintyWeighting(NAMES[: len(log_variances)]).to(dtype)
    weighting.log_variance.data = torch.tensor(log_variances, dtype=dtype)
    return weighting


def gradnorm(weights, **options):
    weighting = losses.GradNorm(NAMES[: len(weights)], **options).double()
    weighting.log_weight.copy_(torch.tensor(weights, dtype=torch.float64).log())
    return weighting


def total_of(case, terms):
    """The total of each of the three ways, with weights that are not all alike."""
    if case == "weighted_sum":
        return losses.weighted_sum(terms, WEIGHTS)
    if case == "UncertaintyWeighting":
        return uncertainty_weighting([0.7, -1.2, 2.0])(terms)
    return gradnorm([0.5, 1.5, 1.0])(terms)


each_way = pytest.mark.parametrize("case", ["weighted_sum", "UncertaintyWeighting", "GradNorm"])


# Against mpmath


def assert_close_to(ours, truth, scale, dtype):
    """Compare relative to the size of the terms, for their sum may cancel; what is too small for the dtype may be 0."""
    assert abs(mpmath.mpf(ours) - truth) <= TOLERANCE[dtype] * scale + torch.finfo(dtype).tiny


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("values", [(1e-30, 3e-30, 0.0), (0.1, 20.0, -7.3), (1e30, 1.0, -1e30), (1e-20, 1e20, 0.3)])
@pytest.mark.parametrize("weights", [(1.0, 0.1, 1 / 3), (1e-8, 1e8, 0.7), (5e-30, 0.0, 1e-4)])
def test_weighted_sum_is_right_at_every_scale(values, weights, dtype):
    terms = scalars(values, dtype)
    total = losses.weighted_sum(terms, dict(zip(NAMES, weights, strict=True)))
    with mpmath.workdps(50):
        truths = [mpmath.mpf(w) * mpmath.mpf(t.item()) for w, t in zip(weights, terms.values(), strict=True)]
        assert_close_to(total.item(), sum(truths), sum(map(abs, truths)), dtype)
        for weight, slope in zip(weights, grad(total, list(terms.values()), allow_unused=True), strict=True):
            assert_close_to(0.0 if slope is None else slope.item(), mpmath.mpf(weight), weight, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("s", [-160.0, -88.0, -0.3, 0.0, 1e-5, 1.7, 40.0, 120.0])
@pytest.mark.parametrize("size", [1e-30, 1e-4, 1.0, 22026.0, 1e30])
def test_learned_weights_are_right_at_every_scale(s, size, dtype):
    weighting = uncertainty_weighting([s], dtype)
    terms = scalars([size], dtype)
    with mpmath.workdps(50):
        variance, term = mpmath.exp(mpmath.mpf(weighting.log_variance.item())), mpmath.mpf(terms["label"].item())
        if term / variance > torch.finfo(dtype).max:
            return
        total = weighting(terms)
        slope, slope_of_variance = grad(total, [terms["label"], weighting.log_variance])
        s = mpmath.log(variance)
        assert_close_to(total.item(), (term / variance + s) / 2, (term / variance + abs(s)) / 2, dtype)
        assert_close_to(slope_of_variance.item(), (1 - term / variance) / 2, (1 + term / variance) / 2, dtype)
        if 2 * variance > 1 / mpmath.mpf(torch.finfo(dtype).max) and 2 * variance < 1 / torch.finfo(dtype).tiny:
            assert_close_to(slope.item(), 1 / (2 * variance), 1 / (2 * variance), dtype)


@pytest.mark.parametrize("scale", [1e-30, 1e-5, 1.0, 1e30])
def test_gradient_norms_neither_over_nor_underflow(scale):
    shared = torch.tensor([3.0, 4.0], requires_grad=True)
    weighting = losses.GradNorm(("unit", "scaled"), alpha=0.0, rate=1.0)
    weighting.balance({"unit": (5 * shared).sum(), "scaled": (scale * shared).sum()}, shared)
    with mpmath.workdps(50):
        truth = 2 / (1 + mpmath.mpf(torch.tensor(scale).item()) / 5)  # as norms, 5 to scale
        other = 2 - truth
        weights = weighting.weights
        # the exponent of a weight is a float32: near exp(70) its rounding is 70 times that of the weight
        assert abs(weights["scaled"] / truth - 1) <= 2e-5
        assert abs(weights["unit"] / other - 1) <= 2e-5


# Against the NumPy twins


@pytest.mark.parametrize("seed", range(5))
def test_the_twin_of_the_weighted_sum_has_its_value_and_gradient(seed):
    generator = np.random.default_rng(seed)
    terms, weights = scalars(generator.standard_normal(3)), generator.exponential(size=3)
    weights[seed % 3] = 0.0
    total = losses.weighted_sum(terms, dict(zip(NAMES, weights, strict=True)))
    slopes = [s.item() if s is not None else 0.0 for s in grad(total, list(terms.values()), allow_unused=True)]
    assert reference.weighted_sum(stacked(terms), weights) == pytest.approx(total.item(), rel=1e-12)
    np.testing.assert_allclose(reference.weighted_sum_grad(stacked(terms), weights), slopes, rtol=1e-12)


def test_the_twin_leaves_a_term_of_weight_0_out_too():
    assert reference.weighted_sum([2.0, np.inf, np.nan], [3.0, 0.0, 0.0]) == 6


def test_the_twins_compute_in_float64():
    single = np.array([0.1, 0.2], dtype=np.float32)
    assert reference.weighted_sum(single, single) == reference.weighted_sum(single.astype(float), single.astype(float))


@pytest.mark.parametrize("seed", range(5))
def test_the_twin_of_the_learned_weights_has_their_value_and_gradients(seed):
    generator = np.random.default_rng(seed)
    terms, log_variances = scalars(generator.exponential(size=3)), 3 * generator.standard_normal(3)
    weighting = uncertainty_weighting(log_variances)
    total = weighting(terms)
    twin_of_terms, twin_of_variances = reference.uncertainty_weighting_grad(stacked(terms), log_variances)
    assert reference.uncertainty_weighting(stacked(terms), log_variances) == pytest.approx(total.item(), rel=1e-12)
    np.testing.assert_allclose(twin_of_terms, gradients(weighting(terms), terms), rtol=1e-12)
    np.testing.assert_allclose(twin_of_variances, grad(total, weighting.log_variance)[0], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(twin_of_terms, list(weighting.weights.values()), rtol=1e-12)


def quadratic_tasks(seed, tasks=3, parameters=4):
    """Return shared parameters, and what computes the losses |A x - b|^2 of several tasks in them."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(parameters, generator=generator, dtype=torch.float64).requires_grad_()
    matrices = torch.randn(tasks, 5, parameters, generator=generator, dtype=torch.float64)
    scales = torch.randn(tasks, generator=generator, dtype=torch.float64).exp()

    def terms():
        values = scales * ((matrices @ shared - 1) ** 2).sum(1)
        return dict(zip(NAMES, values, strict=False))

    return shared, terms


def norms_of(terms, shared):
    return np.array([grad(term, shared, retain_graph=True)[0].norm().item() for term in terms.values()])


@pytest.mark.parametrize("options", [{}, {"alpha": 0.0, "rate": 1.0}, {"alpha": 3.0, "rate": 0.4}], ids=str)
def test_the_twin_balances_as_the_module_does_over_several_steps(options):
    shared, terms = quadratic_tasks(0)
    weighting, weights, first = gradnorm([1.0, 1.0, 1.0], **options), np.ones(3), stacked(terms())
    for _ in range(5):
        now = terms()
        weighting.balance(now, shared)
        weights = reference.gradnorm_weights(weights, norms_of(now, shared), stacked(now), first, **options)
        np.testing.assert_allclose(list(weighting.weights.values()), weights, rtol=1e-12)
        total = weighting(now)
        assert reference.weighted_sum(stacked(now), weights) == pytest.approx(total.item(), rel=1e-12)
        shared.data -= 0.01 * grad(total, shared)[0]


# What holds for all three


@each_way
def test_gradient_is_the_derivative_of_the_value_and_can_be_derived_again(case):
    def total(*values):
        return total_of(case, dict(zip(NAMES, values, strict=True)))

    values = list(scalars([0.4, 2.0, 5.0]).values())
    assert gradcheck(total, values)
    assert gradgradcheck(total, values)


def test_the_learned_weights_can_be_derived_again():
    weighting = uncertainty_weighting([0.7, -1.2, 2.0])
    terms = scalars([0.4, 2.0, 5.0])

    def total(log_variance, *values):
        named = dict(zip(NAMES, values, strict=True))
        return torch.func.functional_call(weighting, {"log_variance": log_variance}, (named,))

    assert gradcheck(total, (weighting.log_variance, *terms.values()))
    assert gradgradcheck(total, (weighting.log_variance, *terms.values()))


@each_way
@given(order=st.permutations(NAMES))
@settings(deadline=None)
def test_the_order_in_which_terms_are_given_does_not_matter(case, order):
    terms = scalars([0.4, 2.0, 5.0])
    reordered = {name: terms[name] for name in order}
    torch.testing.assert_close(total_of(case, reordered), total_of(case, terms))


@each_way
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32_and_rounded_once(case, dtype):
    terms = {name: torch.tensor(value).to(dtype) for name, value in zip(NAMES, (0.4, 1.23, 777.0), strict=True)}
    exact = total_of(case, {name: term.float() for name, term in terms.items()})
    assert exact.dtype == torch.float32
    total = total_of(case, terms)
    assert total.dtype == dtype
    assert total == exact.to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert total_of(case, terms) == exact
        assert total_of(case, terms).dtype == torch.float32


@each_way
def test_terms_of_several_dtypes_give_the_dtype_they_promote_to(case):
    values = (1 / 3, 1.23, 7.0)
    mixed = {
        name: torch.tensor(value).to(dtype)
        for name, value, dtype in zip(NAMES, values, (torch.float16, torch.float64, torch.float32), strict=True)
    }
    total = total_of(case, mixed)
    assert total.dtype == torch.float64
    torch.testing.assert_close(total, total_of(case, {name: term.double() for name, term in mixed.items()}))
    assert total_of(case, mixed | {"depth": torch.tensor(1.23)}).dtype == torch.float32
    assert total_of(case, mixed | {"depth": torch.tensor(1.23).half()}).dtype == torch.float32


@each_way
def test_the_sum_can_be_mapped_over_many_sets_of_terms(case):
    many = torch.rand(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def total(row):
        return total_of(case, dict(zip(NAMES, row.unbind(), strict=True)))

    torch.testing.assert_close(torch.func.vmap(total)(many), torch.stack([total(row) for row in many]))


@each_way
def test_the_sum_compiles_to_one_graph(case):
    torch.compiler.reset()
    terms = scalars([0.4, 2.0, 5.0])
    if case == "weighted_sum":
        total, parameters = lambda terms: losses.weighted_sum(terms, WEIGHTS), []
    else:
        total = uncertainty_weighting([0.7, -1.2, 2.0]) if case[0] == "U" else gradnorm([0.5, 1.5, 1.0])
        parameters = list(total.parameters())
    compiled = torch.compile(total, backend="aot_eager", fullgraph=True)
    leaves = [*terms.values(), *parameters]
    torch.testing.assert_close(compiled(terms), total(terms))
    torch.testing.assert_close(grad(compiled(terms), leaves), grad(total(terms), leaves))


# A weighted sum


def test_a_term_of_weight_0_is_left_out_whatever_its_value():
    terms = scalars([2.0, math.inf, math.nan])
    total = losses.weighted_sum(terms, {"label": 3.0, "depth": 0, "normal": 0.0})
    assert total.item() == 6
    assert grad(total, list(terms.values()), allow_unused=True)[1:] == (None, None)


@given(a=st.tuples(positive, positive, positive), b=st.tuples(positive, positive, positive), share=positive)
@settings(deadline=None)
def test_the_sum_is_linear_in_the_terms_and_in_the_weights(a, b, share):
    terms, others, weights = scalars(a), scalars(b), dict(zip(NAMES, b, strict=True))
    total = losses.weighted_sum(terms, weights)
    mixed = {name: terms[name] + share * others[name] for name in NAMES}
    expected = total + share * losses.weighted_sum(others, weights)
    torch.testing.assert_close(losses.weighted_sum(mixed, weights), expected)
    scaled = {name: share * weight for name, weight in weights.items()}
    torch.testing.assert_close(losses.weighted_sum(terms, scaled), share * total)


def test_a_single_term_of_weight_1_is_itself():
    term = torch.tensor(0.1)
    assert losses.weighted_sum({"only": term}, {"only": 1}) == term


# Learned weights


@given(values=st.tuples(positive, positive, positive), seed=st.integers(0, 2**31))
@settings(deadline=None)
def test_the_best_variance_of_a_term_is_the_term_and_leaves_half_its_logarithm(values, seed):
    terms = scalars(values)
    best = uncertainty_weighting(np.log(values))
    total = best(terms)
    assert total.item() == pytest.approx(sum(1 + math.log(value) for value in values) / 2)
    np.testing.assert_allclose(grad(total, best.log_variance)[0], 0, atol=1e-12)
    away = uncertainty_weighting(np.log(values) + np.random.default_rng(seed).standard_normal(3))
    assert away(terms) > total


def test_gradient_descent_finds_the_weights_which_are_half_the_inverse_of_the_terms():
    terms = {"label": torch.tensor(0.2), "depth": torch.tensor(50.0), "normal": torch.tensor(3.0)}
    weighting = losses.UncertaintyWeighting(NAMES)
    optimiser = torch.optim.Adam(weighting.parameters(), lr=0.1)
    for _ in range(500):
        optimiser.zero_grad()
        weighting(terms).backward()
        optimiser.step()
    assert weighting.weights == pytest.approx({name: 1 / (2 * term.item()) for name, term in terms.items()}, rel=1e-3)


def test_at_first_every_weight_is_one_half():
    weighting = losses.UncertaintyWeighting(NAMES)
    assert weighting.weights == dict.fromkeys(NAMES, 0.5)
    assert weighting({name: torch.tensor(2.0) for name in NAMES}).item() == 3


@given(log_variance=st.floats(-3, 3), seed=st.integers(0, 2**31))
@settings(deadline=None)
def test_of_a_mean_squared_error_it_is_the_likelihood_of_a_gaussian_with_one_learned_variance(log_variance, seed):
    generator = torch.Generator().manual_seed(seed)
    guess, truth = torch.randn(2, 20, generator=generator, dtype=torch.float64)
    total = uncertainty_weighting([log_variance])({"label": F.mse_loss(guess, truth)})
    variance = torch.full_like(truth, math.exp(log_variance))
    torch.testing.assert_close(total, F.gaussian_nll_loss(guess, truth, variance))


@given(value=positive, s=st.floats(-3, 3))
@settings(deadline=None)
def test_the_other_forms_in_use_are_this_one_shifted_or_doubled(value, s):
    term = scalars([value])
    papers_for_classification = math.exp(-s) * value + s / 2
    shifted = uncertainty_weighting([s - math.log(2)])(term).item() + math.log(2) / 2
    assert papers_for_classification == pytest.approx(shifted)
    assert math.exp(-s) * value + s == pytest.approx(2 * uncertainty_weighting([s])(term).item())


@given(unit=positive, values=st.tuples(positive, positive), s=st.tuples(st.floats(-3, 3), st.floats(-3, 3)))
@settings(deadline=None)
def test_the_unit_of_a_term_shifts_its_log_variance_and_the_total_by_a_constant(unit, values, s):
    total = uncertainty_weighting(s)(scalars(values))
    other_unit = uncertainty_weighting([s[0] + math.log(unit), s[1]])(scalars([unit * values[0], values[1]]))
    torch.testing.assert_close(other_unit, total + math.log(unit) / 2)


def test_a_module_in_double_precision_takes_terms_in_single_and_the_other_way_round():
    terms = scalars([0.4, 2.0], torch.float32)
    assert uncertainty_weighting([0.5, -0.5])(terms).dtype == torch.float32
    weighting = losses.UncertaintyWeighting(NAMES[:2])
    assert weighting(scalars([0.1, 0.2])).item() == pytest.approx(0.15, rel=1e-15)


def test_a_module_in_half_precision_computes_in_float32():
    weighting = uncertainty_weighting([9.7, -9.7]).half()
    exact = copy.deepcopy(weighting).float()
    terms = scalars([1234.5, 0.0101], torch.float32)
    assert weighting(terms) == exact(terms)
    assert weighting.weights == exact.weights


@pytest.mark.parametrize("s", [-100.0, -180.0, -1000.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_a_term_of_0_costs_half_its_log_variance_however_large_its_weight(dtype, s):
    weighting = uncertainty_weighting([s, 0.5], dtype)
    terms = scalars([0.0, 3.0], dtype)
    total = weighting(terms)
    of_idle, _, of_variances = grad(total, [*terms.values(), weighting.log_variance])
    rest = (3 * math.exp(-0.5) + 0.5) / 2
    assert total.item() == pytest.approx(s / 2 + rest, rel=1e-3 if dtype == torch.float16 else 1e-6)
    assert of_variances[0] == 0.5
    assert of_variances[1] == pytest.approx((1 - 3 * math.exp(-0.5)) / 2, rel=1e-3)
    assert of_idle.isfinite()  # on its way to the model it meets gradients of 0


def test_the_twin_holds_a_term_of_0_at_any_weight():
    with np.errstate(over="ignore"):
        assert reference.uncertainty_weighting([0.0], [-1000.0]) == -500
        assert reference.uncertainty_weighting_grad([0.0], [-1000.0])[1] == 0.5


def test_a_term_of_0_keeps_its_weight_as_gradient_while_a_float_can_hold_it():
    terms = scalars([0.0, 0.0])
    assert gradients(uncertainty_weighting([-300.0, 2.0])(terms), terms) == pytest.approx(
        [math.exp(300) / 2, math.exp(-2) / 2]
    )


def test_training_goes_on_when_a_term_has_long_been_0():
    weight = torch.tensor([2.0], requires_grad=True)
    weighting = losses.UncertaintyWeighting(["hinge", "exact", "error"])
    weighting.log_variance.data[:2] = -176.0  # where 3500 steps lead
    optimiser = torch.optim.SGD([weight, *weighting.parameters()], lr=0.1)
    for _ in range(100):
        terms = {"hinge": (1 - weight).relu().sum(), "exact": (0 * weight).square().sum()}
        optimiser.zero_grad()
        weighting(terms | {"error": (weight - 3).square().sum() + 0.01}).backward()
        optimiser.step()
    assert weighting.log_variance.isfinite().all()
    assert weighting.log_variance[0] < -180
    assert weight.item() == pytest.approx(3, abs=0.1)


# Balanced gradients


@given(alpha=st.floats(0, 5), rate=st.floats(0.01, 1), seed=st.integers(0, 2**31))
@settings(deadline=None)
def test_identical_tasks_keep_equal_weights(alpha, rate, seed):
    shared, terms = quadratic_tasks(seed, tasks=1)
    weighting = losses.GradNorm(NAMES, alpha=alpha, rate=rate)
    for _ in range(3):
        term = terms()["label"]
        weighting.balance(dict.fromkeys(NAMES, term), shared)
        shared.data *= 0.9
    np.testing.assert_allclose(list(weighting.weights.values()), 1, rtol=1e-5)


def test_at_first_the_total_is_the_plain_sum():
    weighting = losses.GradNorm(NAMES)
    assert weighting.weights == pytest.approx(dict.fromkeys(NAMES, 1.0))
    assert weighting(scalars([1.0, 2.0, 4.0])).item() == pytest.approx(7, rel=1e-6)


@pytest.mark.parametrize(("rate", "calls"), [(1.0, 1), (0.1, 300)])
def test_a_task_in_a_hundredfold_unit_ends_with_a_hundredth_of_the_weight_and_pulls_no_harder(rate, calls):
    shared, _ = quadratic_tasks(0)
    term = (shared - 1).square().sum()
    terms = {"label": term, "depth": 100 * term}
    weighting = gradnorm([1.0, 1.0], alpha=0.0, rate=rate)
    for _ in range(calls):
        weighting.balance(terms, shared)
    assert weighting.weights == pytest.approx({"label": 200 / 101, "depth": 2 / 101})
    norms = norms_of(terms, shared) * list(weighting.weights.values())
    assert norms[0] == pytest.approx(norms[1])


@given(alpha=st.floats(0, 3), rate=st.floats(0.05, 1), seed=st.integers(0, 2**31))
@settings(deadline=None)
def test_each_call_covers_its_share_of_the_way_to_norms_in_proportion_to_the_training_rates(alpha, rate, seed):
    shared, terms = quadratic_tasks(seed)
    weighting = gradnorm([0.2, 0.9, 1.9], alpha=alpha, rate=rate)
    first = terms()
    weighting.balance(first, shared)
    shared.data *= 0.7
    now = terms()
    left = stacked(now) / stacked(first)

    def distances():
        excess = np.log(norms_of(now, shared) * list(weighting.weights.values()) / left**alpha)
        return excess - excess[0]

    before = distances()
    weighting.balance(now, shared)
    np.testing.assert_allclose(distances(), (1 - rate) * before, atol=1e-9)


def test_a_task_that_lags_behind_may_pull_harder():
    shared = torch.tensor([1.0, 1.0], dtype=torch.float64, requires_grad=True)
    weighting = gradnorm([1.0, 1.0], alpha=1.0, rate=1.0)
    weighting.balance({"label": shared[0], "depth": shared[1]}, shared)
    assert weighting.weights == pytest.approx({"label": 1, "depth": 1})
    weighting.balance({"label": shared[0], "depth": shared[1] - 0.75}, shared)  # a quarter is left of the second
    assert weighting.weights == pytest.approx({"label": 2 * 0.8, "depth": 2 * 0.2})


@given(seed=st.integers(0, 2**31), scale=st.floats(1e-12, 1e12))
@settings(deadline=None)
def test_the_weights_stay_positive_and_add_up_to_their_number(seed, scale):
    shared, terms = quadratic_tasks(seed)
    weighting = losses.GradNorm(NAMES, rate=0.7)
    for _ in range(5):
        weighting.balance(terms() | {"depth": scale * terms()["depth"]}, shared)
        shared.data += torch.randn(4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    weights = list(weighting.weights.values())
    assert min(weights) > 0
    assert sum(weights) == pytest.approx(3, rel=1e-5)


def test_the_default_moves_by_a_tenth_and_favours_slow_tasks_by_the_power_one_and_a_half():
    shared, terms = quadratic_tasks(1)
    modules = [gradnorm([1.0] * 3), gradnorm([1.0] * 3, alpha=1.5, rate=0.1)]
    for _ in range(3):
        for weighting in modules:
            weighting.balance(terms(), shared)
        shared.data *= 0.8
    assert modules[0].weights == modules[1].weights


def test_balancing_leaves_no_gradient_in_the_model_and_its_graph_whole():
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    output = model(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)))
    terms = {"label": output[:, 0].square().mean(), "depth": 7 * output[:, 1].abs().mean()}
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    weighting = losses.GradNorm(terms, rate=0.5)
    weighting.balance(terms, model[0].parameters())
    assert all(parameter.grad.eq(3).all() for parameter in model.parameters())
    assert weighting.weights["label"] != weighting.weights["depth"]
    weights, total = weighting.weights, weighting(terms)
    ours = grad(total, list(model.parameters()), retain_graph=True)
    by_hand = grad(sum(weights[name] * terms[name] for name in terms), list(model.parameters()))
    torch.testing.assert_close(ours, by_hand)
    assert not list(weighting.parameters())


def test_balancing_works_inside_no_grad_on_a_graph_from_outside():
    shared, terms = quadratic_tasks(2)
    outside, inside, now = losses.GradNorm(NAMES), losses.GradNorm(NAMES), terms()
    outside.balance(now, shared)
    with torch.no_grad():
        inside.balance(now, shared)
    assert inside.weights == outside.weights


def test_the_norm_is_that_of_all_shared_parameters_together_given_in_any_way():
    generator = torch.Generator().manual_seed(0)
    matrix, vector = (torch.randn(n, generator=generator, dtype=torch.float64).requires_grad_() for n in (6, 2))
    joint = torch.cat([matrix, vector]).detach().requires_grad_()

    def terms(whole):
        return {"label": whole.square().sum(), "depth": whole[:3].pow(3).sum().square()}  # the second: of matrix alone

    results = []
    for whole, shared in [
        (joint, joint),
        (joint, [joint]),
        (torch.cat([matrix, vector]), [matrix, vector]),
        (torch.cat([matrix, vector]), iter([vector, matrix])),
        (torch.cat([matrix, vector]), [matrix, vector, torch.ones(2, requires_grad=True)]),
    ]:
        weighting = losses.GradNorm(("label", "depth"), alpha=0.0, rate=1.0).double()
        weighting.balance(terms(whole), shared)
        results.append(weighting.weights)
    assert all(result == pytest.approx(results[0], rel=1e-12) for result in results)


@pytest.mark.parametrize(
    "idle",
    [
        lambda x: 0 * x.sum(),
        lambda x: x.sum() - x.sum().detach(),
        lambda x: (0 * x).sum() + 2,
        lambda x: x.square().sum().add(1).mul(torch.inf),
        lambda x: x.sum().mul(0).exp().log().sqrt() + 1,  # finite, with the gradient NaN
    ],
    ids=["zero loss and gradient", "zero loss", "zero gradient", "infinite loss", "gradient that is no number"],
)
def test_a_term_without_a_usable_gradient_neither_moves_nor_counts(idle):
    shared, terms = quadratic_tasks(3, tasks=2)
    two, three = gradnorm([1.0, 1.0]), gradnorm([1.0, 1.0, 1.0])
    for _ in range(2):
        shared.data *= 0.8
        now = terms()
        two.balance(now, shared)
        three.balance(now | {"normal": idle(shared)}, shared)
    assert two.weights["label"] != pytest.approx(1, rel=1e-3)
    assert three.weights == pytest.approx(two.weights | {"normal": 1.0}, rel=1e-12)


def test_where_no_term_has_a_usable_gradient_the_weights_stay():
    shared = torch.ones(2, dtype=torch.float64, requires_grad=True)
    weighting = gradnorm([0.5, 1.5])
    weighting.balance({"label": 0 * shared.sum(), "depth": (0 * shared).sum() + 1}, shared)
    assert weighting.weights == pytest.approx({"label": 0.5, "depth": 1.5}, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_cast_to_half_precision_the_balance_keeps_large_first_losses_and_small_steps(dtype):
    halved = torch.nn.ModuleDict({"weighting": losses.GradNorm(NAMES[:2], rate=1e-3)}).to(dtype)["weighting"]
    single = losses.GradNorm(NAMES[:2], rate=1e-3)
    shared = torch.tensor([300.0, 400.0], requires_grad=True)
    for _ in range(30):
        terms = {"label": shared.square().sum(), "depth": 1.2 * shared.sum()}  # the first is 250000
        for weighting in (halved, single):
            weighting.balance(terms, shared)
        shared.data *= 0.9
    assert halved.weights == single.weights
    assert single.weights["label"] < 0.99


def test_a_module_made_while_half_precision_is_the_default_keeps_its_balance_in_float32():
    default = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.bfloat16)
        weighting = losses.GradNorm(NAMES)
    finally:
        torch.set_default_dtype(default)
    assert weighting.log_weight.dtype == weighting.first_loss.dtype == torch.float32


@pytest.mark.parametrize("size", [1e50, 1e-50])
def test_a_first_loss_that_the_buffer_cannot_hold_is_none(size):
    shared = torch.ones(2, dtype=torch.float64, requires_grad=True)
    weighting = losses.GradNorm(NAMES[:2])
    weighting.balance({"label": shared.sum(), "depth": size * shared.sum()}, shared)
    assert weighting.first_loss.tolist() == [2, 0]
    assert weighting.weights == pytest.approx({"label": 1, "depth": 1})


def test_the_first_loss_is_the_first_that_is_finite_and_above_0():
    shared = torch.ones(2, requires_grad=True)
    weighting = losses.GradNorm(NAMES)
    seen = []
    for factors in [(0.0, 2.0, math.inf), (3.0, 5.0, math.inf), (7.0, 8.0, 9.0), (1.0, 1.0, 1.0)]:
        weighting.balance({name: f * shared.square().mean() for name, f in zip(NAMES, factors, strict=True)}, shared)
        seen.append(weighting.first_loss.tolist())
    assert seen == [[0, 2, 0], [3, 2, 0], [3, 2, 9], [3, 2, 9]]


# The names, and saved states


@each_module
def test_a_saved_state_resumes_exactly(module):
    shared, terms = quadratic_tasks(4)
    weighting = module(NAMES)

    def train(weighting):
        now = terms()
        if module is losses.GradNorm:
            weighting.balance(now, shared)
        else:
            (slope,) = grad(weighting(now), weighting.log_variance)
            weighting.log_variance.data -= 0.1 * slope
        return weighting(terms()).item()

    train(weighting)
    saved = io.BytesIO()
    torch.save(weighting.state_dict(), saved)
    saved.seek(0)
    resumed = module(NAMES)
    resumed.load_state_dict(torch.load(saved))
    shared.data *= 0.9
    assert [train(resumed) for _ in range(3)] == [train(weighting) for _ in range(3)]
    assert resumed.weights == weighting.weights != module(NAMES).weights


@each_module
@pytest.mark.parametrize("others", [("label", "normal", "depth"), ("label", "depth", "pose")], ids=str)
def test_a_state_of_other_terms_or_another_order_is_refused(module, others):
    with pytest.raises(ValueError, match=r"of the terms 'label', 'depth', 'normal', got 'label', .*"):
        module(NAMES).load_state_dict(module(others).state_dict())


@each_module
def test_a_state_that_is_refused_changes_no_number(module):
    weighting, other = module(NAMES), module(NAMES[::-1])
    for tensor in (*other.parameters(), *other.buffers()):
        tensor.data += 7
    model = torch.nn.ModuleDict({"weighting": weighting})
    before = [tensor.clone() for tensor in (*weighting.parameters(), *weighting.buffers())]
    with pytest.raises(ValueError, match="the state to load must be of the terms"):
        model.load_state_dict({f"weighting.{name}": value for name, value in other.state_dict().items()})
    after = [*weighting.parameters(), *weighting.buffers()]
    assert all(a.equal(b) for a, b in zip(after, before, strict=True))


@each_module
def test_the_weights_follow_the_terms_to_their_device(module):
    terms = {name: torch.ones((), device="meta", requires_grad=True) for name in NAMES}
    assert module(NAMES)(terms).device.type == "meta"
    moved = module(NAMES).to_empty(device="meta", recurse=False).half()
    assert {tensor.device.type for tensor in (*moved.parameters(), *moved.buffers())} == {"meta"}


@each_module
def test_a_part_of_a_model_is_saved_moved_and_printed_with_it(module):
    model = torch.nn.ModuleDict({"net": torch.nn.Linear(1, 1), "weighting": module(name for name in NAMES)})
    assert model["weighting"].names == NAMES
    assert "'label', 'depth', 'normal'" in repr(model)
    copied = copy.deepcopy(model)
    copied.load_state_dict(model.state_dict())
    doubled = model.double()["weighting"]
    assert all(tensor.dtype == torch.float64 for tensor in (*doubled.parameters(), *doubled.buffers()))


# Refusals

ONE, TWO = torch.tensor(1.0), {"label": torch.tensor(1.0), "depth": torch.tensor(2.0)}
UNIT = {"label": 1.0, "depth": 1.0}
BAD_TERMS = [
    ([ONE, ONE], TypeError, "terms must map names to scalar losses, got list"),
    ({}, ValueError, "terms must hold at least one loss, got none"),
    ({"label": 1.0, "depth": ONE}, TypeError, "the term 'label' must be a torch.Tensor, got float"),
    (TWO | {"depth": torch.tensor(1)}, TypeError, "the term 'depth' must be a floating-point tensor, got torch.int64"),
    (TWO | {"depth": torch.ones(1)}, ValueError, r"the term 'depth' must be a scalar \(reduced\), got shape \(1,\)"),
]
BAD_NAMES = [
    ({"label": ONE}, r"'depth' missing$"),
    (TWO | {"xyz": ONE}, r"'xyz' unknown \(the nearest name is '(label|depth)'\)$"),
    (TWO | {"dept": ONE}, r"'dept' unknown \(the nearest name is 'depth'\)$"),
    ({"lable": ONE}, r"'label', 'depth' missing, 'lable' unknown \(the nearest name is 'label'\)$"),
]


@pytest.mark.parametrize(("terms", "error", "message"), BAD_TERMS)
def test_bad_terms_are_refused_with_what_was_given_and_what_is_wanted(terms, error, message):
    shared = torch.ones(1, requires_grad=True)
    for call in (
        lambda: losses.weighted_sum(terms, UNIT),
        lambda: losses.UncertaintyWeighting(TWO)(terms),
        lambda: losses.GradNorm(TWO)(terms),
        lambda: losses.GradNorm(TWO).balance(terms, shared),
    ):
        with pytest.raises(error, match=message):
            call()


@pytest.mark.parametrize(("terms", "message"), BAD_NAMES)
def test_other_names_are_refused_with_those_that_are_missing_and_the_nearest(terms, message):
    with pytest.raises(ValueError, match="weights must have the same names as terms, got " + ".*" + message):
        losses.weighted_sum(TWO, dict.fromkeys(terms, 1.0))
    for module in MODULES:
        with pytest.raises(ValueError, match="terms must have the same names as this module, got .*" + message):
            module(TWO)(terms)


def test_names_that_differ_in_type_only_are_told_apart():
    with pytest.raises(ValueError, match=r"'1' missing, 1 unknown \(its type is int, that of '1' str\)$"):
        losses.weighted_sum({"1": ONE}, {1: 1.0})


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ([1.0, 1.0], TypeError, "weights must map the name of each term to a number, got list"),
        (UNIT | {"depth": "1"}, TypeError, "the weight of 'depth' must be a number, got str"),
        (UNIT | {"depth": ONE}, TypeError, "the weight of 'depth' must be a number, got Tensor"),
        (UNIT | {"depth": -0.1}, ValueError, "the weight of 'depth' must be finite .* at least 0, got -0.1"),
        (UNIT | {"label": math.inf}, ValueError, "the weight of 'label' must be finite .* at least 0, got inf"),
        (UNIT | {"label": math.nan}, ValueError, "the weight of 'label' must be finite .* at least 0, got nan"),
        (UNIT | {"label": 10**400}, ValueError, r"must be finite \(as a float\) and at least 0, got 10+$"),
        ({"label": 0.0, "depth": 0}, ValueError, "must be positive .*, got 0 for 'label', 'depth'"),
    ],
)
def test_bad_weights_are_refused(weights, error, message):
    with pytest.raises(error, match=message):
        losses.weighted_sum(TWO, weights)


@each_module
@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ("label", TypeError, "names must be an iterable of strings, got str"),
        (3, TypeError, "names must be an iterable of strings, got int"),
        (["label", 3], TypeError, "names must be an iterable of strings, got one of int"),
        ([], ValueError, "at least one name and none twice, got none"),
        (["label", "depth", "label"], ValueError, "none twice, got 'label', 'depth', 'label'"),
    ],
)
def test_bad_lists_of_names_are_refused(module, names, error, message):
    with pytest.raises(error, match=message):
        module(names)


@each_module
def test_negative_terms_are_refused_where_weights_adapt(module):
    terms = {"label": 0 * ONE, "depth": torch.tensor(-0.25), "normal": torch.tensor(-0.5)}
    with pytest.raises(ValueError, match=r"must not be negative, got 'depth' of -0.25$"):
        module(NAMES)(terms)
    assert module(NAMES)({name: torch.tensor(0.0) for name in NAMES}).item() == 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"alpha": -0.1}, ValueError, "alpha must be finite .* at least 0, got -0.1"),
        ({"alpha": math.inf}, ValueError, "alpha must be finite .* at least 0, got inf"),
        ({"alpha": 10**400}, ValueError, "alpha must be finite .* at least 0, got 10+$"),
        ({"alpha": "1"}, TypeError, "alpha must be a number, got str"),
        ({"rate": 0}, ValueError, "rate must be above 0 and at most 1, got 0"),
        ({"rate": 1.1}, ValueError, "rate must be above 0 and at most 1, got 1.1"),
        ({"rate": None}, TypeError, "rate must be a number, got NoneType"),
    ],
)
def test_bad_options_of_gradnorm_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        losses.GradNorm(NAMES, **options)


@pytest.mark.parametrize(
    ("shared", "error", "message"),
    [
        (3, TypeError, "shared must be a tensor or an iterable of tensors, got int"),
        ([], ValueError, "at least one parameter, got none"),
        ([1.0], TypeError, "each of the shared parameters must be a torch.Tensor, got float"),
        ([torch.ones(1, requires_grad=True), torch.ones(1)], ValueError, "must require a gradient"),
        (torch.ones(1, requires_grad=True), ValueError, "the term 'depth' must depend on the shared parameters"),
    ],
)
def test_bad_shared_parameters_are_refused_and_the_weights_stay(shared, error, message):
    weighting = losses.GradNorm(("depth", "label"))
    other = torch.ones(1, requires_grad=True)
    for terms in ({"depth": ONE, "label": other.sum()}, {"depth": 2 * other.sum(), "label": ONE}):
        with pytest.raises(error, match=message):
            weighting.balance(terms, shared)
    assert weighting.first_loss.tolist() == weighting.log_weight.tolist() == [0, 0]
