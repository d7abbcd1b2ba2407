"""The regression losses against torch, against 50 digits of mpmath, and against what theory says of them."""

import math
from functools import partial

import mpmath
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import grad, gradcheck, gradgradcheck

from lib.losses import regression as losses
from lib.reference import regression as reference

INF = math.inf
REDUCTIONS = ["none", "mean", "sum"]
# Functions of the residual alone, with every branch of their options.
RESIDUAL_LOSSES = [
    ("mse_loss", {}),
    ("l1_loss", {}),
    *[("huber_loss", {"delta": delta}) for delta in (1e-30, 0.3, 1.0, 1e20, INF)],
    *[("smooth_l1_loss", {"beta": beta}) for beta in (0.0, 1e-30, 0.3, 1.0, 1e20)],
    ("log_cosh_loss", {}),
    *[("quantile_loss", {"q": q}) for q in (1e-6, 0.1, 0.5, 0.9)],
    *[("charbonnier_loss", {"eps": eps}) for eps in (1e-30, 1e-3, 1.0, 1e20)],
]
TAME = [
    case
    for case in RESIDUAL_LOSSES
    if not {1e-30, 1e20, 1e-6} & set(case[1].values())
    and case not in [("huber_loss", {"delta": INF}), ("smooth_l1_loss", {"beta": 0.0})]
]
# What the losses of more than a residual are called with; the targets are counts, which suit every loss.
LIKELIHOODS = [
    *[("poisson_nll_loss", {"log_input": log_input, "full": full}) for log_input in (True, False) for full in (0, 1)],
    ("gaussian_nll_loss", {"var": 2.5}),
    ("gaussian_nll_loss", {"var": 0.3, "full": True}),
    *[("general_robust_loss", {"alpha": alpha, "scale": 0.7}) for alpha in (-INF, -2.0, 0.0, 1.0, 2.0, 3.0)],
]


def name_of(value):
    """Name the options of a case; pytest names what this returns None for."""
    if isinstance(value, dict):
        return ",".join(f"{key}={option}" for key, option in value.items()) or "default"
    return value if isinstance(value, str) else None


every_loss = pytest.mark.parametrize(("name", "options"), TAME + LIKELIHOODS, ids=name_of)
every_residual_loss = pytest.mark.parametrize(("name", "options"), TAME, ids=name_of)


def call(name, input, target, **options):
    """Call the loss by its name; the variance, which torch takes by position, becomes a tensor."""
    if "var" in options:
        return getattr(losses, name)(input, target, torch.full_like(input, options.pop("var")), **options)
    return getattr(losses, name)(input, target, **options)


def example(seed=0, shape=(4, 3), dtype=torch.float64):
    """Positive predictions, which are rates as well, and counts."""
    generator = torch.Generator().manual_seed(seed)
    input = torch.rand(shape, generator=generator, dtype=torch.float64) * 3 + 0.1
    return input.to(dtype), torch.randint(0, 5, shape, generator=generator).to(dtype)


def value_and_gradient(loss, input, *args, **options):
    input = input.clone().requires_grad_()
    value = loss(input, *args, **options)
    return value.detach(), grad(value.sum(), input)[0]


# ---------------------------------------------------------------------------------------------- against 50 digits

EXACT = {
    "mse_loss": (lambda r: r**2, lambda r: 2 * r),
    "l1_loss": (abs, mpmath.sign),
    "huber_loss": (
        lambda r, delta: r**2 / 2 if abs(r) <= delta else delta * (abs(r) - delta / 2),
        lambda r, delta: max(min(r, delta), -delta),
    ),
    "smooth_l1_loss": (
        lambda r, beta: abs(r) if beta == 0 else r**2 / (2 * beta) if abs(r) <= beta else abs(r) - beta / 2,
        lambda r, beta: mpmath.sign(r) if beta == 0 else max(min(r / beta, 1), -1),
    ),
    "log_cosh_loss": (
        lambda r: mpmath.log1p(2 * mpmath.sinh(r / 2) ** 2) if abs(r) < 50 else abs(r) - mpmath.log(2),
        mpmath.tanh,
    ),
    "quantile_loss": (
        lambda r, q: max(-q * r, (1 - q) * r),
        lambda r, q: 1 - q if r > 0 else -q if r < 0 else mpmath.mpf(1) / 2 - q,
    ),
    "charbonnier_loss": (
        lambda r, eps: mpmath.sqrt(r**2 + eps**2),
        lambda r, eps: r / mpmath.sqrt(r**2 + eps**2),
    ),
}
PRECISION = [(torch.float32, 2e-6), (torch.float64, 1e-12)]


def assert_right(ours, truths, dtype, tolerance, sizes=None):
    """Assert that each number is right to ``tolerance``, relative to itself or to the size of the terms it sums."""
    limits = torch.finfo(dtype)
    for number, truth, size in zip(ours.tolist(), truths, sizes or truths, strict=True):
        if abs(truth) > limits.max:
            assert number == math.copysign(INF, truth)
        else:
            assert abs(number - truth) <= tolerance * abs(size) + limits.tiny, (number, truth)


