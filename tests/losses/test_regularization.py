"""The penalties against their NumPy twins, against mpmath, and against what theory says of them."""

import subprocess
import sys

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import grad, gradcheck, gradgradcheck

from lib.losses import regularization
from lib.losses.regularization import elastic_net_penalty, l1_penalty, l2_penalty
from lib.reference import regularization as reference

PENALTIES = ["l1_penalty", "l2_penalty", "elastic_net_penalty"]
EVERY_PENALTY = pytest.mark.parametrize("penalty", [getattr(regularization, name) for name in PENALTIES], ids=PENALTIES)


def random(*shape, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)), dtype=dtype)


def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))


@pytest.mark.parametrize("options", [{}, {"l1_ratio": 0.0}, {"l1_ratio": 0.3}, {"l1_ratio": 1.0}], ids=str)
@pytest.mark.parametrize("name", PENALTIES)
def test_value_and_gradient_equal_the_numpy_twin(name, options):
    if options and name != "elastic_net_penalty":
        options = {}
    tensors = [random(3, 4).requires_grad_(), random(5).requires_grad_()]
    arrays = [tensor.detach().numpy() for tensor in tensors]
    value = getattr(regularization, name)([("a", tensors[0]), ("b", tensors[1])], **options)
    assert value.item() == pytest.approx(getattr(reference, name)(arrays, **options), rel=1e-12)
    twin_gradient = getattr(reference, f"{name}_grad")
    for ours, truth in zip(grad(value, tensors), twin_gradient(arrays, **options), strict=True):
        np.testing.assert_allclose(ours, truth, rtol=1e-12)
    np.testing.assert_array_equal(twin_gradient(arrays[0], **options), twin_gradient(arrays, **options)[0])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("scale", [1e-30, 1e-15, 1.0, 1e15, 1e30])
@pytest.mark.parametrize("l1_ratio", [0.0, 1e-3, 0.5, 1.0])
def test_value_and_gradient_are_right_at_every_scale(dtype, tolerance, scale, l1_ratio):
    weights = (torch.tensor([1.0, -0.3, 0.7], dtype=dtype) * scale).requires_grad_()
    value = elastic_net_penalty([("w", weights)], l1_ratio=l1_ratio)
    (gradient,) = grad(value, weights)
    limits = torch.finfo(dtype)
    with mpmath.workdps(50):
        rho, truth = mpmath.mpf(l1_ratio), mpmath.mpf(0)
        for w, ours in zip(weights.tolist(), gradient.tolist(), strict=True):
            truth += rho * abs(mpmath.mpf(w)) + (1 - rho) * mpmath.mpf(w) ** 2
            slope = rho * mpmath.sign(w) + 2 * (1 - rho) * mpmath.mpf(w)
            assert abs(ours - slope) <= tolerance * abs(slope)
        if truth > limits.max:
            assert value.item() == torch.inf
        else:
            assert abs(value.item() - truth) <= tolerance * truth + limits.tiny


@EVERY_PENALTY
def test_gradient_is_the_derivative_of_the_value(penalty):
    weights = random(2, 3).requires_grad_()
    assert gradcheck(lambda w: penalty([("w", w)]), weights)
    assert gradgradcheck(lambda w: penalty([("w", w)]), weights)


@EVERY_PENALTY
def test_zero_is_where_the_penalty_and_its_gradient_vanish(penalty):
    weights = torch.zeros(3, requires_grad=True)
    value = penalty([("w", weights)])
    assert value.item() == 0
    assert grad(value, weights)[0].eq(0).all()


