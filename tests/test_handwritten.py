"""The hand-written passes against autograd, the NumPy network and the course's own loop, and against bad input."""

from functools import partial
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from lib import handwritten, losses, numpy_network, training
from lib.handwritten import Gradient
from lib.networks import document_network


def mlp(sizes, dtype=torch.float64, seed=0):
    """Linear layers with ReLU between them, with biases that matter."""
    torch.manual_seed(seed)
    parts = []
    for inputs, outputs in pairwise(sizes):
        parts += [nn.Linear(inputs, outputs, dtype=dtype), nn.ReLU()]
    network = nn.Sequential(*parts[:-1])
    for layer in network[::2]:
        nn.init.normal_(layer.bias)
    return network.to(training.device())


def problem(sizes=(6, 7, 5, 4), rows=23, dtype=torch.float64, seed=0):
    network = mlp(sizes, dtype, seed)
    return network, (torch.randn(rows, sizes[0], dtype=dtype), torch.randint(sizes[-1], (rows,)))


def gradient_by_autograd(network, train, batch, label_smoothing=0.0):
    inputs, labels = (tensor[batch].to(training.device()) for tensor in train)
    value = F.cross_entropy(network(inputs), labels, label_smoothing=label_smoothing)
    return torch.cat([slope.flatten() for slope in torch.autograd.grad(value, list(network.parameters()))])


def relative(found, wanted):
    return ((found - wanted).norm() / wanted.norm()).item()


def on_device(rows):
    return torch.as_tensor(rows, device=training.device())


# The gradient