def residuals(dtype, options):
    """Zero, every decade that a float32 holds with its square or without, and both sides of every branch point."""
    decades = 10.0 ** torch.arange(-30, 31, dtype=torch.float64)
    branches = torch.tensor([1.0, 2.0, 20.0, *(v for v in options.values() if v < INF)], dtype=torch.float64)
    magnitudes = torch.cat([decades, decades * 3.7, branches]).to(dtype)
    steps = [torch.nextafter(magnitudes, torch.tensor(end, dtype=dtype)) for end in (0.0, INF)]
    magnitudes = torch.cat([magnitudes, *steps])
    return torch.cat([magnitudes, -magnitudes, torch.zeros(1, dtype=dtype)])


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISION, ids=str)
@pytest.mark.parametrize(("name", "options"), RESIDUAL_LOSSES, ids=name_of)
def test_value_and_gradient_are_right_over_the_whole_range_of_residuals(name, options, dtype, tolerance):
    residual = residuals(dtype, options)
    loss = partial(call, name, reduction="none", **options)
    value, gradient = value_and_gradient(loss, residual, torch.zeros_like(residual))
    rho, psi = EXACT[name]
    with mpmath.workdps(50):
        exact_options = {key: mpmath.mpf(torch.tensor(v, dtype=dtype).item()) for key, v in options.items()}
        exact = [mpmath.mpf(r) for r in residual.tolist()]
        assert_right(value, [rho(r, **exact_options) for r in exact], dtype, tolerance)
        assert_right(gradient, [psi(r, **exact_options) for r in exact], dtype, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISION, ids=str)
def test_poisson_with_a_log_rate_is_right_over_the_whole_range(dtype, tolerance):
    logs = [
        0.0,
        *(s * 10.0**k for k in (-30, -10, -1, 0, 1, 10, 30) for s in (-1, 1)),
        85.0,
        89.0,
        -85.0,
        720.0,
        -800.0,
    ]
    counts = [0.0, 1e-30, 0.5, 1.0, 2.0, 1e6, 1e30]
    x, y = (t.flatten() for t in torch.meshgrid(*(torch.tensor(v, dtype=dtype) for v in (logs, counts)), indexing="ij"))
    value, gradient = value_and_gradient(losses.poisson_nll_loss, x, y, reduction="none")
    with mpmath.workdps(50):
        pairs = [(mpmath.mpf(a), mpmath.mpf(b)) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
        rates = [mpmath.exp(min(a, mpmath.mpf(1e4))) for a, _ in pairs]
        sizes = [rate + abs(a * b) for rate, (a, b) in zip(rates, pairs, strict=True)]
        truths = [rate - a * b if a < 1e4 else rate for rate, (a, b) in zip(rates, pairs, strict=True)]
        assert_right(value, truths, dtype, tolerance, sizes)
        sizes = [rate + b for rate, (_, b) in zip(rates, pairs, strict=True)]
        assert_right(gradient, [rate - b for rate, (_, b) in zip(rates, pairs, strict=True)], dtype, tolerance, sizes)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISION, ids=str)
@pytest.mark.parametrize("eps", [1e-8, 1e-30])
def test_poisson_with_a_rate_is_right_over_the_whole_range(eps, dtype, tolerance):
    rates, counts = [10.0**k for k in range(-30, 31, 3)], [0.0, 1e-6, 0.5, 1.0, 2.0, 1e6]
    x, y = (
        t.flatten() for t in torch.meshgrid(*(torch.tensor(v, dtype=dtype) for v in (rates, counts)), indexing="ij")
    )
    value, gradient = value_and_gradient(losses.poisson_nll_loss, x, y, log_input=False, eps=eps, reduction="none")
    with mpmath.workdps(50):
        pairs = [(mpmath.mpf(a), mpmath.mpf(b)) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
        terms = [b * mpmath.log(a + mpmath.mpf(eps)) for a, b in pairs]
        truths = [a - term for (a, _), term in zip(pairs, terms, strict=True)]
        assert_right(value, truths, dtype, tolerance, [a + abs(t) for (a, _), t in zip(pairs, terms, strict=True)])
        ratios = [b / (a + mpmath.mpf(eps)) for a, b in pairs]
        assert_right(gradient, [1 - ratio for ratio in ratios], dtype, tolerance, [1 + ratio for ratio in ratios])


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISION, ids=str)
def test_stirlings_term_is_right_and_falls_short_of_log_factorial_by_less_than_a_twelfth_of_the_inverse(
    dtype, tolerance
):
    counts = torch.tensor([0.0, 0.5, 1.0, 1.001, 2.0, math.e, 3.0, 10.0, 170.0, 1e6, 1e20, 1e30], dtype=dtype)
    rates = torch.ones_like(counts)  # whose logarithm is 0
    plain = losses.poisson_nll_loss(rates.log(), counts, reduction="none")
    term = losses.poisson_nll_loss(rates.log(), counts, full=True, reduction="none") - plain
    with mpmath.workdps(50):
        exact = [mpmath.mpf(y) for y in counts.tolist()]
        truths = [y * mpmath.log(y) - y + mpmath.log(2 * mpmath.pi * y) / 2 if y > 1 else mpmath.mpf(0) for y in exact]
        sizes = [1 + abs(y * mpmath.log(y)) + y if y > 1 else mpmath.mpf(1) for y in exact]
        assert_right(term, truths, dtype, tolerance, sizes)
        for y, ours in zip(exact[4:9], truths[4:9], strict=True):
            assert 0 < mpmath.loggamma(y + 1) - ours < 1 / (12 * y)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISION, ids=str)