@given(seed=st.integers(0, 2**31), scale=st.floats(1e-3, 1e3))
@settings(deadline=None)
def test_l1_grows_with_the_scale_and_l2_with_its_square(seed, scale):
    weights = torch.randn(7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for penalty, power in ((l1_penalty, 1), (l2_penalty, 2)):
        torch.testing.assert_close(penalty([("w", -scale * weights)]), scale**power * penalty([("w", weights)]))


@EVERY_PENALTY
def test_penalty_of_a_model_is_the_sum_over_its_tensors(penalty):
    network = model()
    parts = [penalty([pair]) for pair in network.named_parameters()]
    torch.testing.assert_close(penalty(network), sum(parts))
    torch.testing.assert_close(penalty(network.named_parameters()), sum(parts))


def test_elastic_net_goes_from_l2_to_l1():
    network = model()
    torch.testing.assert_close(elastic_net_penalty(network, l1_ratio=0.0), l2_penalty(network))
    torch.testing.assert_close(elastic_net_penalty(network, l1_ratio=1.0), l1_penalty(network))
    torch.testing.assert_close(elastic_net_penalty(network), (l1_penalty(network) + l2_penalty(network)) / 2)


def test_half_of_l2_times_a_strength_is_the_weight_decay_of_sgd():
    penalised, decayed = model(), model()
    (0.01 / 2 * l2_penalty(penalised)).backward()
    for weights in decayed.parameters():
        weights.grad = torch.zeros_like(weights)
    torch.optim.SGD(penalised.parameters(), lr=0.1).step()
    torch.optim.SGD(decayed.parameters(), lr=0.1, weight_decay=0.01).step()
    torch.testing.assert_close(list(penalised.parameters()), list(decayed.parameters()))


@pytest.mark.parametrize("penalty", [l1_penalty, l2_penalty])
def test_minimiser_is_the_soft_threshold_of_l1_and_the_shrinkage_of_l2(penalty):
    data = torch.tensor([2.0, -0.3, 0.5, -4.0], dtype=torch.float64)
    weights = torch.linspace(-5, 5, 100_001, dtype=torch.float64)
    strength = 0.8
    for value in data:
        costs = torch.vmap(lambda w, y=value: (w - y) ** 2 / 2 + strength * penalty([("w", w)]))(weights)
        soft = value.sign() * (value.abs() - strength).clamp(min=0)
        truth = soft if penalty is l1_penalty else value / (1 + 2 * strength)
        assert weights[costs.argmin()].item() == pytest.approx(truth.item(), abs=1e-4)


@EVERY_PENALTY
@pytest.mark.parametrize("exclude", ["*bias", ["*.bias"], ("0.bias", "2.bias"), {"?.b*"}, "?.b?a?"], ids=str)
def test_excluded_parameters_add_nothing_and_get_no_gradient(penalty, exclude):
    network = model()
    value = penalty(network, exclude=exclude)
    torch.testing.assert_close(value, penalty([("a", network[0].weight), ("b", network[2].weight)]))
    value.backward()
    assert network[0].bias.grad is None
    assert network[0].weight.grad is not None


@EVERY_PENALTY
def test_tied_weights_count_once_and_any_of_their_names_excludes_them(penalty):
    network = torch.nn.ModuleDict({"one": torch.nn.Linear(3, 3), "two": torch.nn.Linear(3, 3)})
    network["two"].weight = network["one"].weight
    torch.testing.assert_close(
        penalty(network),
        sum(penalty([("w", w)]) for w in (network["one"].weight, network["one"].bias, network["two"].bias)),
    )
    torch.testing.assert_close(penalty(network, exclude="two.weight"), penalty(network, exclude="*.weight"))


@EVERY_PENALTY
def test_penalty_of_nothing_is_zero(penalty):
    assert penalty([]).item() == 0
    assert penalty(torch.nn.ReLU()).item() == 0
    assert penalty(model(), exclude="*").item() == 0
    assert penalty([("w", torch.ones(0))]).item() == 0


@EVERY_PENALTY
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32_and_does_not_overflow(penalty, dtype):
    weights = torch.full((100_000,), 300.0, dtype=dtype, requires_grad=True)
    value = penalty([("w", weights)])
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, penalty([("w", weights.float())]))
    (gradient,) = grad(value, weights)
    assert gradient.dtype == dtype
    assert gradient.gt(0).all()
    assert gradient.isfinite().all()


@EVERY_PENALTY
def test_order_of_memory_does_not_matter(penalty):
    weights = random(4, 5)
    torch.testing.assert_close(penalty([("w", weights.T)]), penalty([("w", weights)]))
    torch.testing.assert_close(
        penalty([("w", weights[:, ::2])]), penalty([("w", weights[:, ::2].contiguous())]), rtol=1e-12, atol=0
    )


