"""The losses of adversarial networks against 50 digits of mpmath, their NumPy twins, and what theory says of them."""

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

from lib.losses import gan as losses
from lib.losses.divergence import js_divergence
from lib.losses.gan import discriminator_loss, generator_loss, gradient_penalty
from lib.reference import gan as reference

KINDS = ["minimax", "non-saturating", "lsgan", "wgan", "hinge"]
PRECISIONS = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-12)])
every_kind = pytest.mark.parametrize("kind", KINDS)
every_loss = pytest.mark.parametrize("name", ["discriminator_loss", "generator_loss"])


def random(*shape, seed=0):
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scores_for(name, *shape, seed=0):
    """Return the arguments of a loss: scores of real and fake samples, or of fake ones alone."""
    scores = [random(*shape, seed=seed), random(*shape, seed=seed + 1)]
    return scores if name == "discriminator_loss" else scores[1:]


def value_and_gradients(loss, inputs, **options):
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    value = loss(*inputs, **options)
    return value.detach(), grad(value.sum(), inputs)


def assert_near(ours, truth, tolerance, dtype):
    """Assert that a float is within the tolerance of the truth, down to subnormal numbers, up to infinity."""
    limits = torch.finfo(dtype)
    if abs(truth) > limits.max:
        assert ours == math.copysign(math.inf, truth)
    else:
        assert abs(mpf(ours) - truth) <= tolerance * abs(truth) + limits.tiny


# The losses of scores, against mpmath


def logistic(x):
    """Return log(1 + e^x) and its derivative."""
    return mpmath.log1p(mpmath.exp(x)), 1 / (1 + mpmath.exp(-x))


def truth_of(name, kind, score):
    """Return value and derivative of a loss of one score: of a "real" or a "fake" one, or the "generator"'s."""
    if kind in ("minimax", "non-saturating"):
        sign = 1 if name == "fake" or (name, kind) == ("generator", "minimax") else -1
        value, slope = logistic(sign * score)
        return (-value, -slope) if (name, kind) == ("generator", "minimax") else (value, sign * slope)
    if kind == "lsgan":
        error = score - (0 if name == "fake" else 1)
        return error**2 / 2, error
    sign = 1 if name == "fake" else -1
    if kind == "wgan" or name == "generator":
        return sign * score, sign
    lacking = 1 + sign * score
    return max(mpf(0), lacking), sign * (lacking > 0)


@PRECISIONS
@every_kind
@pytest.mark.parametrize("name", ["real", "fake", "generator"])
def test_value_and_gradient_are_right_at_every_score(name, kind, dtype, tolerance):
    near_one = [1 - torch.finfo(dtype).eps, 1.0, 1 + torch.finfo(dtype).eps]
    sizes = [0.0, 1e-30, 1e-4, 0.3, *near_one, 15.0, 20.1, 39.9, 40.1, 86.0, 100.0, 700.0, 1e4, 1e18, 2e19, 1e30]
    scores = torch.tensor([sign * size for size in sizes for sign in (-1, 1)], dtype=dtype)
    nothing = scores[:0]
    arguments = {"real": lambda x: (x, nothing), "fake": lambda x: (nothing, x), "generator": lambda x: (x,)}[name]
    loss = generator_loss if name == "generator" else discriminator_loss
    for score in scores:
        value, (gradient,) = value_and_gradients(
            lambda x: loss(*arguments(x), kind=kind, reduction="sum"), [score.reshape(1)]
        )
        with mpmath.workdps(50):
            truth, slope = truth_of(name, kind, mpf(score.item()))
            assert_near(value.item(), truth, tolerance, dtype)
            assert_near(gradient.item(), slope, tolerance, dtype)


# The NumPy twins