def test_gaussian_is_right_over_the_whole_range_of_residuals_and_variances(dtype, tolerance):
    magnitudes, eps = [10.0**k for k in range(-30, 31, 5)], 1e-30
    r, v = torch.meshgrid(*(torch.tensor(m, dtype=dtype) for m in ([0.0, *magnitudes], magnitudes)), indexing="ij")
    r, v = r.flatten().requires_grad_(), v.flatten().requires_grad_()
    value = losses.gaussian_nll_loss(r, torch.zeros_like(r), v, eps=eps, reduction="none")
    in_r, in_v = grad(value.sum(), (r, v))
    with mpmath.workdps(50):
        pairs = [(mpmath.mpf(a), mpmath.mpf(b)) for a, b in zip(r.tolist(), v.tolist(), strict=True)]
        squares, logs = [a**2 / b for a, b in pairs], [mpmath.log(b) for _, b in pairs]
        truths = [(s + log) / 2 for s, log in zip(squares, logs, strict=True)]
        assert_right(value, truths, dtype, tolerance, [(s + abs(k)) / 2 for s, k in zip(squares, logs, strict=True)])
        assert_right(in_r, [a / b for a, b in pairs], dtype, tolerance)
        truths = [(1 - s) / (2 * b) for s, (_, b) in zip(squares, pairs, strict=True)]
        sizes = [(1 + s) / (2 * b) for s, (_, b) in zip(squares, pairs, strict=True)]
        assert_right(in_v, truths, dtype, tolerance, sizes)


def exact_robust(z, alpha):
    """Return value and derivatives in z and alpha of the general robust loss; None for those that are infinite."""
    if abs(alpha) == INF:
        sign, half = mpmath.sign(alpha), min(z * z / 2, mpmath.mpf(10) ** 4)
        return sign * mpmath.expm1(sign * half), z * mpmath.exp(sign * half), mpmath.mpf(0)
    if alpha == 2:
        return z * z / 2, z, None
    b, a, sign = abs(alpha - 2), alpha / 2, mpmath.sign(alpha - 2)
    lam = mpmath.log(1 + z * z / b)
    power = mpmath.exp(a * lam)
    value = b / 2 * lam if a == 0 else b / alpha * (power - 1)
    if a == 0:
        integral = lam**2 / 2 - lam - mpmath.exp(-lam) + 1
    elif a == 1:
        integral = lam * power - 2 * (power - 1) + lam
    else:
        integral = lam * power / a - (power - 1) * (1 / a**2 + 1 / a) + (mpmath.exp((a - 1) * lam) - 1) / (a - 1)
    return value, z * mpmath.exp(sign * b * lam / 2), b / 4 * integral


ALPHAS = [-INF, -1e30, -1e4, -10.0, -2.0, -1e-3, -1e-8, 0.0, 1e-30, 1e-8, 0.5, 1.0, 1.999, 2 - 1e-7, 2 - 1e-15, 2.0]
ALPHAS += [2 + 1e-15, 2 + 1e-7, 2.1, 4.0, 100.0, 1e4, 1e30, INF]


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISION, ids=str)
@pytest.mark.parametrize("alpha", ALPHAS)
def test_general_robust_is_right_in_every_derivative_at_every_alpha_and_residual(alpha, dtype, tolerance):
    magnitudes = [0.0, *(m * 10.0**k for k in range(-30, 31, 2) for m in (1, -3.7)), 0.1, 0.5, 1.5, 5.0, 12.0, 40.0]
    z = torch.tensor(magnitudes, dtype=dtype, requires_grad=True)
    alphas = torch.full_like(z, alpha, dtype=torch.float64, requires_grad=True)
    scale = torch.ones_like(z, dtype=torch.float64, requires_grad=True)
    value = losses.general_robust_loss(z, torch.zeros_like(z), alpha=alphas, scale=scale, reduction="none")
    in_z, in_alpha, in_scale = grad(value.sum(), (z, alphas, scale))
    with mpmath.workdps(300):
        exact = [mpmath.mpf(r) for r in z.tolist()]
        values, in_zs, in_alphas = zip(*(exact_robust(r, mpmath.mpf(alpha)) for r in exact), strict=True)
        assert_right(value, values, dtype, tolerance)
        assert_right(in_z, in_zs, dtype, tolerance)
        # The derivative in the scale is made of that in z, and right unless the latter is a subnormal float.
        normal = [k for k, d in enumerate(in_zs) if d == 0 or abs(d) > torch.finfo(torch.float64).tiny]
        assert_right(in_scale[normal], [-exact[k] * in_zs[k] for k in normal], torch.float64, 1e-12)
        if alpha == 2:
            assert (in_alpha[1:] > 0).all()
        else:  # and that in alpha where the loss has not overflowed
            finite = [k for k, v in enumerate(values) if v <= torch.finfo(torch.float64).max]
            assert_right(in_alpha[finite], [in_alphas[k] for k in finite], torch.float64, 1e-12)
            assert not in_alpha.isnan().any()


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e30])
def test_general_robust_depends_on_the_residual_in_units_of_the_scale(scale):
    x, y = torch.tensor([0.0, 0.1, 2.0, 30.0]), torch.zeros(4)
    small = losses.general_robust_loss(x * scale, y, alpha=0.5, scale=scale, reduction="none")
    torch.testing.assert_close(small, losses.general_robust_loss(x, y, alpha=0.5, reduction="none"))