@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=5),
    rows=st.integers(1, 20),
    batch=st.lists(st.integers(0, 10**6), min_size=1, max_size=12),
    label_smoothing=st.sampled_from([0.0, 0.1, 1.0]),
    seed=st.integers(0, 100),
)
@settings(max_examples=60, deadline=None)
def test_the_gradient_is_autograds_for_any_depth_width_batch_and_smoothing(sizes, rows, batch, label_smoothing, seed):
    network, train = problem(sizes, rows, seed=seed)
    batch = torch.tensor(batch) % rows  # rows may occur twice
    wanted = gradient_by_autograd(network, train, batch, label_smoothing)
    gradient = Gradient(network, train, label_smoothing=label_smoothing)
    gradient(on_device(batch))
    torch.testing.assert_close(gradient.parameters.grad, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_the_gradient_of_the_documents_network_is_autograds_up_to_rounding(dtype, error):
    torch.manual_seed(0)
    network = document_network().to(training.device(), dtype)
    train = torch.rand(100, 784, dtype=dtype) * 2 - 1, torch.randint(10, (100,))
    batch = torch.randperm(100)[:64]
    wanted = gradient_by_autograd(network, train, batch, 0.1)
    gradient = Gradient(network, train, label_smoothing=0.1)
    gradient(on_device(batch))
    assert relative(gradient.parameters.grad, wanted) < error


def test_the_gradient_is_that_of_the_numpy_network():
    network, train = problem()
    arrays = [parameter.detach().cpu().numpy().copy() for parameter in network.parameters()]
    _, wanted = numpy_network.loss_and_gradients(arrays, train[0].numpy(), train[1].numpy())
    gradient = Gradient(network, train)
    gradient(on_device(torch.arange(23)))
    flat = torch.cat([torch.from_numpy(slope).flatten() for slope in wanted])
    torch.testing.assert_close(gradient.parameters.grad.cpu(), flat, rtol=1e-10, atol=1e-14)


def test_a_relu_at_0_passes_nothing_on():
    network, train = problem((1, 3, 2), rows=1)
    with torch.no_grad():
        network[0].weight[:, 0], network[0].bias[:] = on_device([1.0, 1.0, 1.0]), on_device([-5.0, -1.0, 1.0])
    gradient = Gradient(network, (torch.ones(1, 1, dtype=torch.float64), train[1]))
    gradient(on_device([0]))
    assert gradient.parameters.grad[3:5].tolist() == [0, 0]
    assert gradient.parameters.grad[5] != 0


def test_the_gradient_at_logits_in_the_thousands_is_finite_and_right():
    network, train = problem()
    with torch.no_grad():
        network[-1].weight.mul_(1e5)
    wanted = gradient_by_autograd(network, train, torch.arange(23))
    gradient = Gradient(network, train)
    gradient(on_device(torch.arange(23)))
    torch.testing.assert_close(gradient.parameters.grad, wanted, rtol=1e-8, atol=1e-8)


def test_batches_of_several_sizes_in_turn_do_not_disturb_each_other():
    network, train = problem()
    gradient = Gradient(network, train)
    for rows in (8, 3, 8, 23, 3):
        batch = torch.randperm(23)[:rows]
        gradient(on_device(batch))
        wanted = gradient_by_autograd(network, train, batch)
        torch.testing.assert_close(gradient.parameters.grad, wanted, rtol=1e-10, atol=1e-13)


def test_the_same_batch_twice_gives_the_same_bits():
    network, train = problem(dtype=torch.float32)
    gradient = Gradient(network, train)
    found = []
    for _ in range(2):
        gradient(on_device(torch.arange(23)))
        found.append(gradient.parameters.grad.clone())
    assert torch.equal(*found)


def test_a_step_allocates_no_tensor():
    network, train = problem()
    gradient = Gradient(network, train)
    batch = on_device(torch.arange(8))
    gradient(batch)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        gradient(batch)
    names = {event.key for event in profile.key_averages()}
    assert names  # something was seen
    assert not names & {"aten::empty", "aten::empty_like", "aten::zeros", "aten::clone", "aten::resize_"}


def test_bfloat16_is_off_by_a_few_of_its_roundings():
    torch.manual_seed(0)
    network = document_network().to(training.device())
    train = torch.rand(512, 784) * 2 - 1, torch.randint(10, (512,))
    wanted = gradient_by_autograd(network, train, torch.arange(512))
    gradient = Gradient(network, train, precision="bfloat16")
    gradient(on_device(torch.arange(512)))
    unit = torch.finfo(torch.bfloat16).eps
    assert gradient.parameters.grad.dtype == torch.float32
    assert 0 < relative(gradient.parameters.grad, wanted) < 8 * unit


def test_inputs_that_are_already_in_bfloat16_are_not_copied():
    network, (inputs, labels) = problem(dtype=torch.float32)
    given_, made = (
        Gradient(network, (data, labels), precision="bfloat16") for data in (inputs.to(torch.bfloat16), inputs)
    )
    for gradient in (given_, made):
        gradient(on_device(torch.arange(23)))
    assert torch.equal(given_.parameters.grad, made.parameters.grad)


# The parameters


def test_the_networks_parameters_become_parts_of_one_vector_with_their_values():
    network, train = problem()
    before = [parameter.detach().clone() for parameter in network.parameters()]
    gradient = Gradient(network, train)
    assert all(torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))
    with torch.no_grad():
        gradient.parameters.zero_()
    assert all((parameter == 0).all() for parameter in network.parameters())


def test_a_trained_network_can_be_saved_and_loaded():
    network, train = problem()
    handwritten.fit(network, train, epochs=2)
    twin = mlp((6, 7, 5, 4), seed=1)
    twin.load_state_dict(network.state_dict())
    inputs = train[0].to(training.device())
    assert torch.equal(twin(inputs), network(inputs))


# Training


