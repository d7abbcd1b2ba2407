"""Adversarial inputs and TRADES: exactly within their ball, optimal where the optimum is known, and no trace left."""

import copy
import math
from fractions import Fraction
from functools import partial

import mpmath
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd import grad, gradcheck

from lib.losses import adversarial as losses
from lib.reference import adversarial as reference

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
ATTACKS = {
    "fgsm": losses.fgsm,
    "pgd": lambda *arguments, **options: losses.pgd(*arguments, **{"generator": seeded()} | options),
    "pgd from the input": lambda *arguments, **options: losses.pgd(*arguments, **options, random_start=False),
}
each_attack = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(samples=4, features=6, dtype=torch.float64, seed=0):
    return torch.rand(samples, features, generator=seeded(seed), dtype=torch.float64).to(dtype)


def labels(samples=4, classes=3, seed=0):
    return torch.randint(classes, (samples,), generator=seeded(seed))


def linear(features=6, classes=3, dtype=torch.float64, seed=0):
    model = nn.Linear(features, classes, dtype=torch.float64)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=seeded(seed), dtype=torch.float64)
    return model.to(dtype)


def network(features=6, classes=3, seed=0):
    """Return a network that bends, in training mode, with layers whose mode matters."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Linear(features, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.5), nn.Linear(16, classes)
        return nn.Sequential(*layers).double()


def seen_by(model):
    """Return the model wrapped so that it records its inputs, and the record."""
    record = []

    def recording(x):
        record.append(x.detach().clone())
        return model(x)

    return recording, record


def signed(output, target):
    """A loss that is linear in the output."""
    return (output * target).sum()


# The ball and the bounds


def assert_within(adversarial, input, epsilon, bounds=None):
    """Compare as fractions, which do not round."""
    assert adversarial.shape == input.shape
    assert adversarial.dtype == input.dtype
    for ours, x in zip(adversarial.flatten().tolist(), input.flatten().tolist(), strict=True):
        assert abs(Fraction(ours) - Fraction(x)) <= Fraction(epsilon)
        assert bounds is None or bounds[0] <= ours <= bounds[1]


@each_attack
@pytest.mark.parametrize("dtype", DTYPES)
@given(epsilon=st.floats(0, 1) | st.floats(0, 1e-6) | st.sampled_from([0.1, 0.3, 8 / 255]), seed=st.integers(0))
@settings(deadline=None, max_examples=25)
def test_no_number_leaves_its_ball_or_the_bounds_not_even_by_a_rounding(attack, dtype, epsilon, seed):
    model, x, y = linear(dtype=dtype, seed=seed % 7), images(dtype=dtype, seed=seed % 1009), labels(seed=seed % 11)
    x[0] = x[0].round()  # at the bounds
    assert_within(attack(model, x, y, epsilon=epsilon), x, epsilon, (0, 1))
    x = (x - 0.5) * 4
    assert_within(attack(model, x, y, epsilon=epsilon, bounds=None), x, epsilon)


@each_attack
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("epsilon", [1e-30, 1e-9, 0.3, 7.7, 3e4])
def test_the_ball_is_exact_at_every_size_of_the_input(attack, dtype, epsilon):
    sizes = torch.tensor([0.0, 1e-40, 1e-7, 0.1, 0.3, 1.0, 777.7, 6e4, torch.finfo(dtype).max], dtype=torch.float64)
    x = torch.cat([sizes, -sizes]).to(dtype)
    for direction in (1, -1):
        adversarial = attack(nn.Identity(), x, direction, epsilon=epsilon, bounds=None, loss=signed)
        assert adversarial.isfinite().all()
        assert_within(adversarial, x, epsilon)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("direction", [1, -1])
def test_the_ball_is_used_to_its_end(dtype, direction):
    x, epsilon = torch.linspace(-1, 1, 101, dtype=torch.float64).to(dtype), 0.3
    adversarial = losses.fgsm(nn.Identity(), x, direction, epsilon=epsilon, bounds=None, loss=signed)
    wanted = x.double() + direction * epsilon
    further = adversarial.nextafter(torch.full_like(x, direction * math.inf))
    further = further.nextafter(torch.full_like(x, direction * math.inf)).double()
    assert (direction * (further - wanted) > -torch.finfo(torch.float32).eps * epsilon).all()


@each_attack
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_ball_of_radius_0_leaves_the_input_as_it_is(attack, dtype):
    x = images(dtype=dtype)
    assert attack(linear(dtype=dtype), x, labels(), epsilon=0).equal(x)
    assert attack(linear(dtype=dtype), x, labels(), epsilon=0).data_ptr() != x.data_ptr()


@each_attack
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.25, 0.75), (0, 1), [0.2, 0.9]], ids=str)
def test_the_result_is_clipped_to_the_bounds_and_reaches_them(attack, bounds):
    x = images(20).clamp(*bounds)
    adversarial = attack(linear(), x, labels(20), epsilon=2.0, bounds=bounds)
    assert set(adversarial.flatten().tolist()) == set(bounds)


def test_the_bounds_are_0_and_1_unless_others_are_given():
    for attack in ATTACKS.values():
        adversarial = attack(linear(), images(), labels(), epsilon=2.0)
        assert (adversarial.min(), adversarial.max()) == (0, 1)
    with pytest.raises(ValueError, match=r"within the bounds 0.0 and 1.0, got .* to 1.5"):
        losses.trades_loss(linear(), images() + 1.5 - images().max(), labels(), epsilon=0.1)


def test_bounds_count_in_the_dtype_of_the_input():
    x = torch.tensor([0.1, 0.3])  # as float32, 0.1 and 0.3 are above the numbers that are meant
    adversarial = losses.fgsm(nn.Identity(), x, 1.0, epsilon=0.5, bounds=(0.1, 0.3), loss=signed)
    assert adversarial.equal(torch.tensor([0.3, 0.3]))
    assert losses.fgsm(nn.Identity(), x, -1.0, epsilon=0.5, bounds=(0.1, 0.3), loss=signed).equal(x[[0, 0]])


# What theory says of the attacks


@given(seed=st.integers(0, 1000), epsilon=st.floats(0.01, 1))
@settings(deadline=None)
def test_on_a_linear_loss_every_attack_reaches_the_optimum_which_is_epsilon_times_the_sum_of_the_slopes(seed, epsilon):
    weight = torch.randn(6, generator=seeded(seed), dtype=torch.float64)
    x = images(seed=seed)
    for attack in ATTACKS.values():
        adversarial = attack(lambda x: x @ weight, x, 1.0, epsilon=epsilon, bounds=None, loss=signed)
        gained = adversarial @ weight - x @ weight
        torch.testing.assert_close(gained, (epsilon * weight.abs().sum()).expand(4))


@given(seed=st.integers(0, 1000), epsilon=st.floats(0.0, 0.5))
@settings(deadline=None, max_examples=30)
def test_no_point_of_the_ball_has_a_larger_loss_where_the_model_is_linear_with_two_classes(seed, epsilon):
    model, x, y = linear(classes=2, seed=seed), images(seed=seed), labels(classes=2, seed=seed)
    worst = F.cross_entropy(model(losses.fgsm(model, x, y, epsilon=epsilon)), y, reduction="none")
    noise = 2 * torch.rand(50, *x.shape, generator=seeded(seed), dtype=x.dtype) - 1
    for other in (x + epsilon * noise).clamp(0, 1).unbind():
        assert (F.cross_entropy(model(other), y, reduction="none") <= worst + 1e-12).all()


@given(seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_more_steps_never_lose_on_a_convex_loss_of_a_linear_model(seed):
    model, x, y = linear(seed=seed), images(seed=seed), labels(seed=seed)
    options = {"epsilon": 0.3, "step_size": 0.05, "random_start": False}
    risks = [
        F.cross_entropy(model(losses.pgd(model, x, y, steps=steps, **options)), y, reduction="none")
        for steps in range(1, 10)
    ]
    for fewer, more in zip([F.cross_entropy(model(x), y, reduction="none"), *risks], risks, strict=False):
        assert (more >= fewer - 1e-12).all()
    assert risks[-1].sum() > risks[0].sum()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("epsilon", [0.03, 0.1, 1 / 3])
def test_one_step_of_the_whole_radius_from_the_input_is_fgsm(epsilon, dtype):
    model, x, y = linear(dtype=dtype), images(dtype=dtype), labels()
    one_step = losses.pgd(model, x, y, epsilon=epsilon, step_size=epsilon, steps=1, random_start=False)
    assert one_step.equal(losses.fgsm(model, x, y, epsilon=epsilon))


def test_where_the_loss_bends_small_steps_find_the_peak_that_one_step_leaps_over():
    x, peak = torch.tensor([0.5]), 0.6

    def loss(output, target):
        return -(output - peak).square().sum()

    assert losses.fgsm(nn.Identity(), x, None, epsilon=0.3, loss=loss).item() == pytest.approx(0.8)
    found = losses.pgd(nn.Identity(), x, None, epsilon=0.3, step_size=0.02, steps=20, loss=loss, generator=seeded())
    assert abs(found.item() - peak) <= 0.02 + 1e-6


def test_an_attack_raises_the_loss_of_a_network_and_more_steps_raise_it_further():
    model, x, y = network().eval(), images(50), labels(50)
    one_step, ten_steps = (ATTACKS[name](model, x, y, epsilon=0.3) for name in ("fgsm", "pgd"))
    clean, once, often = (F.cross_entropy(model(z), y, reduction="none") for z in (x, one_step, ten_steps))
    assert (once > clean).all()
    assert often.mean() > once.mean() > 1.1 * clean.mean()


@each_attack
def test_a_number_whose_slope_is_0_stays_in_its_ball_and_without_noise_where_it_is(attack):
    x = images()
    adversarial = attack(lambda x: x[:, :2], x, 1.0, epsilon=0.1, loss=signed)
    assert_within(adversarial, x, 0.1)
    assert (adversarial[:, :2] >= x[:, :2]).all()
    if attack is not ATTACKS["pgd"]:
        assert adversarial[:, 2:].equal(x[:, 2:])


@each_attack
def test_each_sample_is_attacked_by_itself(attack):
    model, x, y = linear(classes=2), images(), labels(classes=2)
    together = attack(model, x, y, epsilon=3.0)
    alone = [attack(model, x[i : i + 1], y[i : i + 1], epsilon=3.0) for i in range(len(x))]
    assert together.equal(torch.cat(alone))


def test_a_large_batch_does_not_push_small_gradients_below_the_smallest_float():
    model = nn.Linear(2, 2, bias=False).half()
    model.weight.data = torch.tensor([[2.0, -2.0], [0.0, 0.0]]).half()
    x, y = torch.tensor([[4.0, -4.0]]).half().repeat(500, 1), torch.zeros(500, dtype=torch.long)
    adversarial = losses.fgsm(model, x, y, epsilon=0.5, bounds=None)  # the slope is 2e-7, its mean would be 5e-10
    assert adversarial.equal(x + torch.tensor([-0.5, 0.5]).half())


# Confidence is no robustness


def confident(gap, samples=4, dtype=torch.float32):
    """Return a linear model of four classes, inputs, and their classes, each of which leads its rivals by ``gap``.

    The classes look for one pattern, each in its own place, and each input is one image turned.
    """
    pattern, image = torch.randn(20, generator=seeded(), dtype=torch.float64), images(1, 20)[0]
    model = nn.Linear(20, 4, bias=False)
    x = torch.stack([image.roll(5 * i) for i in range(samples)])
    weight = torch.stack([pattern.roll(5 * i) for i in range(4)])
    best, second = (weight @ image).topk(2).values
    model.weight.data = weight * gap / (best - second)
    return model.to(dtype), x.to(dtype), (x @ weight.T).argmax(1)


def places(model):
    """Return the model with its inputs cut into places: the classes of each stand in the second dimension."""
    return lambda x: model(x.unflatten(-1, (-1, 20))).transpose(-1, -2)


CONFIDENT = [
    (torch.float16, 18.0),
    (torch.bfloat16, 110.0),
    (torch.float32, 110.0),
    (torch.float32, 5000.0),
    (torch.float64, 5000.0),
]


@each_attack
@pytest.mark.parametrize(("dtype", "gap"), CONFIDENT)
def test_a_confident_model_is_attacked_like_an_unsure_one(attack, dtype, gap):
    model, x, y = confident(gap, dtype=dtype)
    unsure, exact, _ = confident(0.1, dtype=torch.float64)
    adversarial = attack(model, x, y, epsilon=3.0)  # to a corner of the bounds, whatever the start
    lost = (model(adversarial).argmax(1) != y).double().mean()
    assert lost == (unsure(attack(unsure, exact, y, epsilon=3.0)).argmax(1) != y).double().mean() == 1


def test_an_attack_under_autocast_to_float16_moves_as_without():
    model, x, y = confident(18.0)
    exact = losses.fgsm(model, x, y, epsilon=0.1)
    with torch.autocast("cpu", dtype=torch.float16):
        assert losses.fgsm(model, x, y, epsilon=0.1).equal(exact)
    assert not exact.equal(x)


@pytest.mark.parametrize("gap", [0.1, 3.0, 20.0])
def test_the_default_climbs_along_the_cross_entropy_where_that_has_a_slope(gap):
    model, x, y = confident(gap, samples=12, dtype=torch.float64)
    maps, wide, many = places(model), x.reshape(3, 80), y.reshape(3, 4)
    many[1] = (many[1] + 1) % 4  # a sample that is all wrong, and one of both kinds
    many[2, 0] = (many[2, 0] + 1) % 4
    certain = F.one_hot(many, 4).double().transpose(1, 2)
    amounts = certain * torch.tensor([0.0, 3.0, 0.1, 1.0], dtype=torch.float64)  # of four places, the first nothing
    soft = (4 * images(12, 4)).softmax(1).reshape(3, 4, 4).transpose(1, 2)
    for target in (many, certain, amounts, soft):
        for attack in ATTACKS.values():
            ours = attack(maps, wide, target, epsilon=0.1)
            assert ours.equal(attack(maps, wide, target, epsilon=0.1, loss=F.cross_entropy))


@pytest.mark.parametrize(("dtype", "gap"), CONFIDENT)
def test_confident_outputs_of_several_places_and_for_class_probabilities_are_attacked_too(dtype, gap):
    model, x, y = confident(gap, dtype=dtype)
    expected = losses.fgsm(model, x, y, epsilon=0.1)
    assert not expected.equal(x)
    probabilities = F.one_hot(y, 4).to(dtype)
    assert losses.fgsm(model, x, probabilities, epsilon=0.1).equal(expected)
    four = torch.cat([x[:1]] * 4, 1)
    ours = losses.fgsm(places(model), four, y[:1].expand(1, 4), epsilon=0.1)
    assert ours.equal(torch.cat([expected[:1]] * 4, 1))


def test_the_places_of_one_sample_may_be_all_ignored_or_have_no_rival():
    model, x, y = confident(30.0)
    pairs, target = torch.stack([x, x], 1).flatten(1), torch.stack([y, y], 1)
    target[0] = -100
    target[1, 1] = -100
    ours = losses.fgsm(places(model), pairs, target, epsilon=0.1).unflatten(1, (2, 20))
    expected = losses.fgsm(model, x, y, epsilon=0.1)
    assert ours[0].equal(torch.stack([x[0], x[0]]))
    assert ours[1].equal(torch.stack([expected[1], x[1]]))
    assert ours[2].equal(torch.stack([expected[2], expected[2]]))
    one_class = nn.Linear(20, 1)
    assert losses.fgsm(one_class, x, torch.zeros_like(y), epsilon=0.1).equal(x)


def test_a_class_that_is_ruled_out_does_not_disturb_the_search():
    model, x, y = confident(3.0, dtype=torch.float64)
    fifth = torch.full((len(x), 1), -torch.inf, dtype=torch.float64)
    for target, wider in ((y, y), (F.one_hot(y, 4).double(), F.one_hot(y, 5).double())):
        for attack in (*ATTACKS.values(), trades):
            ours = attack(lambda x: torch.cat([model(x), fifth], 1), x, wider, epsilon=0.1)
            torch.testing.assert_close(ours, attack(model, x, target, epsilon=0.1), rtol=1e-12, atol=0)


def test_a_single_input_without_a_batch_is_attacked_as_a_batch_of_one():
    model, x, y = confident(200.0)
    for target in (y, F.one_hot(y, 4).float()):
        alone = losses.fgsm(model, x[0], target[0], epsilon=0.1)
        assert alone.equal(losses.fgsm(model, x[:1], target[:1], epsilon=0.1)[0])
        assert not alone.equal(x[0])


@pytest.mark.parametrize(("dtype", "gap"), CONFIDENT)
def test_the_search_of_trades_misleads_a_confident_model(dtype, gap):
    model, x, y = confident(gap, samples=40, dtype=dtype)
    recording, record = seen_by(model)
    value = trades(recording, x, y, epsilon=1.0)
    # where the noise makes the model more confident still, the divergence has a slope that way as well
    assert (model(record[-1]).argmax(1) != y).double().mean() > 0.2
    assert value > gap


@pytest.mark.parametrize("name", ["fgsm", "pgd", "trades_loss"])
@pytest.mark.parametrize("output", [math.nan, math.inf, -math.inf])
def test_a_model_whose_output_is_no_number_is_not_called_robust(name, output):
    model, x, y = linear(), images(), torch.tensor([0, 1, 2, 1])

    def broken(x):
        return model(x) + output * F.one_hot(torch.tensor([0, 0, 1, 1]), 3)  # right, rivals, truth

    def nan_alone(x):
        return model(x) + math.nan

    for other in (broken, nan_alone):
        with pytest.raises(ValueError, match="the slope of the model's output in input must be finite, got NaN"):
            getattr(losses, name)(other, x, y, epsilon=0.1)


def test_a_loss_that_is_given_may_have_no_slope_that_is_not_finite():
    with pytest.raises(ValueError, match="must be finite"):
        losses.fgsm(nn.Identity(), torch.zeros(3), None, epsilon=0.1, loss=lambda output, target: output.sqrt().sum())


# The random start and the defaults


def start_of(x, **options):
    """Return where the steps of pgd begin: with a slope of 0 they lead nowhere."""
    return losses.pgd(lambda x: 0 * x, x, 1.0, loss=signed, **options)


def test_the_start_is_drawn_evenly_from_the_ball():
    x = torch.full((100_000,), 5.0, dtype=torch.float64)
    noise = start_of(x, epsilon=2.0, bounds=None, generator=seeded()) - x
    assert noise.abs().max() <= 2
    quantiles = torch.linspace(0, 1, 21, dtype=torch.float64)
    torch.testing.assert_close(noise.quantile(quantiles), 4 * quantiles - 2, rtol=0, atol=0.03)


def test_the_start_is_clipped_to_the_bounds():
    start = start_of(torch.zeros(1000), epsilon=0.5, generator=seeded())
    assert 400 < (start == 0).sum() < 600
    assert start.min() == 0
    assert start.max() > 0.45


def test_a_generator_makes_the_start_repeatable_and_without_one_it_follows_torchs_seed():
    x = images()
    first, again, other = (start_of(x, epsilon=0.1, generator=seeded(seed)) for seed in (1, 1, 2))
    assert first.equal(again)
    assert not first.equal(other)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        assert start_of(x, epsilon=0.1).equal(first)
        assert not start_of(x, epsilon=0.1).equal(first)


def test_without_a_random_start_the_steps_begin_at_the_input():
    assert start_of(images(), epsilon=0.1, random_start=False).equal(images())


@pytest.mark.parametrize("epsilon", [0.1, 0.3])
def test_the_defaults_are_ten_steps_of_a_quarter_of_the_radius_from_a_random_start(epsilon):
    model, x, y = network().eval(), images(), labels()
    explicit = {"step_size": epsilon / 4, "steps": 10, "random_start": True, "bounds": (0.0, 1.0)}
    ours = losses.pgd(model, x, y, epsilon=epsilon, generator=seeded(5))
    assert ours.equal(losses.pgd(model, x, y, epsilon=epsilon, generator=seeded(5), **explicit))
    recording, record = seen_by(model)
    losses.pgd(recording, x, y, epsilon=epsilon)
    assert len(record) == 10
    recording, record = seen_by(nn.Identity())
    losses.pgd(recording, 0 * x, 1.0, epsilon=epsilon, random_start=False, loss=signed)
    climbed = torch.stack(record).amax((1, 2))
    torch.testing.assert_close(climbed, torch.arange(10).double().mul(epsilon / 4).clamp(max=epsilon))


def test_the_default_loss_is_the_cross_entropy_of_classes_or_of_probabilities():
    model, x, y = network().eval(), images(), labels()
    for target in (y, F.one_hot(y, 3).double(), images(features=3).softmax(1)):
        ours = losses.fgsm(model, x, target, epsilon=0.1)
        assert ours.equal(losses.fgsm(model, x, target, epsilon=0.1, loss=F.cross_entropy))


@each_attack
def test_a_loss_may_return_one_value_for_each_sample_or_their_mean(attack):
    def each(output, target):
        return F.cross_entropy(output, target, reduction="none")

    model, x, y = linear(), images(), labels()
    ours = attack(model, x, y, epsilon=3.0, loss=each)
    assert ours.equal(attack(model, x, y, epsilon=3.0, loss=F.cross_entropy))
    assert not ours.equal(attack(model, x, y, epsilon=3.0, loss=lambda output, target: -each(output, target)))


# No trace is left


@each_attack
@pytest.mark.parametrize("training", [True, False])
def test_an_attack_leaves_no_gradient_in_model_or_input_and_the_mode_as_it_is(attack, training):
    model = network().train(training)
    model[1].eval()
    model[0].weight.grad = torch.full_like(model[0].weight, 7.0)
    x = images().requires_grad_()
    before, x_before = copy.deepcopy(model.state_dict()), x.detach().clone()
    adversarial = attack(model, x, labels(), epsilon=0.1)
    assert not adversarial.requires_grad
    assert x.grad is None
    assert x.equal(x_before)
    assert x.requires_grad
    assert model[0].weight.grad.eq(7).all()
    assert all(p.grad is None for name, p in model.named_parameters() if name != "0.weight")
    assert [module.training for module in model] == [training, False, training, training, training]
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


@each_attack
def test_an_attack_works_under_no_grad_and_leaves_it_on(attack):
    model, x, y = linear(), images(), labels()
    with torch.no_grad():
        inside = attack(model, x, y, epsilon=3.0)
        assert not torch.is_grad_enabled()
    assert inside.equal(attack(model, x, y, epsilon=3.0))


@each_attack
def test_under_autocast_the_ball_keeps_the_precision_of_the_input(attack):
    model, x, y = linear(dtype=torch.float32), images(dtype=torch.float32), labels()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        adversarial = attack(model, x, y, epsilon=0.3)
    assert_within(adversarial, x, 0.3, (0, 1))
    assert (adversarial - x).abs().max() > 0.29999


@each_attack
def test_images_of_any_shape_and_stride_and_batches_of_none_can_be_attacked(attack):
    model = nn.Sequential(nn.Flatten(), linear())
    x = images().reshape(4, 2, 3)
    strided = x.transpose(1, 2).contiguous().transpose(1, 2)
    assert not strided.is_contiguous()
    assert attack(model, strided, labels(), epsilon=3.0).equal(attack(model, x, labels(), epsilon=3.0))
    assert attack(model, x[:0], labels()[:0], epsilon=0.1).shape == (0, 2, 3)


@each_attack
def test_a_compiled_model_can_be_attacked(attack):
    torch.compiler.reset()
    model, x, y = linear(), images(), labels()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    assert attack(compiled, x, y, epsilon=3.0).equal(attack(model, x, y, epsilon=3.0))


# Against the NumPy twins


@pytest.mark.parametrize("bounds", [(0.0, 1.0), None], ids=str)
@pytest.mark.parametrize("sureness", [1, 1e4])
@pytest.mark.parametrize("seed", range(4))
def test_the_twins_of_the_attacks_find_the_same_inputs_of_a_linear_model_by_its_closed_form(seed, sureness, bounds):
    model, x, y = linear(seed=seed), images(seed=seed), labels(seed=seed)
    model.weight.data *= sureness
    arrays = [model.weight.detach().numpy(), model.bias.detach().numpy(), x.numpy(), y.numpy()]
    for options in ({"epsilon": 0.1}, {"epsilon": 0.4}):
        ours = losses.fgsm(model, x, y, **options, bounds=bounds)
        np.testing.assert_allclose(reference.fgsm(*arrays, **options, bounds=bounds), ours, rtol=1e-12)
        for steps in ({}, {"steps": 3}, {"step_size": 0.07}):
            ours = losses.pgd(model, x, y, **options, **steps, bounds=bounds, random_start=False)
            np.testing.assert_allclose(reference.pgd(*arrays, **options, **steps, bounds=bounds), ours, rtol=1e-12)
    assert np.array_equal(reference.fgsm(*arrays, epsilon=2), reference.fgsm(*arrays, epsilon=2, bounds=(0.0, 1.0)))
    assert np.array_equal(reference.pgd(*arrays, epsilon=2), reference.pgd(*arrays, epsilon=2, bounds=(0.0, 1.0)))


def test_the_twins_compute_in_float64():
    single = images(features=3, dtype=torch.float32).numpy()
    wide, y = single.astype(float), labels().numpy()
    assert np.array_equal(reference.trades_loss(single, single[::-1], y), reference.trades_loss(wide, wide[::-1], y))


def test_the_twin_of_trades_takes_a_single_row_and_does_not_overflow():
    rows, y = np.array([[1e4, 0.0, -1e4], [3.0, 2.0, 1.0]]), np.array([2, 0])
    for row, label, loss in zip(rows, y, reference.trades_loss(rows, rows, y), strict=True):
        assert reference.trades_loss(row, row, label) == loss
    assert reference.trades_loss(rows, rows, y)[0] == 2e4
    together = reference.trades_loss_grad(rows, rows[::-1], y)
    alone = [reference.trades_loss_grad(rows[i], rows[1 - i], y[i]) for i in range(2)]
    np.testing.assert_allclose(together, np.swapaxes(alone, 0, 1))


def trades_and_gradients(x, y, **options):
    """Return TRADES where logits are the input plus a bias, with its gradients in both, and the logits it compared."""
    x, bias = x.clone().requires_grad_(), torch.zeros(x.shape[-1], dtype=x.dtype, requires_grad=True)
    recording, record = seen_by(lambda x: x + bias)
    options = {"epsilon": 0.5, "bounds": None, "generator": seeded()} | options
    value = losses.trades_loss(recording, x, y, **options, reduction="none")
    clean, both = grad(value.sum(), [x, bias])
    return value.detach(), clean, both, record[-1]


@pytest.mark.parametrize("options", [{}, {"beta": 0.7}, {"epsilon": 3.0}], ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_the_twin_of_trades_has_its_value_and_hand_derived_gradients(seed, options):
    x, y = 3 * torch.randn(5, 4, generator=seeded(seed), dtype=torch.float64), labels(5, 4, seed)
    value, clean, both, adversarial = trades_and_gradients(x, y, **options)
    beta = {"beta": options["beta"]} if "beta" in options else {}
    arrays = [x.numpy(), adversarial.numpy(), y.numpy()]
    np.testing.assert_allclose(reference.trades_loss(*arrays, **beta), value, rtol=1e-12)
    by_hand, by_hand_of_adversarial = reference.trades_loss_grad(*arrays, **beta)
    np.testing.assert_allclose(by_hand, clean, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose((by_hand + by_hand_of_adversarial).sum(0), both, rtol=1e-11, atol=1e-13)


# Against mpmath


def trades_of_mpmath(logits, adversarial, label, beta):
    def log_softmax(z):
        z = [mpmath.mpf(value) for value in z]
        return [value - mpmath.log(mpmath.fsum(map(mpmath.exp, z))) for value in z]

    log_p, log_q = log_softmax(logits), log_softmax(adversarial)
    p, q = ([mpmath.exp(value) for value in logs] for logs in (log_p, log_q))
    divergence = mpmath.fsum(a * (b - c) for a, b, c in zip(p, log_p, log_q, strict=True))
    slopes = [
        p[j] - (j == label) + beta * (p[j] * (log_p[j] - log_q[j] - divergence) + q[j] - p[j]) for j in range(len(p))
    ]
    sizes = [
        abs(p[j] - (j == label)) + beta * (p[j] * (abs(log_p[j] - log_q[j]) + divergence) + q[j] + p[j])
        for j in range(len(p))
    ]
    return -log_p[label] + beta * divergence, slopes, sizes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("epsilon", [1e-6, 0.01, 1.0, 30.0])
@pytest.mark.parametrize("spread", [0.1, 3.0, 20.0, 300.0])
def test_trades_is_right_from_near_agreement_to_contradiction(spread, epsilon, dtype):
    tolerance = 2e-6 if dtype == torch.float32 else 1e-12
    x = (spread * torch.randn(5, 3, generator=seeded(7), dtype=torch.float64)).to(dtype)
    y = x.argmax(1)  # all right, so that cross-entropy does not hide the divergence
    for row, label in zip(x, y, strict=True):
        value, _, both, adversarial = trades_and_gradients(row[None], label[None], epsilon=epsilon, beta=100.0)
        with mpmath.workdps(400):
            truth, slopes, sizes = trades_of_mpmath(row.tolist(), adversarial[0].tolist(), label.item(), 100)
            assert abs(value.item() - truth) <= tolerance * truth + torch.finfo(dtype).tiny
            for ours, slope, size in zip(both.tolist(), slopes, sizes, strict=True):
                assert abs(ours - slope) <= tolerance * size + torch.finfo(dtype).tiny


# TRADES


def trades(model, x, y, **options):
    return losses.trades_loss(model, x, y, **{"epsilon": 0.2, "generator": seeded()} | options)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("options", [{"beta": 0}, {"epsilon": 0.0}, {"epsilon": 0, "beta": 3.0}], ids=str)
def test_without_weight_or_radius_trades_is_the_cross_entropy(options, reduction):
    model, x, y = linear(), images(), labels()
    ours = trades(model, x, y, **options, reduction=reduction)
    natural = F.cross_entropy(model(x), y, reduction=reduction)
    torch.testing.assert_close(ours, natural)
    parameters = list(model.parameters())
    torch.testing.assert_close(grad(ours.sum(), parameters), grad(natural.sum(), parameters))


def test_with_weight_0_the_model_runs_once_and_nothing_is_drawn():
    recording, record = seen_by(linear())
    generator = seeded()
    losses.trades_loss(recording, images(), labels(), epsilon=0.1, beta=0, generator=generator)
    assert len(record) == 1
    assert generator.get_state().equal(seeded().get_state())


def test_trades_is_cross_entropy_plus_beta_times_the_divergence_from_the_clean_to_the_adversarial_output():
    model, x, y = network().eval(), images(), labels()
    recording, record = seen_by(model)
    ours = trades(recording, x, y, beta=2.5, reduction="none")
    clean, adversarial = model(x), model(record[-1])
    divergence = F.kl_div(adversarial.log_softmax(1), clean.softmax(1), reduction="none").sum(1)
    expected = F.cross_entropy(clean, y, reduction="none") + 2.5 * divergence
    torch.testing.assert_close(ours, expected)
    parameters = list(model.parameters())
    torch.testing.assert_close(grad(ours.sum(), parameters), grad(expected.sum(), parameters))


def test_the_search_finds_an_input_of_the_ball_that_the_model_calls_something_else():
    model, x, y = network().eval(), images(50), labels(50)
    recording, record = seen_by(model)
    trades(recording, x, y)
    start, found, clean = record[2], record[-1], model(x)
    assert_within(found, x, 0.2, (0, 1))

    def divergence(there):
        return F.kl_div(model(there).log_softmax(1), clean.softmax(1), reduction="none").sum(1)

    assert (divergence(found) > divergence(start)).all()
    random = (x + 0.4 * torch.rand(x.shape, generator=seeded(3), dtype=x.dtype) - 0.2).clamp(0, 1)
    assert divergence(found).mean() > 3 * divergence(random).mean()


def test_the_search_starts_from_a_thousandth_of_normal_noise_within_the_ball_and_the_bounds():
    recording, record = seen_by(lambda x: 0 * x)
    x = torch.full((2, 50_000), 0.5, dtype=torch.float64)
    losses.trades_loss(recording, x, labels(2), epsilon=0.1, generator=seeded())
    noise = record[-1] - x
    assert noise.mean().item() == pytest.approx(0, abs=1e-5)
    assert noise.std().item() == pytest.approx(1e-3, rel=0.01)
    assert (noise.abs() < 1e-3).double().mean().item() == pytest.approx(0.6827, abs=0.005)
    losses.trades_loss(recording, x, labels(2), epsilon=0.0005, generator=seeded())
    assert_within(record[-1][:, :500], x[:, :500], 0.0005)
    losses.trades_loss(recording, 0 * x, labels(2), epsilon=0.1, generator=seeded())
    assert record[-1].min() == 0


@given(seed=st.integers(0, 1000), epsilon=st.floats(0, 1), beta=st.floats(0, 100))
@settings(deadline=None, max_examples=30)
def test_trades_is_never_less_than_the_cross_entropy_and_linear_in_beta(seed, epsilon, beta):
    model, x, y = linear(seed=seed), images(seed=seed), labels(seed=seed)
    options = {"epsilon": epsilon, "reduction": "none"}
    natural, once = (trades(model, x, y, beta=b, **options) for b in (0, 1))
    assert (once >= natural).all()
    torch.testing.assert_close(trades(model, x, y, beta=beta, **options), natural + beta * (once - natural))


def test_the_defaults_of_trades_are_beta_6_and_ten_steps_of_a_quarter_of_the_radius():
    model, x, y = network().eval(), images(), labels()
    explicit = {"beta": 6.0, "step_size": 0.05, "steps": 10, "bounds": (0.0, 1.0), "reduction": "mean"}
    assert trades(model, x, y) == trades(model, x, y, **explicit)
    for other in ({"beta": 5.0}, {"step_size": 0.02}, {"steps": 1}):
        assert trades(model, x, y) != trades(model, x, y, **explicit | other)
    recording, record = seen_by(model)
    trades(recording, x, y)
    assert len(record) == 13  # clean, clean in evaluation mode, ten steps, adversarial


def test_a_generator_makes_trades_repeatable():
    model, x, y = network().eval(), images(), labels()
    first, again, other = (trades(model, x, y, epsilon=0.01, steps=1, generator=seeded(seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_gradient_of_trades_is_the_derivative_of_its_value():
    x, y, weight = images(), labels(), linear().weight.detach().requires_grad_()
    assert gradcheck(lambda weight: trades(lambda x: x @ weight.T, x, y, steps=2), weight)


@pytest.mark.parametrize("fails", [False, True])
def test_the_search_runs_in_evaluation_mode_and_each_module_returns_to_its_own(fails):
    model = network()
    model[3].eval()  # a part that is frozen
    modes = []

    def recording(x):
        modes.append([module.training for module in model])
        if fails and len(modes) == 5:
            raise RuntimeError("out of memory")
        return model(x)

    wrapped = nn.Module()
    wrapped.model, wrapped.forward = model, recording
    mixed = [True, True, True, False, True]
    if fails:
        with pytest.raises(RuntimeError, match="out of memory"):
            trades(wrapped, images(), labels())
    else:
        trades(wrapped, images(), labels())
        assert modes == [mixed, *([[False] * 5] * 11), mixed]
    assert [module.training for module in model] == mixed
    assert wrapped.training


def test_batch_normalisation_sees_the_clean_and_the_adversarial_batch_once_each():
    model = network()
    trades(model, images(), labels())
    assert model[1].num_batches_tracked == 2


def test_trades_leaves_gradients_alone_until_backward():
    model, x = network(), images().requires_grad_()
    loss = trades(model, x, labels())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert x.grad is None
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_trades_can_be_evaluated_under_no_grad():
    model, x, y = network().eval(), images(), labels()
    with torch.no_grad():
        inside = trades(model, x, y)
    assert not inside.requires_grad
    assert inside == trades(model, x, y)


def test_ignored_rows_of_trades_cost_what_removed_rows_cost():
    model, x, y = linear(), images(6), labels(6)
    y[[1, 4]] = -100
    counts = y != -100
    recording, record = seen_by(model)
    ours = trades(recording, x, y)
    clean, adversarial = model(x)[counts], model(record[-1])[counts]
    divergence = F.kl_div(adversarial.log_softmax(1), clean.softmax(1), reduction="batchmean")
    torch.testing.assert_close(ours, F.cross_entropy(clean, y[counts]) + 6 * divergence)
    assert trades(model, x, y, reduction="none")[~counts].eq(0).all()


def test_class_probabilities_and_outputs_of_more_dimensions_are_accepted():
    model, x, y = linear(), images(), labels()
    torch.testing.assert_close(trades(model, x, F.one_hot(y, 3).double()), trades(model, x, y))
    maps = nn.Sequential(nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 3, 1).double())
    target = torch.randint(3, (4, 6), generator=seeded())
    assert trades(maps, x, target, reduction="none").shape == (4, 6)


def test_an_empty_batch_costs_nan_on_average_and_0_in_sum():
    model, x, y = linear(), images()[:0], labels()[:0]
    assert trades(model, x, y).isnan()
    assert trades(model, x, y, reduction="sum") == 0
    assert trades(model, x, y, reduction="none").shape == (0,)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_of_half_precision_logits_trades_is_computed_in_float32_and_rounded_once(dtype, reduction):
    model, x, y = linear(dtype=dtype), images(50, dtype=dtype), labels(50)
    exact = trades(lambda x: model(x).float(), x, y, reduction=reduction)
    assert exact.dtype == torch.float32
    assert trades(model, x, y, reduction=reduction).equal(exact.to(dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert trades(model, x, y, reduction=reduction).dtype == torch.float32


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_adversarial_input_of_trades_has_the_dtype_of_the_input_and_is_within_its_ball(dtype):
    x = images(dtype=dtype)
    recording, record = seen_by(linear(dtype=dtype))
    trades(recording, x, labels(), epsilon=0.3)
    assert_within(record[-1], x, 0.3, (0, 1))


# Refusals

X, Y = torch.full((2, 3), 0.5), torch.tensor([0, 2])
REFUSALS = [
    ((None, X, Y), {}, TypeError, "model must be callable, got NoneType"),
    ((nn.Identity(), [0.5], Y), {}, TypeError, "input must be a torch.Tensor, got list"),
    ((nn.Identity(), X.byte(), Y), {}, TypeError, "input must be a floating-point tensor, got torch.uint8"),
    ((nn.Identity(), X, Y), {"epsilon": -0.1}, ValueError, "epsilon must be at least 0 and at most 3.*, got -0.1"),
    ((nn.Identity(), X, Y), {"epsilon": math.inf}, ValueError, "epsilon must be at least 0 .*, got inf"),
    ((nn.Identity(), X.half(), Y), {"epsilon": 1e5}, ValueError, "epsilon must be .* at most 65504, got 100000.0"),
    ((nn.Identity(), X, Y), {"epsilon": "0.1"}, TypeError, "epsilon must be a number, got str"),
    ((nn.Identity(), X, Y), {"bounds": 1.0}, TypeError, "bounds must be a pair of numbers or None, got 1.0"),
    (
        (nn.Identity(), X, Y),
        {"bounds": (0, 1, 2)},
        TypeError,
        r"a pair of numbers or None, got \(0, 1, 2\)",
    ),
    ((nn.Identity(), X, Y), {"bounds": (None, 1)}, TypeError, "the lower bound must be a number, got NoneType"),
    ((nn.Identity(), X, Y), {"bounds": (0, math.inf)}, ValueError, "the upper bound must be finite, got inf"),
    ((nn.Identity(), X, Y), {"bounds": (1, 0)}, ValueError, "lower bound must be less than the upper one, got 1 and 0"),
    ((nn.Identity(), X, Y), {"bounds": (1, 1)}, ValueError, "lower bound must be less than the upper one, got 1 and 1"),
    ((nn.Identity(), 3 * X, Y), {}, ValueError, "within the bounds 0.0 and 1.0, got 1.5 to 1.5"),
    ((nn.Identity(), X - 1, Y), {}, ValueError, "within the bounds 0.0 and 1.0, got -0.5 to -0.5"),
    ((nn.Identity(), X, Y), {"bounds": (0.6, 1)}, ValueError, "within the bounds 0.6.* and 1.0, got 0.5 to 0.5"),
    ((nn.Identity(), X * math.nan, Y), {"bounds": None}, ValueError, "within the bounds .*, got nan to nan"),
    ((nn.Identity(), X * math.inf, Y), {"bounds": None}, ValueError, "within the bounds .*, got inf to inf"),
    ((lambda x: x.detach(), X, Y), {}, ValueError, "must depend on input through a graph"),
    ((lambda x: torch.ones(2, 3, requires_grad=True) * 1, X, Y), {}, ValueError, "must depend on input"),
    ((nn.Identity(), X, torch.tensor([0, 3])), {}, ValueError, r"in \[0, 3\).*, got 3"),
]
STEPS = [
    ({"steps": 0}, ValueError, "steps must be at least 1, got 0"),
    ({"steps": 2.0}, TypeError, "steps must be an integer, got float"),
    ({"steps": True}, TypeError, "steps must be an integer, got bool"),
    ({"step_size": 0}, ValueError, "step_size must be positive and at most 3.*, got 0"),
    ({"step_size": -0.1}, ValueError, "step_size must be positive and at most 3.*, got -0.1"),
    ({"step_size": math.inf}, ValueError, "step_size must be positive .*, got inf"),
    ({"step_size": "1"}, TypeError, "step_size must be a number, got str"),
    ({"generator": 3}, TypeError, "generator must be a torch.Generator or None, got int"),
]


@pytest.mark.parametrize("name", ["fgsm", "pgd", "trades_loss"])
@pytest.mark.parametrize(("arguments", "options", "error", "message"), REFUSALS)
def test_bad_input_is_refused_with_what_was_given_and_what_is_wanted(name, arguments, options, error, message):
    with pytest.raises(error, match=message):
        getattr(losses, name)(*arguments, **{"epsilon": 0.1} | options)


@pytest.mark.parametrize("name", ["pgd", "trades_loss"])
@pytest.mark.parametrize(("options", "error", "message"), STEPS)
def test_bad_steps_are_refused_before_the_model_runs(name, options, error, message):
    with pytest.raises(error, match=message):
        getattr(losses, name)(lambda x: pytest.fail("the model ran"), X, Y, epsilon=0.1, **options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"beta": -1}, ValueError, "beta must be finite .* at least 0, got -1"),
        ({"beta": math.inf}, ValueError, "beta must be finite .* at least 0, got inf"),
        ({"beta": 10**400}, ValueError, "beta must be finite .* at least 0, got 10+$"),
        ({"beta": "6"}, TypeError, "beta must be a number, got str"),
        ({"reduction": "average"}, ValueError, "'sum', got 'average'"),
    ],
)
def test_bad_options_of_trades_are_refused_before_the_model_runs(options, error, message):
    with pytest.raises(error, match=message):
        losses.trades_loss(lambda x: pytest.fail("the model ran"), X, Y, epsilon=0.1, **options)


@pytest.mark.parametrize("attack", [losses.fgsm, losses.pgd])
def test_a_loss_that_cannot_be_called_is_refused_before_the_model_runs(attack):
    with pytest.raises(TypeError, match="loss must be callable or None, got str"):
        attack(lambda x: pytest.fail("the model ran"), X, Y, epsilon=0.1, loss="ce")


@pytest.mark.parametrize(
    "attack",
    [losses.fgsm, losses.pgd, losses.trades_loss, partial(losses.trades_loss, beta=0.01)],
)
def test_inference_mode_is_refused_for_it_keeps_no_graph(attack):
    with torch.inference_mode(), pytest.raises(RuntimeError, match=r"torch.inference_mode\(\) keeps no graph"):
        attack(lambda x: pytest.fail("the model ran"), X, Y, epsilon=0.1)


def test_without_a_search_trades_may_run_in_inference_mode():
    with torch.inference_mode():
        assert losses.trades_loss(nn.Identity(), X, Y, epsilon=0.1, beta=0) == F.cross_entropy(X, Y)


@each_attack
def test_the_default_device_of_torch_does_not_matter(attack):
    model, x, y = linear(), images(), labels()
    expected = attack(model, x, y, epsilon=0.3)
    generator = seeded()
    with torch.device("meta"):
        assert attack(model, x, y, epsilon=0.3, **({"generator": generator} if attack is ATTACKS["pgd"] else {})).equal(
            expected
        )


def test_a_model_or_loss_that_returns_no_floats_is_refused():
    with pytest.raises(TypeError, match=r"the loss of the model's output must be a torch\.Tensor, got float"):
        losses.fgsm(nn.Identity(), X, Y, epsilon=0.1, loss=lambda output, target: 1.0)
    with pytest.raises(TypeError, match=r"model\(input\) must be a floating-point tensor, got torch.int64"):
        losses.trades_loss(lambda x: x.long(), X, Y, epsilon=0.1)