def test_poisson_of_an_infinite_rate_is_infinite_where_torch_has_infinity_minus_infinity():
    x, y = torch.tensor([1e30]), torch.tensor([1e30])
    assert F.poisson_nll_loss(x, y).isnan()
    assert losses.poisson_nll_loss(x, y).item() == INF


def test_poisson_of_a_rate_of_zero_that_saw_no_event_is_zero_even_without_eps():
    value, gradient = value_and_gradient(
        losses.poisson_nll_loss, torch.zeros(1), torch.zeros(1), log_input=False, eps=0.0
    )
    assert (value.item(), gradient.item()) == (0.0, 1.0)


# ----------------------------------------------------------------------------------------------------- derivatives


@every_loss
def test_gradient_is_the_derivative_of_the_value(name, options):
    input, target = example()
    target = target + 0.37  # away from the kinks
    loss = partial(call, name, target=target, **options)
    assert gradcheck(loss, input.requires_grad_())
    assert gradgradcheck(loss, input)


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss"])
def test_gradient_in_the_target_and_the_weights_is_the_derivative_too(name):
    input, target = (t.requires_grad_() for t in (example()[0], example()[1] + 0.37))
    weight = example(1)[0].requires_grad_()
    for reduction in REDUCTIONS:
        assert gradcheck(lambda x, y, w, r=reduction: call(name, x, y, weight=w, reduction=r), (input, target, weight))


def test_gaussian_gradient_in_the_variance_is_the_derivative():
    input, target = example()
    var = example(1)[0].requires_grad_()
    loss = partial(losses.gaussian_nll_loss, full=True)
    assert gradcheck(loss, (input.requires_grad_(), target, var))
    assert gradgradcheck(loss, (input, target, var))


@pytest.mark.parametrize("alpha", [-10.0, -2.0, 0.0, 0.003, 1.0, 1.9, 2.1, 3.0])
def test_general_robust_gradient_in_residual_alpha_and_scale_is_the_derivative(alpha):
    input, target = example()
    alphas = torch.full((4, 1), alpha, dtype=torch.float64, requires_grad=True)
    scale = torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64, requires_grad=True)

    def loss(x, a, c):
        return losses.general_robust_loss(x, target + 0.37, alpha=a, scale=c, reduction="none")

    assert gradcheck(loss, (input.requires_grad_(), alphas, scale))
    assert gradgradcheck(loss, (input, alphas, scale))


@pytest.mark.parametrize("alpha", [-INF, -2.0, 0.0, 1.0, 1.9, 2.0, 3.0, INF])
def test_numpy_twin_of_the_general_robust_loss_gives_the_same_gradients(alpha):
    input, target = example(shape=(20,))
    leaves = (
        input.requires_grad_(),
        torch.full_like(input, alpha).requires_grad_(),
        (input.detach() + 1).requires_grad_(),
    )
    loss = losses.general_robust_loss(leaves[0], target, alpha=leaves[1], scale=leaves[2], reduction="sum")
    arrays = [leaf.detach().numpy() for leaf in leaves]
    twins = reference.general_robust_loss_grad(arrays[0], target.numpy(), alpha=arrays[1], scale=arrays[2])
    for ours, twin in zip(grad(loss, leaves), twins, strict=True):
        np.testing.assert_allclose(ours, twin, rtol=1e-11, atol=1e-14)


@every_loss
def test_numpy_twin_gives_the_same_value_and_gradient(name, options):
    input, target = example(shape=(50,))
    value, gradient = value_and_gradient(partial(call, name), input, target, reduction="none", **options)
    twin, twin_grad = getattr(reference, name), getattr(reference, f"{name}_grad")
    np.testing.assert_allclose(value, twin(input.numpy(), target.numpy(), **options), rtol=1e-12, atol=1e-14)
    theirs = twin_grad(input.numpy(), target.numpy(), **options)
    np.testing.assert_allclose(gradient, theirs[0] if isinstance(theirs, tuple) else theirs, rtol=1e-12, atol=1e-14)