@pytest.mark.parametrize(
    ("optimizer", "schedule"),
    [
        (None, None),
        (partial(torch.optim.Adam, lr=1e-2, betas=(0.8, 0.98)), lambda o, n: OneCycleLR(o, 1e-2, total_steps=n)),
        (partial(torch.optim.SGD, lr=0.1, momentum=0.9), None),
    ],
    ids=["default", "Adam, one-cycle", "SGD"],
)
def test_training_ends_with_the_weights_of_the_courses_own_loop(optimizer, schedule):
    options = {"epochs": 3, "batch_size": 5, "seed": 7, "optimizer": optimizer, "schedule": schedule}
    networks = []
    for way in ("handwritten", "autograd"):
        network, train = problem()
        if way == "handwritten":
            handwritten.fit(network, train, label_smoothing=0.1, **options)
        else:
            training.fit(network, partial(losses.cross_entropy, label_smoothing=0.1), train, **options)
        networks.append(network)
    for ours, theirs in zip(*(network.parameters() for network in networks), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def test_training_in_bfloat16_lowers_the_loss_and_keeps_the_parameters_in_float32():
    network, train = problem(rows=200, dtype=torch.float32)
    before = training.evaluate(network, losses.cross_entropy, train).loss
    handwritten.fit(network, train, epochs=20, precision="bfloat16")
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert training.evaluate(network, losses.cross_entropy, train).loss < before - 0.1


def test_no_epochs_change_nothing():
    network, train = problem()
    before = [parameter.detach().clone() for parameter in network.parameters()]
    handwritten.fit(network, train, epochs=0)
    assert all(torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
def test_a_captured_graph_gives_the_gradient_of_each_new_batch_and_of_moved_parameters():
    network, train = problem()
    gradient = Gradient(network, train)
    for rows in (8, 3, 8):
        batch = torch.randperm(23)[:rows]
        gradient(on_device(batch))
        wanted = gradient_by_autograd(network, train, batch)
        torch.testing.assert_close(gradient.parameters.grad, wanted, rtol=1e-9, atol=1e-12)
        with torch.no_grad():
            gradient.parameters.mul_(0.9)


# Bad input


@pytest.mark.parametrize(
    ("network", "found"),
    [
        (nn.Linear(6, 4), "got Linear"),
        (nn.Sequential(), "got none"),
        (nn.Sequential(nn.Linear(6, 4), nn.ReLU()), "got Linear, ReLU"),
        (nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 4)), "got Linear, Tanh, Linear"),
        (nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 4, bias=False)), "got one without a bias"),
    ],
    ids=["no Sequential", "empty", "ends with ReLU", "tanh", "no bias"],
)
def test_another_kind_of_network_is_refused(network, found):
    with pytest.raises(TypeError, match=f"network must be nn.Sequential: .*; {found}"):
        handwritten.fit(network, (torch.zeros(5, 6), torch.zeros(5, dtype=torch.int64)))


@pytest.mark.parametrize(
    ("inputs", "labels", "error", "message"),
    [
        (torch.zeros(5, 7), torch.zeros(5).long(), ValueError, r"must have the shape \(N, 6\), got \(5, 7\)"),
        (torch.zeros(5, 2, 3), torch.zeros(5).long(), ValueError, r"must have the shape \(N, 6\), got \(5, 2, 3\)"),
        (torch.zeros(5, 6).byte(), torch.zeros(5).long(), TypeError, "inputs must be floats, got torch.uint8"),
        (torch.zeros(5, 6), torch.zeros(5), TypeError, "classes, int64, got torch.float32"),
        (torch.zeros(5, 6), torch.zeros(5, 1).long(), ValueError, r"must have the shape \(N,\), got \(5, 1\)"),
        (torch.zeros(5, 6), torch.full((5,), 4), ValueError, "from 0 to 3, got 4 to 4"),
        (torch.zeros(5, 6), torch.full((5,), -1), ValueError, "from 0 to 3, got -1 to -1"),
        (torch.zeros(5, 6), torch.zeros(4).long(), ValueError, "a target for each input, got 5 inputs, 4 targets"),
        (torch.zeros(0, 6), torch.zeros(0).long(), ValueError, "at least one row"),
    ],
)
def test_data_that_do_not_fit_are_refused(inputs, labels, error, message):
    with pytest.raises(error, match=message):
        handwritten.fit(mlp((6, 5, 4), torch.float32), (inputs, labels))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epochs": -1}, ValueError, "epochs must be at least 0, got -1"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"seed": 1.5}, TypeError, "seed must be an integer, got 1.5"),
        ({"label_smoothing": 1.1}, ValueError, "label_smoothing must be from 0 to 1, got 1.1"),
        ({"precision": "float16"}, ValueError, "precision must be one of 'float32', 'bfloat16', got 'float16'"),
        ({"optimizer": 1e-3}, TypeError, "optimizer must be a function of the parameters"),
        ({"schedule": 1e-3}, TypeError, "schedule must be a function of"),
    ],
)
def test_options_out_of_range_are_refused_before_anything_is_changed(options, error, message):
    network, train = problem()
    before = [parameter.detach().clone() for parameter in network.parameters()]
    with pytest.raises(error, match=message):
        handwritten.fit(network, train, **options)
    assert all(torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))