@pytest.mark.parametrize("seed", range(3))
@every_kind
@every_loss
def test_the_numpy_twin_has_the_same_value_and_its_hand_derived_gradient_is_autograds(name, kind, seed):
    scores = scores_for(name, 40, seed=seed)
    value, gradients = value_and_gradients(getattr(losses, name), scores, kind=kind, reduction="none")
    arrays = [x.numpy() for x in scores]
    np.testing.assert_allclose(getattr(reference, name)(*arrays, kind=kind), value, rtol=1e-12, atol=1e-14)
    twins = getattr(reference, f"{name}_grad")(*arrays, kind=kind)
    twins = twins if isinstance(twins, tuple) else (twins,)
    for ours, theirs in zip(twins, gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("score", [-1e30, -800.0, 800.0, 1e30])
def test_the_numpy_twin_neither_overflows_nor_warns(score):
    assert reference.discriminator_loss(score, score) == abs(score)
    assert reference.discriminator_loss_grad(score, score) == ((0, 1) if score > 0 else (-1, 0))
    assert reference.generator_loss(score) == max(0, -score)
    assert reference.generator_loss_grad(score) == -(score < 0)


@every_loss
def test_the_default_is_non_saturating_and_the_mean_here_and_in_the_twin(name):
    scores = scores_for(name, 5)
    loss = getattr(losses, name)
    assert loss(*scores) == loss(*scores, kind="non-saturating", reduction="mean")
    assert loss(*scores) != loss(*scores, kind="lsgan")
    assert loss(*scores) != loss(*scores, reduction="sum")
    arrays = [x.numpy() for x in scores]
    for twin in (getattr(reference, name), getattr(reference, f"{name}_grad")):
        np.testing.assert_array_equal(twin(*arrays), twin(*arrays, kind="non-saturating"))
    if name == "generator_loss":
        assert (loss(*scores) > loss(*scores, kind="minimax")).all()


# What theory says


def densities(size=6, seed=0):
    """Return what real and fake samples have as probabilities, p and q."""
    return random(size, seed=seed).softmax(0), random(size, seed=seed + 1).softmax(0)


def expected_loss(score, p, q, kind):
    """Return the discriminator's expected loss, where it gives these scores to samples with these probabilities."""
    nothing = score[:0]
    of_real = [discriminator_loss(s.reshape(1), nothing, kind=kind, reduction="sum") for s in score]
    of_fake = [discriminator_loss(nothing, s.reshape(1), kind=kind, reduction="sum") for s in score]
    return p @ torch.stack(of_real) + q @ torch.stack(of_fake)


BEST_SCORE = {
    "minimax": lambda p, q: (p / q).log(),
    "non-saturating": lambda p, q: (p / q).log(),
    "lsgan": lambda p, q: p / (p + q),
    "hinge": lambda p, q: (p - q).sign(),
}
LEAST_LOSS = {
    "minimax": lambda p, q: 2 * math.log(2) - 2 * js_divergence(p, q),
    "non-saturating": lambda p, q: 2 * math.log(2) - 2 * js_divergence(p, q),
    "lsgan": lambda p, q: (p * q / (p + q)).sum() / 2,
    "hinge": lambda p, q: 2 * torch.minimum(p, q).sum(),  # 2 - 2 times the total variation
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", BEST_SCORE)
def test_the_best_discriminator_knows_the_ratio_of_the_densities_and_its_loss_how_far_they_are_apart(kind, seed):
    p, q = densities(seed=seed)
    best = BEST_SCORE[kind](p, q)
    least = expected_loss(best, p, q, kind)
    torch.testing.assert_close(least, LEAST_LOSS[kind](p, q))
    for step in torch.eye(len(p), dtype=torch.float64):
        for size in (0.1, -0.1, 1.0, -1.0):
            assert expected_loss(best + size * step, p, q, kind) > least


@given(seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=30)
def test_no_critic_of_slope_one_tells_more_of_two_samples_than_how_far_one_must_be_carried_to_the_other(seed):
    real, fake = random(20, seed=seed), random(20, seed=seed + 1) + 1
    carried = (real.sort().values - fake.sort().values).abs().mean()
    shift = random(1, seed=seed + 2)
    for critic in (torch.sin, torch.abs, torch.relu, torch.tanh, lambda x: -x, lambda x: (x - shift).abs()):
        assert -discriminator_loss(critic(real), critic(fake), kind="wgan") <= carried + 1e-12
    moved = real - 0.7
    torch.testing.assert_close(discriminator_loss(real, moved, kind="wgan").item(), -0.7)


@pytest.mark.parametrize("score", [-10.0, -30.0, -80.0])
def test_where_the_discriminator_is_sure_the_minimax_gradient_vanishes_and_the_other_does_not(score):
    fake = torch.tensor([score])
    _, (saturating,) = value_and_gradients(generator_loss, [fake], kind="minimax")
    _, (non_saturating,) = value_and_gradients(generator_loss, [fake], kind="non-saturating")
    assert -math.exp(score) <= saturating.item() < 0
    assert non_saturating.item() == pytest.approx(-1, abs=1e-4)


def test_both_generators_of_the_first_paper_have_the_same_direction_and_agree_where_the_discriminator_is_undecided():
    fake = random(50)
    slopes = [value_and_gradients(generator_loss, [fake], kind=kind)[1][0] for kind in KINDS[:2]]
    assert (slopes[0] < 0).all()
    assert (slopes[1] < 0).all()
    slopes = [value_and_gradients(generator_loss, [torch.zeros(1)], kind=kind)[1][0] for kind in KINDS[:2]]
    assert slopes[0] == slopes[1] == -0.5


@pytest.mark.parametrize("kind", ["minimax", "wgan"])
def test_in_a_zero_sum_game_the_generator_loses_what_the_discriminator_wins(kind):
    fake = random(10)
    _, (of_discriminator,) = value_and_gradients(
        lambda f: discriminator_loss(f[:0], f, kind=kind, reduction="sum"), [fake]
    )
    _, (of_generator,) = value_and_gradients(generator_loss, [fake], kind=kind, reduction="sum")
    torch.testing.assert_close(of_generator, -of_discriminator)


def test_the_logistic_kinds_are_torchs_cross_entropy_with_labels_one_and_zero():
    real, fake = random(4, 3), random(5)
    bce = F.binary_cross_entropy_with_logits
    expected = bce(real, torch.ones_like(real)) + bce(fake, torch.zeros_like(fake))
    torch.testing.assert_close(discriminator_loss(real, fake, kind="minimax"), expected)
    torch.testing.assert_close(discriminator_loss(real, fake), expected)
    torch.testing.assert_close(generator_loss(fake), bce(fake, torch.ones_like(fake)))
    torch.testing.assert_close(generator_loss(fake, kind="minimax"), -bce(fake, torch.zeros_like(fake)))
    torch.testing.assert_close(generator_loss(fake, kind="lsgan"), F.mse_loss(fake, torch.ones_like(fake)) / 2)


@every_kind
def test_the_gradient_is_the_derivative_of_the_value_and_0_at_the_kink_of_the_hinge(kind):
    real, fake = (x.requires_grad_() for x in (random(5), random(5, seed=1)))
    assert gradcheck(lambda *scores: discriminator_loss(*scores, kind=kind), (real, fake))
    assert gradgradcheck(lambda *scores: discriminator_loss(*scores, kind=kind), (real, fake))
    assert gradcheck(lambda score: generator_loss(score, kind=kind), fake)
    if kind in ("minimax", "non-saturating", "lsgan"):  # the others are straight lines
        assert gradgradcheck(lambda score: generator_loss(score, kind=kind), fake)
    if kind == "hinge":
        _, gradients = value_and_gradients(discriminator_loss, [torch.ones(1), -torch.ones(1)], kind=kind)
        assert [g.item() for g in gradients] == [0, 0]
        assert [g.item() for g in reference.discriminator_loss_grad(1.0, -1.0, kind=kind)] == [0, 0]


# Shapes, dtypes and transformations


@every_kind
@every_loss
def test_mean_and_sum_are_those_of_the_unreduced_loss(name, kind):
    scores = scores_for(name, 4, 3)
    loss = getattr(losses, name)
    unreduced = loss(*scores, kind=kind, reduction="none")
    assert unreduced.shape == (4, 3)
    torch.testing.assert_close(loss(*scores, kind=kind), unreduced.mean())
    torch.testing.assert_close(loss(*scores, kind=kind, reduction="sum"), unreduced.sum())
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loss(*(x.flatten()[order] for x in scores), kind=kind), unreduced.mean())


@every_kind
def test_real_and_fake_each_have_their_mean_however_many_they_are(kind):
    real, fake = random(4, 1), random(3, 2, 2, seed=1)
    of_real = discriminator_loss(real, fake[:0], kind=kind, reduction="sum") / 4
    of_fake = discriminator_loss(real[:0], fake, kind=kind, reduction="sum") / 12
    torch.testing.assert_close(discriminator_loss(real, fake, kind=kind), of_real + of_fake)
    twice = discriminator_loss(real, torch.cat([fake, fake]), kind=kind)
    torch.testing.assert_close(twice, of_real + of_fake)


@every_kind
@every_loss
def test_an_empty_batch_has_sum_zero_and_mean_nan(name, kind):
    empty = [x[:0] for x in scores_for(name, 2)]
    loss = getattr(losses, name)
    assert loss(*empty, kind=kind, reduction="sum") == 0
    assert loss(*empty, kind=kind).isnan()
    assert loss(*empty, kind=kind, reduction="none").shape == (0,)
    assert value_and_gradients(loss, empty, kind=kind)[1][0].shape == (0,)


@every_kind
@every_loss
def test_strided_scores_cost_what_their_contiguous_copies_cost(name, kind):
    scores = scores_for(name, 4, 3)
    strided = [x.repeat_interleave(2, -1)[:, ::2] for x in scores]
    assert not strided[0].is_contiguous()
    torch.testing.assert_close(
        value_and_gradients(getattr(losses, name), strided, kind=kind),
        value_and_gradients(getattr(losses, name), scores, kind=kind),
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@every_kind
@every_loss
def test_half_precision_is_computed_in_float32_and_rounded_once(name, kind, dtype):
    scores = [x.to(dtype) for x in scores_for(name, 40)]
    loss = getattr(losses, name)
    for reduction in ("none", "mean", "sum"):
        exact = loss(*(x.float() for x in scores), kind=kind, reduction=reduction)
        ours = loss(*scores, kind=kind, reduction=reduction)
        assert ours.dtype == dtype
        torch.testing.assert_close(ours, exact.to(dtype), rtol=0, atol=0)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.testing.assert_close(loss(*scores, kind=kind, reduction=reduction), exact, rtol=0, atol=0)


def test_scores_of_two_dtypes_have_the_dtype_they_promote_to():
    real, fake = torch.tensor([1.1]), torch.tensor([0.3]).half()
    assert discriminator_loss(real, fake).dtype == discriminator_loss(fake, real).dtype == torch.float32
    assert discriminator_loss(real, fake) == discriminator_loss(real, fake.float())
    assert discriminator_loss(real.double(), fake).dtype == torch.float64


@every_kind
@every_loss
def test_the_loss_can_be_mapped_over_samples(name, kind):
    scores = scores_for(name, 6)
    one_by_one = torch.vmap(
        torch.func.grad(lambda *s: getattr(losses, name)(*s, kind=kind), argnums=tuple(range(len(scores))))
    )(*scores)
    together = value_and_gradients(getattr(losses, name), scores, kind=kind, reduction="sum")[1]
    torch.testing.assert_close(one_by_one, together)


@every_kind
@every_loss
def test_the_loss_compiles_to_one_graph(name, kind):
    scores = [x.float() for x in scores_for(name, 6)]
    compiled = torch.compile(getattr(losses, name), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(
        value_and_gradients(compiled, scores, kind=kind), value_and_gradients(getattr(losses, name), scores, kind=kind)
    )


# The gradient penalty


def quadratic_critic(matrix):
    """Return a critic x A x / 2 with the gradient A x, for a symmetric A."""
    return lambda x: ((x.flatten(1) @ matrix) * x.flatten(1)).sum(1) / 2


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("target_norm", [0.0, 0.5, 1.0])
def test_the_penalty_of_a_linear_critic_has_a_closed_form_and_trains_it(target_norm, seed):
    weight = random(5, seed=seed).requires_grad_()
    real, fake = random(4, 5, seed=seed + 1), random(4, 5, seed=seed + 2)
    value = gradient_penalty(lambda x: x @ weight + 3, real, fake, target_norm=target_norm)
    (gradient,) = grad(value, weight)
    norm = weight.detach().norm()
    torch.testing.assert_close(value.detach(), (norm - target_norm) ** 2)
    torch.testing.assert_close(gradient, 2 * (norm - target_norm) * weight.detach() / norm)
    rows = weight.detach().numpy()[None]
    np.testing.assert_allclose(reference.gradient_penalty(rows, target_norm=target_norm), [value.item()], rtol=1e-12)
    np.testing.assert_allclose(
        reference.gradient_penalty_grad(rows, target_norm=target_norm)[0], gradient, rtol=1e-12, atol=1e-14
    )
    if target_norm == 1:  # the default
        assert gradient_penalty(lambda x: x @ weight + 3, real, fake) == value
        np.testing.assert_array_equal(
            reference.gradient_penalty(rows), reference.gradient_penalty(rows, target_norm=1.0)
        )
        np.testing.assert_array_equal(
            reference.gradient_penalty_grad(rows), reference.gradient_penalty_grad(rows, target_norm=1.0)
        )


@pytest.mark.parametrize("shape", [(6,), (6, 4), (6, 2, 2), (6, 1, 2, 2)], ids=str)
def test_the_penalty_of_a_quadratic_critic_shows_points_on_the_lines_between_the_samples(shape):
    size = math.prod(shape[1:])
    matrix = random(size, size).tril()
    matrix = matrix + matrix.T
    real, fake = random(*shape, seed=1), random(*shape, seed=2)
    seen = []

    def critic(x):
        seen.append(x.detach())
        return quadratic_critic(matrix)(x.reshape(len(x), -1))

    value = gradient_penalty(critic, real, fake, generator=torch.Generator().manual_seed(7), reduction="none")
    (points,) = seen
    share = ((points - fake) / (real - fake)).reshape(6, -1)
    torch.testing.assert_close(share, share[:, :1].expand_as(share))  # one share for the whole sample
    assert (share > 0).all()
    assert (share < 1).all()
    assert share[:, 0].unique().numel() == 6  # and for each sample its own
    slopes = (points.reshape(6, -1) @ matrix).numpy()
    np.testing.assert_allclose(value.detach(), reference.gradient_penalty(slopes), rtol=1e-12)


def test_points_are_spread_evenly_from_the_fake_to_the_real_samples():
    seen = []
    generator = torch.Generator().manual_seed(0)
    real, fake = torch.full((20_000, 1), 3.0), torch.full((20_000, 1), 2.0)
    gradient_penalty(lambda x: seen.append(x.detach()) or x, real, fake, generator=generator)
    share = seen[0].flatten() - 2
    quantiles = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9])
    torch.testing.assert_close(share.quantile(quantiles), quantiles, rtol=0, atol=0.02)


def test_the_same_generator_draws_the_same_points_and_leaves_torchs_own_alone():
    real, fake, critic = random(5, 3), random(5, 3, seed=1), quadratic_critic(torch.eye(3).double())
    state = torch.get_rng_state()
    first, second = (gradient_penalty(critic, real, fake, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert first == second
    assert gradient_penalty(critic, real, fake, generator=torch.Generator().manual_seed(4)) != first
    torch.manual_seed(3)
    assert gradient_penalty(critic, real, fake) == first


def test_of_real_samples_alone_with_norm_zero_the_penalty_is_the_squared_norm_at_them():
    real, matrix = random(5, 3), torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    value = gradient_penalty(quadratic_critic(matrix), real, real, target_norm=0, reduction="none")
    torch.testing.assert_close(value, (real @ matrix).square().sum(1), rtol=1e-14, atol=0)


@PRECISIONS
@pytest.mark.parametrize("scale", [1e-30, 1e-25, 1e-22, 1e-8, 1.0, 1e8, 1e15, 2e19, 1e30])
@pytest.mark.parametrize("target_norm", [0.0, 1.0])
def test_penalty_and_its_gradient_are_right_at_every_scale(dtype, tolerance, scale, target_norm):
    weight = (torch.tensor([3.0, -0.7, 0.0, 1e-3], dtype=dtype) * scale).requires_grad_()
    samples = torch.ones(1, 4, dtype=dtype), torch.zeros(1, 4, dtype=dtype)
    value = gradient_penalty(lambda x: x @ weight, *samples, target_norm=target_norm)
    (gradient,) = grad(value, weight)
    with mpmath.workdps(80):
        g = [mpf(w) for w in weight.tolist()]
        norm = mpmath.sqrt(mpmath.fsum(w * w for w in g))
        assert_near(value.item(), (norm - target_norm) ** 2, tolerance, dtype)
        for ours, w in zip(gradient.tolist(), g, strict=True):
            assert_near(ours, 2 * (norm - target_norm) * w / norm, tolerance, dtype)


@pytest.mark.parametrize("size", [0.0, 1e-30, 1.0, 1e30])
def test_the_second_derivative_of_the_squared_norm_is_2_everywhere(size):
    weight = torch.tensor([3.0 * size, 4.0 * size], requires_grad=True)
    value = gradient_penalty(lambda x: x @ weight, torch.ones(1, 2), torch.zeros(1, 2), target_norm=0.0)
    (gradient,) = grad(value, weight, create_graph=True)
    rows = [grad(slope, weight, retain_graph=True)[0].tolist() for slope in gradient]
    assert rows == [[2, 0], [0, 2]]


@PRECISIONS
def test_next_to_the_norm_wanted_the_penalty_is_as_exact_as_the_rounding_of_the_norm_allows(dtype, tolerance):
    weight = torch.tensor([0.6, 0.8001], dtype=dtype)
    value = gradient_penalty(lambda x: x @ weight, torch.ones(1, 2, dtype=dtype), torch.zeros(1, 2, dtype=dtype))
    with mpmath.workdps(50):
        excess = mpmath.sqrt(mpmath.fsum(mpf(w) ** 2 for w in weight.tolist())) - 1
        assert abs(mpmath.sqrt(mpf(value.item())) - excess) <= tolerance


def test_a_critic_that_is_flat_costs_the_square_of_the_norm_wanted_with_gradient_zero_and_no_nan():
    weight = torch.zeros(3, requires_grad=True)
    value = gradient_penalty(lambda x: x @ weight, torch.ones(2, 3), torch.zeros(2, 3), target_norm=2.0)
    assert value.item() == 4
    assert grad(value, weight)[0].tolist() == [0, 0, 0]
    rows = np.zeros((2, 3))
    assert reference.gradient_penalty(rows, target_norm=2.0).tolist() == [4, 4]
    assert not reference.gradient_penalty_grad(rows).any()


def test_the_gradient_of_the_penalty_is_its_derivative_in_the_parameters_of_a_critic():
    real, fake, inner, outer = random(4, 3), random(4, 3, seed=1), random(3, 2, seed=2), random(2, seed=3)

    def penalty(inner, outer):
        generator = torch.Generator().manual_seed(0)
        return gradient_penalty(lambda x: (x @ inner).tanh() @ outer, real, fake, generator=generator)

    parameters = (inner.requires_grad_(), outer.requires_grad_())
    assert gradcheck(penalty, parameters)
    assert gradgradcheck(penalty, parameters)


def test_training_with_the_penalty_gives_the_critic_slope_one():
    torch.manual_seed(0)
    critic = torch.nn.Linear(2, 1)
    optimiser = torch.optim.SGD(critic.parameters(), lr=0.05)
    real, fake = torch.tensor([[1.0, 0.0]]).repeat(8, 1), torch.zeros(8, 2)
    for _ in range(200):
        scores = critic(real), critic(fake)
        loss = discriminator_loss(*scores, kind="wgan") + 10 * gradient_penalty(critic, real, fake)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    # the loss -w_1 + 10 (|w| - 1)^2 is least at w = (1.05, 0)
    torch.testing.assert_close(critic.weight.detach(), torch.tensor([[1.05, 0.0]]), rtol=0, atol=1e-3)


def test_no_gradient_flows_to_the_samples():
    real, fake = random(4, 3).requires_grad_(), random(4, 3, seed=1).requires_grad_()
    weight = random(3).requires_grad_()
    value = gradient_penalty(lambda x: (x @ weight).square(), real, fake)
    assert grad(value, (real, fake), allow_unused=True, retain_graph=True) == (None, None)
    assert grad(value, weight)[0].isfinite().all()


def test_without_gradients_the_penalty_is_computed_all_the_same():
    critic = torch.nn.Linear(3, 1).double()
    real, fake = random(4, 3), random(4, 3, seed=1)
    with torch.no_grad():
        value = gradient_penalty(critic, real, fake)
    assert not value.requires_grad
    torch.testing.assert_close(value, gradient_penalty(critic, real, fake).detach())


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("shape", [(6,), (6, 1), (6, 1, 1, 1)], ids=str)
def test_scores_may_come_as_a_column_and_the_losses_are_reduced_over_the_samples(shape, reduction):
    real, fake, generator = random(6, 3), random(6, 3, seed=1), torch.Generator()
    value = gradient_penalty(
        lambda x: x.square().sum(1).reshape(shape), real, fake, generator=generator.manual_seed(0), reduction=reduction
    )
    each = gradient_penalty(
        lambda x: x.square().sum(1), real, fake, generator=generator.manual_seed(0), reduction="none"
    )
    assert each.shape == (6,)
    torch.testing.assert_close(value, {"none": each, "mean": each.mean(), "sum": each.sum()}[reduction])


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # torch's own, while tracing
def test_a_compiled_training_step_leaves_the_penalty_to_eager_torch():
    real, fake, weight = random(4, 3), random(4, 3, seed=1), random(3).requires_grad_()

    def step(real, fake):
        generator = torch.Generator().manual_seed(0)
        penalty = gradient_penalty(lambda x: (x @ weight).square(), real, fake, generator=generator)
        return discriminator_loss(real @ weight, fake @ weight, kind="wgan") + 10 * penalty

    gradients = [grad(loss(real, fake), weight)[0] for loss in (step, torch.compile(step, backend="aot_eager"))]
    torch.testing.assert_close(*gradients)


def test_a_batch_of_one_is_its_only_sample_and_an_empty_one_has_sum_zero_and_mean_nan():
    weight = random(3).requires_grad_()
    for samples in (1, 0):
        real, fake = random(samples, 3), random(samples, 3, seed=1)
        each = gradient_penalty(lambda x: x @ weight, real, fake, reduction="none")
        assert each.shape == (samples,)
        assert gradient_penalty(lambda x: x @ weight, real, fake, reduction="sum") == each.sum()
        mean = gradient_penalty(lambda x: x @ weight, real, fake)
        assert mean.isnan() if samples == 0 else mean == each[0]
        assert grad(each.sum(), weight)[0].shape == (3,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_takes_the_norm_in_float32_where_its_squares_would_underflow(dtype):
    weight = torch.full((50,), 1e-4, dtype=dtype, requires_grad=True)
    real, fake = torch.ones(4, 50, dtype=dtype), torch.zeros(4, 50, dtype=dtype)
    value = gradient_penalty(lambda x: (x * weight).sum(1), real, fake, target_norm=0.0)
    assert value.dtype == dtype
    torch.testing.assert_close(value, (50 * weight[0].detach().float() ** 2).to(dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert gradient_penalty(lambda x: (x * weight).sum(1), real, fake, target_norm=0.0).dtype == torch.float32
    mixed = gradient_penalty(lambda x: (x * weight).sum(1), real.float(), fake)
    assert mixed.dtype == torch.float32


def test_strided_samples_cost_what_their_contiguous_copies_cost():
    real, fake, generator = random(3, 5).T, random(3, 5, seed=1).T, torch.Generator()
    assert not real.is_contiguous()
    critic = quadratic_critic(torch.eye(3).double())
    values = [
        gradient_penalty(critic, *samples, generator=generator.manual_seed(0))
        for samples in ((real, fake), (real.contiguous(), fake.contiguous()))
    ]
    torch.testing.assert_close(*values)


# Refusals

X, SAMPLES = torch.zeros(3), torch.zeros(3, 2)


def head(x):
    return x.sum(1)


REFUSALS = [
    (discriminator_loss, ([0.0], X), {}, TypeError, "^real must be a torch.Tensor, got list"),
    (discriminator_loss, (X.long(), X), {}, TypeError, "^real must be a floating-point tensor, got torch.int64"),
    (discriminator_loss, (X, 0.0), {}, TypeError, "^fake must be a torch.Tensor, got float"),
    (discriminator_loss, (X, X > 0), {}, TypeError, "^fake must be a floating-point tensor, got torch.bool"),
    (discriminator_loss, (X, X), {"kind": "dcgan"}, ValueError, "^kind must be .* 'wgan', 'hinge', got 'dcgan'"),
    (discriminator_loss, (X, X), {"reduction": "average"}, ValueError, "'sum', got 'average'"),
    (discriminator_loss, (X, X[:1]), {"reduction": "none"}, ValueError, r"real \(3,\) and fake \(1,\)"),
    (generator_loss, ([0.0],), {}, TypeError, "^fake must be a torch.Tensor, got list"),
    (generator_loss, (X.long(),), {}, TypeError, "^fake must be a floating-point tensor, got torch.int64"),
    (generator_loss, (X,), {"kind": None}, ValueError, "^kind must be one of 'minimax', .*, got None"),
    (generator_loss, (X,), {"reduction": "average"}, ValueError, "'sum', got 'average'"),
    (gradient_penalty, (X, SAMPLES, SAMPLES), {}, TypeError, "^critic must be callable, got Tensor"),
    (gradient_penalty, (head, [0.0], SAMPLES), {}, TypeError, "^real must be a torch.Tensor, got list"),
    (gradient_penalty, (head, SAMPLES, SAMPLES.long()), {}, TypeError, "^fake must be a floating.*, got torch.int64"),
    (gradient_penalty, (head, SAMPLES, X), {}, ValueError, r"real \(3, 2\) and fake \(3,\)"),
    (gradient_penalty, (head, X[0], X[0]), {}, ValueError, r"batch dimension: shape \(N, ...\), got a scalar"),
    (gradient_penalty, (head, SAMPLES[:, :0], SAMPLES[:, :0]), {}, ValueError, r"one number in .*, got shape \(3, 0\)"),
    (gradient_penalty, (head, SAMPLES, SAMPLES), {"generator": 3}, TypeError, "a torch.Generator or None, got int"),
    (gradient_penalty, (head, SAMPLES, SAMPLES), {"target_norm": -1.0}, ValueError, "at least 0 and finite, got -1"),
    (gradient_penalty, (head, SAMPLES, SAMPLES), {"target_norm": math.inf}, ValueError, "at least 0 and finite, got"),
    (gradient_penalty, (head, SAMPLES, SAMPLES), {"target_norm": "1"}, TypeError, "must be a number, got str"),
    (gradient_penalty, (head, SAMPLES, SAMPLES), {"reduction": "average"}, ValueError, "'sum', got 'average'"),
    (gradient_penalty, (lambda x: 1.0, SAMPLES, SAMPLES), {}, TypeError, "return a torch.Tensor, got float"),
    (gradient_penalty, (lambda x: x, SAMPLES, SAMPLES), {}, ValueError, r"each of the 3 samples, .*, got \(3, 2\)"),
    (gradient_penalty, (torch.sum, SAMPLES, SAMPLES), {}, ValueError, r"each of the 3 samples, .*, got \(\)"),
    (gradient_penalty, (lambda x: head(x)[:2], SAMPLES, SAMPLES), {}, ValueError, r"got \(2,\)"),
    (gradient_penalty, (lambda x: X, SAMPLES, SAMPLES), {}, ValueError, "its scores do not depend on them"),
    (gradient_penalty, (lambda x: X.clone().requires_grad_(), SAMPLES, SAMPLES), {}, ValueError, "do not depend"),
]


@pytest.mark.parametrize(("loss", "arguments", "options", "error", "message"), REFUSALS)
def test_bad_input_is_refused_with_what_was_given_and_what_is_wanted(loss, arguments, options, error, message):
    with pytest.raises(error, match=message):
        loss(*arguments, **options)


def test_inference_mode_is_refused_as_it_keeps_no_graph():
    with torch.inference_mode(), pytest.raises(RuntimeError, match=r"graph of the critic, which torch.inference_mode"):
        gradient_penalty(head, SAMPLES, SAMPLES)


def test_discriminator_loss_refuses_shapes_that_differ_only_where_it_must_add_score_to_score():
    assert discriminator_loss(X, X[:1]).shape == ()
    assert discriminator_loss(X, X[:1], reduction="sum").shape == ()