def test_numpy_twin_of_the_gaussian_gives_the_same_gradient_in_the_variance():
    input, target = example()
    var = example(1)[0].requires_grad_()
    gradient = grad(losses.gaussian_nll_loss(input, target, var, reduction="sum"), var)[0]
    twin = reference.gaussian_nll_loss_grad(input.numpy(), target.numpy(), var.detach().numpy())[1]
    np.testing.assert_allclose(gradient, twin, rtol=1e-12)


# --------------------------------------------------------------------------------------------------- against torch

TORCH = [
    ("mse_loss", {}),
    ("l1_loss", {}),
    *[("huber_loss", {"delta": delta}) for delta in (0.1, 1.0, 2.5, INF)],
    *[("smooth_l1_loss", {"beta": beta}) for beta in (0.0, 0.1, 1.0, 2.5)],
    *[
        ("poisson_nll_loss", {"log_input": log_input, "full": full, "eps": eps})
        for log_input in (True, False)
        for full in (True, False)
        for eps in (1e-8, 0.5)
    ],
]


def assert_same_as_torch(ours, torchs):
    torch.testing.assert_close(ours, torchs, rtol=1e-12, atol=1e-14, equal_nan=True)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("name", "options"), TORCH, ids=name_of)
@pytest.mark.parametrize("shape", [(), (1,), (5,), (4, 3), (2, 3, 2), (0,), (0, 3)], ids=str)
def test_value_and_gradient_equal_torch(name, options, reduction, shape):
    input, target = example(shape=shape)
    ours = value_and_gradient(getattr(losses, name), input, target, reduction=reduction, **options)
    assert_same_as_torch(ours, value_and_gradient(getattr(F, name), input, target, reduction=reduction, **options))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss"])
def test_weighted_value_and_gradient_equal_torch(name, reduction):
    input, target = example()
    options = {"weight": example(1)[0], "reduction": reduction}
    ours = value_and_gradient(getattr(losses, name), input, target, **options)
    try:
        torchs = value_and_gradient(getattr(F, name), input, target, **options)
    except TypeError:  # a torch that does not know the option yet
        each = getattr(losses, name)(input, target, reduction="none") * options["weight"]
        total = input.numel() if name == "huber_loss" else options["weight"].sum()
        assert_same_as_torch(ours[0], {"none": each, "sum": each.sum(), "mean": each.sum() / total}[reduction])
    else:
        assert_same_as_torch(ours, torchs)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    "var",
    [
        2.0,
        torch.tensor([[1.0, 2.0, 0.0], [0.5, 1e-9, 3.0]]),
        torch.tensor([0.5, 2.0]),
        torch.tensor([[0.5], [2.0]]),
        torch.tensor([[0.5, 1.0, 2.0]]),
    ],
    ids=["number", "each", "last dimension missing", "last dimension 1", "first dimension 1"],
)
def test_gaussian_equals_torch_in_value_and_both_gradients_for_every_kind_of_variance(var, full, reduction):
    results = []
    for loss in (losses.gaussian_nll_loss, F.gaussian_nll_loss):
        input, target = example(shape=(2, 3))
        leaves = [input.requires_grad_()]
        if isinstance(var, torch.Tensor):
            leaves.append(var.double().requires_grad_())
        value = loss(input, target, leaves[1] if len(leaves) > 1 else var, full=full, reduction=reduction)
        results.append((value, grad(value.sum(), leaves)))
    assert_same_as_torch(*results)


@pytest.mark.parametrize("target_dtype", [torch.int64, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "smooth_l1_loss", "poisson_nll_loss"])
def test_targets_of_another_dtype_promote_as_in_torch(name, target_dtype):
    input, target = example(dtype=torch.float32)
    ours = value_and_gradient(getattr(losses, name), input, target.to(target_dtype))
    torch.testing.assert_close(ours, value_and_gradient(getattr(F, name), input, target.to(target_dtype)))


# --------------------------------------------------------------------------------------------------- special cases