@EVERY_PENALTY
def test_penalty_can_be_mapped_over_models(penalty):
    weights = random(4, 5)
    gradients = torch.vmap(torch.func.grad(lambda w: penalty([("w", w)])))(weights)
    whole = weights.clone().requires_grad_()
    torch.testing.assert_close(gradients, grad(penalty([("w", whole)]), whole)[0])


@EVERY_PENALTY
def test_penalty_of_a_module_compiles_to_one_graph(penalty):
    network = model()
    compiled = torch.compile(lambda: penalty(network, exclude=("0.bias", "2.b*")), backend="aot_eager", fullgraph=True)
    value = compiled()
    torch.testing.assert_close(value, penalty(network, exclude="*bias"))
    torch.testing.assert_close(
        grad(value, network[0].weight), grad(penalty(network, exclude="*bias"), network[0].weight)
    )


def test_the_losses_load_without_the_compiler_that_few_of_their_users_need():
    program = "import sys, lib.losses; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_error_about_a_name_does_not_list_all_names():
    names = [f"layer{i}.weight" for i in range(1000)]
    with pytest.raises(ValueError, match=r"'layer12\.weight'") as error:
        l1_penalty([(name, torch.ones(1)) for name in names], exclude="layer12_weight")
    assert len(str(error.value)) < 200


@EVERY_PENALTY
@pytest.mark.parametrize(
    ("parameters", "options", "error", "message"),
    [
        (torch.ones(3), {}, TypeError, "or an iterable of .name, tensor. pairs, got Tensor"),
        (3.0, {}, TypeError, "pairs, got float"),
        ([torch.ones(3)], {}, TypeError, "got an iterable of Tensor"),
        ({"weight": torch.ones(3)}, {}, TypeError, "got an iterable of str"),
        ([("w", 1.0)], {}, TypeError, "w must be a torch.Tensor, got float"),
        ([(1, torch.ones(3))], {}, TypeError, "got an iterable of tuple"),
        ([("steps", torch.ones(3, dtype=torch.long))], {}, TypeError, "steps must be a floating-point .* torch.int64"),
        ([("w", torch.ones(3))], {"exclude": 3}, TypeError, "exclude must be .* names, got int"),
        ([("w", torch.ones(3))], {"exclude": ["w", None]}, TypeError, "exclude must be .* names, got NoneType"),
        ([("w", torch.ones(3))], {"exclude": "bias"}, ValueError, r"got 'bias'; the nearest names are \['w'\]"),
        ([], {"exclude": "*"}, ValueError, r"name parameters, got '\*'; the nearest names are \[\]"),
        (
            model(),
            {"exclude": "*.biass"},
            ValueError,
            r"got '\*.biass'; the nearest names are \['.\.bias', '.\.bias', ",
        ),
        (model(), {"exclude": ["*bias", "0_weight"]}, ValueError, r"'0_weight'; the nearest names are \['0.weight', "),
        (model(), {"exclude": "?weight"}, ValueError, "got '.weight'; the nearest"),
        (
            torch.nn.Linear(2, 2, dtype=torch.cfloat),
            {},
            TypeError,
            "^weight must be a floating-point tensor, got torch.complex64",
        ),
    ],
)
def test_bad_input_is_refused_with_what_was_given_and_what_is_wanted(penalty, parameters, options, error, message):
    with pytest.raises(error, match=message):
        penalty(parameters, **options)


@pytest.mark.parametrize(
    ("l1_ratio", "error", "message"),
    [
        (-0.1, ValueError, "between 0 and 1, got -0.1"),
        (1.1, ValueError, "between 0 and 1, got 1.1"),
        (float("nan"), ValueError, "between 0 and 1, got nan"),
        ("half", TypeError, "l1_ratio must be a number, got str"),
    ],
)
def test_a_share_that_is_none_is_refused(l1_ratio, error, message):
    with pytest.raises(error, match=message):
        elastic_net_penalty(model(), l1_ratio=l1_ratio)