@given(seed=st.integers(0, 2**31), q=st.floats(0.01, 0.99), delta=st.floats(0.01, 100), scale=st.floats(0.01, 100))
@settings(deadline=None, max_examples=50)
def test_the_losses_are_limits_and_multiples_of_one_another(seed, q, delta, scale):
    x, y = example(seed)
    each = {"reduction": "none"}
    close = partial(torch.testing.assert_close, rtol=1e-11, atol=1e-13)
    mse, mae = losses.mse_loss(x, y, **each), losses.l1_loss(x, y, **each)
    close(losses.huber_loss(x, y, delta=INF, **each), mse / 2)
    close(losses.huber_loss(x, y, delta=1e-13, **each) / 1e-13, mae)
    close(losses.smooth_l1_loss(x, y, beta=delta, **each) * delta, losses.huber_loss(x, y, delta=delta, **each))
    close(losses.quantile_loss(x, y, q=0.5, **each), mae / 2)
    close(losses.quantile_loss(x, y, q=q, **each) + losses.quantile_loss(x, y, q=1 - q, **each), mae)
    close(losses.quantile_loss(x, y, q=q, **each), losses.quantile_loss(y, x, q=1 - q, **each))
    close(losses.charbonnier_loss(x, y, eps=1e-14, **each), mae)
    close(losses.gaussian_nll_loss(x, y, 1.0, **each), mse / 2)
    close(losses.poisson_nll_loss(x.log(), y, **each), losses.poisson_nll_loss(x, y, log_input=False, eps=0, **each))
    general = partial(losses.general_robust_loss, x, y, scale=scale, **each)
    z2 = ((x - y) / scale) ** 2
    close(general(alpha=2.0), z2 / 2)
    close(general(alpha=1.0), losses.charbonnier_loss(x / scale, y / scale, eps=1.0, **each) - 1)
    close(general(alpha=0.0), torch.log1p(z2 / 2))
    close(general(alpha=-2.0), 2 * z2 / (z2 + 4))
    close(general(alpha=-INF), -torch.expm1(-z2 / 2))
    # Rescaling the unit of the residual rescales thresholds with it.
    close(
        losses.huber_loss(scale * x, scale * y, delta=scale * delta, **each),
        scale**2 * losses.huber_loss(x, y, delta=delta, **each),
    )
    close(
        losses.charbonnier_loss(scale * x, scale * y, eps=scale * delta, **each),
        scale * losses.charbonnier_loss(x, y, eps=delta, **each),
    )


@every_residual_loss
@given(seed=st.integers(0, 2**31), shift=st.integers(-1000, 1000))
@settings(deadline=None, max_examples=20)
def test_a_loss_of_the_residual_ignores_a_common_shift_and_the_order_of_the_samples(name, options, seed, shift):
    input, target = example(seed)
    loss = call(name, input, target, **options)
    torch.testing.assert_close(call(name, input + shift, target + shift, **options), loss)
    order = torch.randperm(4, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(call(name, input[order], target[order], **options), loss)


@pytest.mark.parametrize(("name", "options"), [case for case in TAME if case[0] != "quantile_loss"], ids=name_of)
def test_a_loss_of_the_residual_is_symmetric(name, options):
    input, target = example()
    torch.testing.assert_close(call(name, input, target, **options), call(name, target, input, **options))


@pytest.mark.parametrize(
    ("name", "options", "minimiser"),
    [
        ("mse_loss", {}, lambda y: y.mean()),
        ("l1_loss", {}, lambda y: y.median()),
        ("quantile_loss", {"q": 0.9}, lambda y: y.quantile(0.9, interpolation="higher")),
        ("quantile_loss", {"q": 0.25}, lambda y: y.quantile(0.25, interpolation="higher")),
        ("huber_loss", {"delta": 1e-3}, lambda y: y.median()),
        ("huber_loss", {"delta": 1e3}, lambda y: y.mean()),
        ("charbonnier_loss", {"eps": 1e-4}, lambda y: y.median()),
        ("poisson_nll_loss", {}, lambda y: y.mean().log()),
        ("poisson_nll_loss", {"log_input": False}, lambda y: y.mean()),
        ("gaussian_nll_loss", {"var": 3.0}, lambda y: y.mean()),
    ],
    ids=name_of,
)
def test_the_best_constant_is_the_minimiser_that_theory_names(name, options, minimiser):
    target = torch.randn(101, generator=torch.Generator().manual_seed(0), dtype=torch.float64).exp()
    constants = torch.linspace(0.02, 5, 4000, dtype=torch.float64)
    input = constants[:, None].expand(-1, len(target))
    risk = call(name, input, target.expand_as(input), reduction="none", **options).mean(1)
    assert constants[risk.argmin()].item() == pytest.approx(minimiser(target).item(), abs=2e-3)


@given(seed=st.integers(0, 2**31), alphas=st.tuples(st.floats(-50, 10), st.floats(-50, 10)).map(sorted))
@settings(deadline=None, max_examples=50)
def test_general_robust_grows_with_alpha_and_is_bounded_below_zero(seed, alphas):
    input, target = example(seed)
    low, high = (losses.general_robust_loss(input, target, alpha=a, reduction="none") for a in alphas)
    assert (low <= high * (1 + 1e-12)).all()
    for alpha in (a for a in alphas if a < 0):
        far = losses.general_robust_loss(1e30 * input, target, alpha=alpha, reduction="none")
        assert (far <= (alpha - 2) / alpha * (1 + 1e-12)).all()


def test_the_best_variance_is_the_mean_square_of_the_residuals():
    residual = torch.randn(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    variances = torch.linspace(0.05, 5, 4000, dtype=torch.float64)
    input = residual.expand(len(variances), -1)
    risk = losses.gaussian_nll_loss(input, torch.zeros_like(input), variances, reduction="none").mean(1)
    assert variances[risk.argmin()].item() == pytest.approx(residual.square().mean().item(), abs=2e-3)


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss"])
def test_a_weight_of_two_counts_as_two_samples(name):
    input, target = example(shape=(4,))
    repeats = torch.tensor([1, 2, 0, 3])
    weighted = call(name, input, target, weight=repeats.double())
    repeated = call(name, input.repeat_interleave(repeats), target.repeat_interleave(repeats))
    torch.testing.assert_close(weighted, repeated)


def test_the_full_gaussian_is_the_negative_log_density_and_a_variance_of_zero_can_recover():
    input, target = example()
    var = example(1)[0]
    density = torch.distributions.Normal(input, var.sqrt()).log_prob(target)
    torch.testing.assert_close(losses.gaussian_nll_loss(input, target, var, full=True, reduction="none"), -density)
    zero = torch.zeros(1, requires_grad=True)
    losses.gaussian_nll_loss(torch.zeros(1), torch.ones(1), zero).backward()
    assert zero.grad.item() == pytest.approx((1 - 1e6) / 2e-6)


@pytest.mark.parametrize(("name", "middle"), [("l1_loss", 0.0), ("quantile_loss", -0.4)])
def test_the_gradient_at_a_kink_is_the_middle_of_the_subgradients(name, middle):
    options = {"q": 0.9} if name == "quantile_loss" else {}
    gradient = value_and_gradient(partial(call, name), torch.ones(1), torch.ones(1), **options)[1]
    assert gradient.item() == pytest.approx(middle)


# --------------------------------------------------------------------------------------------- dtypes and machinery


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@every_loss
def test_half_precision_is_computed_in_float32_and_rounded_once(name, options, dtype):
    input, target = example(dtype=dtype)
    for reduction in REDUCTIONS:
        ours = value_and_gradient(partial(call, name), input, target, reduction=reduction, **options)
        exact = value_and_gradient(partial(call, name), input.float(), target.float(), reduction=reduction, **options)
        assert ours[0].dtype == ours[1].dtype == dtype
        if name == "gaussian_nll_loss":  # whose variance of 0.3 is rounded to half precision as well
            torch.testing.assert_close(ours, tuple(t.to(dtype) for t in exact), rtol=2e-2, atol=2e-2)
        else:
            torch.testing.assert_close(ours, tuple(t.to(dtype) for t in exact), rtol=0, atol=0)


@every_loss
def test_non_contiguous_input_gives_the_same(name, options):
    input, target = example()
    loss = partial(value_and_gradient, partial(call, name), **options)
    torch.testing.assert_close(loss(input.T, target.T)[0], loss(input, target)[0])
    torch.testing.assert_close(loss(input.T, target.T)[1].T, loss(input, target)[1])


@every_loss
def test_no_samples_cost_nothing_in_sum_and_have_no_mean(name, options):
    empty = torch.empty(0, 3)
    assert call(name, empty, empty, reduction="sum", **options).item() == 0
    assert call(name, empty, empty, **options).isnan()
    assert call(name, empty, empty, reduction="none", **options).shape == (0, 3)


@every_loss
def test_the_loss_can_be_mapped_over_samples(name, options):
    input, target = example()
    one_by_one = torch.func.vmap(torch.func.grad(partial(call, name, reduction="sum", **options)))(input, target)
    together = value_and_gradient(partial(call, name), input, target, reduction="sum", **options)[1]
    torch.testing.assert_close(one_by_one, together)


# torch's own compiler instantiates the autograd functions that it warns against instantiating.
@every_loss
def test_the_loss_compiles_to_one_graph(name, options):
    torch.compiler.reset()
    input, target = example()
    loss = partial(call, name, **options)
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(value_and_gradient(compiled, input, target), value_and_gradient(loss, input, target))


# ------------------------------------------------------------------------------------------------------- bad input

TWO = torch.zeros(2)
ALL = {
    "mse_loss": {},
    "l1_loss": {},
    "huber_loss": {},
    "smooth_l1_loss": {},
    "log_cosh_loss": {},
    "quantile_loss": {"q": 0.5},
    "charbonnier_loss": {},
    "poisson_nll_loss": {},
    "gaussian_nll_loss": {"var": 1.0},
    "general_robust_loss": {"alpha": 1.0},
}


@pytest.mark.parametrize(
    ("input", "target", "reduction", "error", "message"),
    [
        ([0.0, 0.0], TWO, "mean", TypeError, "input must be a torch.Tensor, got list"),
        (TWO.long(), TWO, "mean", TypeError, "input must be a floating-point tensor, got torch.int64"),
        (TWO, [0.0, 0.0], "mean", TypeError, "target must be a torch.Tensor, got list"),
        (TWO, TWO.bool(), "mean", TypeError, "target must hold real numbers, got torch.bool"),
        (TWO, TWO.to(torch.complex64), "mean", TypeError, "target must hold real numbers, got torch.complex64"),
        (torch.zeros(2, 1), TWO, "mean", ValueError, r"same shape, got \(2, 1\) and \(2,\)"),
        (TWO, TWO, "average", ValueError, "'sum', got 'average'"),
    ],
)
@pytest.mark.parametrize("name", ALL)
def test_bad_input_is_refused_with_what_was_given_and_what_is_wanted(name, input, target, reduction, error, message):
    with pytest.raises(error, match=message):
        getattr(losses, name)(input, target, **ALL[name], reduction=reduction)


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        *[
            (name, {"weight": torch.ones(2, 1)}, ValueError, r"shape of input, \(2,\), got \(2, 1\)")
            for name in ("mse_loss", "l1_loss", "huber_loss")
        ],
        ("mse_loss", {"weight": [1.0, 1.0]}, TypeError, "weight must be a torch.Tensor, got list"),
        ("huber_loss", {"delta": 0.0}, ValueError, "delta must be above 0, got 0.0"),
        ("huber_loss", {"delta": math.nan}, ValueError, "delta must be above 0, got nan"),
        ("smooth_l1_loss", {"beta": -1.0}, ValueError, "beta must be 0 or above, got -1.0"),
        ("smooth_l1_loss", {"beta": math.nan}, ValueError, "beta must be 0 or above, got nan"),
        ("quantile_loss", {"q": 0.0}, ValueError, "between 0 and 1, both excluded, got 0.0"),
        ("quantile_loss", {"q": 1.0}, ValueError, "between 0 and 1, both excluded, got 1.0"),
        ("charbonnier_loss", {"eps": 0.0}, ValueError, "eps must be above 0, .*, got 0.0"),
        ("charbonnier_loss", {"eps": 1e-60}, ValueError, "a normal number in torch.float32, got 1e-60"),
        ("charbonnier_loss", {"eps": INF}, ValueError, "finite .*, got inf"),
        ("poisson_nll_loss", {"eps": -1e-8}, ValueError, "eps must be 0 or above and finite, got -1e-08"),
        ("gaussian_nll_loss", {"var": 1.0, "eps": -1.0}, ValueError, "eps must be 0 or above and finite, got -1.0"),
        ("gaussian_nll_loss", {"var": -1.0}, ValueError, "var must be 0 or above, got -1.0"),
        ("gaussian_nll_loss", {"var": torch.tensor([1.0, -2.0])}, ValueError, "var must be 0 or above, got -2.0"),
        ("gaussian_nll_loss", {"var": "1"}, TypeError, "var must be a torch.Tensor, got str"),
        ("gaussian_nll_loss", {"var": torch.ones(2).long()}, TypeError, "var must be a floating-point tensor"),
        ("general_robust_loss", {"alpha": math.nan}, ValueError, "alpha must be a number or infinity, got nan"),
        ("general_robust_loss", {"alpha": "0"}, TypeError, "alpha must be a torch.Tensor, got str"),
        ("general_robust_loss", {"alpha": torch.zeros(3)}, ValueError, r"shape of input, \(2,\), got \(3,\)"),
        ("general_robust_loss", {"alpha": torch.zeros(4, 2)}, ValueError, r"shape of input, \(2,\), got \(4, 2\)"),
        ("general_robust_loss", {"alpha": 1.0, "scale": 0.0}, ValueError, "scale must be above 0 and finite, got 0.0"),
        ("general_robust_loss", {"alpha": 1.0, "scale": -TWO}, ValueError, "scale must be above 0 and finite, got "),
        ("general_robust_loss", {"alpha": 1.0, "scale": INF}, ValueError, "scale must be above 0 and finite, got inf"),
        ("gaussian_nll_loss", {"var": torch.ones(3)}, ValueError, r"shape of input, \(2,\), .*, got \(3,\)"),
        ("gaussian_nll_loss", {"var": torch.ones(2, 1)}, ValueError, r"shape of input, \(2,\), .*, got \(2, 1\)"),
    ],
)
def test_an_option_out_of_range_is_refused_with_its_range(name, options, error, message):
    with pytest.raises(error, match=message):
        getattr(losses, name)(TWO, TWO, **options)


def test_a_negative_rate_is_refused():
    with pytest.raises(ValueError, match=r"rates must be 0 or above .*, got -1\.0"):
        losses.poisson_nll_loss(torch.tensor([1.0, -1.0]), TWO, log_input=False)


# The derivative is written into memory of its own


@pytest.mark.parametrize("name", ["mse_loss", "huber_loss", "smooth_l1_loss", "log_cosh_loss"])
def test_gradients_can_be_mapped_without_the_values(name):
    prediction, target = torch.tensor([-3.0, 0.2, 0.5, 4.0]), torch.zeros(4)
    rows = torch.autograd.functional.jacobian(
        lambda x: getattr(losses, name)(x, target, reduction="none"), prediction, vectorize=True
    )
    columns = torch.autograd.functional.jacobian(
        lambda x: getattr(losses, name)(x, target, reduction="none"), prediction
    )
    torch.testing.assert_close(rows, columns, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["mse_loss", "huber_loss", "smooth_l1_loss", "log_cosh_loss"])
def test_a_second_backward_pass_finds_what_the_first_found(name):
    prediction = torch.tensor([-3.0, 0.2, 0.5, 4.0], requires_grad=True)
    loss = getattr(losses, name)(prediction, torch.zeros(4))
    (first,) = grad(loss, prediction, retain_graph=True)
    (second,) = grad(loss, prediction)
    assert torch.equal(first, second)
