"""The network in NumPy against PyTorch's autograd and optimizers, against differences, and against bad input."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lib.numpy_network import (
    ACTIVATIONS,
    accuracy,
    adam,
    backward,
    forward,
    initial_parameters,
    loss_and_gradients,
    sgd,
    slopes,
    train,
)

SIZES = [(3, 2), (5, 4, 3), (6, 7, 5, 4)]
TORCH = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}
eachwise = pytest.mark.parametrize(("sizes", "activation"), [(sizes, name) for sizes in SIZES for name in ACTIVATIONS])


def problem(sizes, rows=11, dtype=np.float64, seed=0):
    """Random parameters with biases that are not 0, inputs, and labels."""
    random = np.random.default_rng(seed)
    parameters = initial_parameters(sizes, gain=1.5, seed=seed, dtype=dtype)
    for bias in parameters[1::2]:
        bias[:] = random.normal(size=bias.shape)
    return parameters, random.normal(size=(rows, sizes[0])).astype(dtype), random.integers(sizes[-1], size=rows)


def torch_forward(leaves, inputs, activation):
    """The layers' sums, the last of which are the logits."""
    hidden, sums = torch.from_numpy(inputs), []
    for weight, bias in zip(leaves[::2], leaves[1::2], strict=True):
        sums.append(F.linear(hidden, weight, bias))
        hidden = TORCH[activation](sums[-1])
    return sums


def as_leaves(parameters):
    return [torch.from_numpy(parameter.copy()).requires_grad_() for parameter in parameters]


# The forward pass


@eachwise
def test_forward_returns_what_goes_into_each_layer_and_the_logits(sizes, activation):
    parameters, inputs, _ = problem(sizes)
    outputs = forward(parameters, inputs, activation)
    sums = torch_forward(as_leaves(parameters), inputs, activation)
    assert outputs[0] is inputs
    for ours, s in zip(outputs[1:-1], sums[:-1], strict=True):
        np.testing.assert_allclose(ours, TORCH[activation](s).detach(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(outputs[-1], sums[-1].detach(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_slope_of_an_activation_is_its_derivative_told_from_the_output(activation):
    s = np.array([-800.0, -3.0, -0.1, 0.2, 5.0, 800.0])
    leaf = torch.from_numpy(s).requires_grad_()
    (wanted,) = torch.autograd.grad(TORCH[activation](leaf).sum(), leaf)
    value, slope = ACTIVATIONS[activation]
    with np.errstate(over="raise", invalid="raise"):
        np.testing.assert_allclose(slope(value(s)), wanted, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_dtype_of_the_parameters_is_kept_throughout(dtype, activation):
    parameters, inputs, labels = problem((5, 4, 3), dtype=dtype)
    _, gradients = loss_and_gradients(parameters, inputs, labels, activation)
    assert {array.dtype for array in [*forward(parameters, inputs, activation), *gradients]} == {np.dtype(dtype)}


# The backward pass


@eachwise
def test_gradients_are_those_of_autograd(sizes, activation):
    parameters, inputs, labels = problem(sizes)
    loss, gradients = loss_and_gradients(parameters, inputs, labels, activation)
    leaves = as_leaves(parameters)
    wanted = F.cross_entropy(torch_forward(leaves, inputs, activation)[-1], torch.from_numpy(labels))
    assert loss == pytest.approx(wanted.item(), rel=1e-13)
    for ours, theirs in zip(gradients, torch.autograd.grad(wanted, leaves), strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-14)


@eachwise
def test_slopes_are_those_in_the_sums_of_each_layer(sizes, activation):
    parameters, inputs, _ = problem(sizes)
    sums = torch_forward(as_leaves(parameters), inputs, activation)
    arriving = np.random.default_rng(1).normal(size=tuple(sums[-1].shape))
    found = slopes(parameters, forward(parameters, inputs, activation), arriving, activation)
    wanted = torch.autograd.grad(sums[-1], sums, torch.from_numpy(arriving))
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_gradients_are_those_of_central_differences(activation):
    parameters, inputs, labels = problem((6, 7, 5, 4))
    _, gradients = loss_and_gradients(parameters, inputs, labels, activation)
    h = 1e-5
    for parameter, gradient in zip(parameters, gradients, strict=True):
        for place in np.ndindex(parameter.shape):
            kept, change = parameter[place], []
            for value in (kept + h, kept - h):
                parameter[place] = value
                change.append(loss_and_gradients(parameters, inputs, labels, activation)[0])
            parameter[place] = kept
            assert gradient[place] == pytest.approx((change[0] - change[1]) / (2 * h), abs=1e-9)


def test_gradients_are_linear_in_the_slope_that_arrives():
    parameters, inputs, _ = problem((5, 4, 3))
    outputs = forward(parameters, inputs)
    one, other = np.random.default_rng(2).normal(size=(2, len(inputs), 3))
    parts = [backward(parameters, outputs, slope) for slope in (one, other, 2 * one - other)]
    for a, b, both in zip(*parts, strict=True):
        np.testing.assert_allclose(both, 2 * a - b, rtol=1e-10, atol=1e-12)


def test_the_gradient_of_a_batch_is_the_mean_of_its_samples():
    parameters, inputs, labels = problem((5, 4, 3))
    _, whole = loss_and_gradients(parameters, inputs, labels)
    each = [loss_and_gradients(parameters, inputs[i : i + 1], labels[i : i + 1])[1] for i in range(len(labels))]
    for place, gradient in enumerate(whole):
        np.testing.assert_allclose(gradient, np.mean([g[place] for g in each], axis=0), rtol=1e-10, atol=1e-14)


def test_a_relu_that_is_off_or_at_0_passes_nothing_on():
    parameters = [np.array([[1.0], [1.0], [1.0]]), np.array([-5.0, -1.0, 1.0]), np.ones((2, 3)), np.zeros(2)]
    outputs = forward(parameters, np.ones((1, 1)))
    np.testing.assert_array_equal(outputs[1], [[0, 0, 2]])
    gradients = backward(parameters, outputs, np.array([[1.0, 2.0]]))
    np.testing.assert_array_equal(gradients[1], [0, 0, 3])


def test_nothing_is_changed_by_the_passes():
    parameters, inputs, labels = problem((6, 7, 5, 4))
    before = [array.copy() for array in (*parameters, inputs, labels)]
    outputs = forward(parameters, inputs)
    slope = np.ones_like(outputs[-1])
    kept = [array.copy() for array in (*outputs, slope)]
    backward(parameters, outputs, slope)
    loss_and_gradients(parameters, inputs, labels)
    for old, new in zip([*before, *kept], [*parameters, inputs, labels, *outputs, slope], strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_confident_wrong_answer_has_a_finite_gradient():
    parameters = [np.array([[1e4], [-1e4]], dtype=np.float32), np.zeros(2, np.float32)]
    loss, gradients = loss_and_gradients(parameters, np.ones((1, 1), np.float32), np.array([1]))
    assert loss == 2e4
    np.testing.assert_array_equal(gradients[1], [1, -1])


# Initial weights


def test_initial_weights_have_the_spread_of_the_gain_and_biases_are_0():
    for gain in (0.5, math.sqrt(2)):
        weight, bias, last, _ = initial_parameters((400, 300, 200), gain=gain)
        assert weight.std() == pytest.approx(gain / 20, rel=0.01)
        assert last.std() == pytest.approx(gain / math.sqrt(300), rel=0.02)
        assert abs(weight.mean()) < 0.01 * gain
        assert not bias.any()


def test_initial_weights_follow_from_the_seed_alone():
    same, again, other = (initial_parameters((4, 3, 2), seed=seed) for seed in (1, 1, 2))
    for a, b in zip(same, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (same[0] != other[0]).all()


# Steps and training


@pytest.mark.parametrize(
    ("ours", "torchs"),
    [
        (lambda p: sgd(p, lr=0.3), lambda p: torch.optim.SGD(p, lr=0.3)),
        (adam, torch.optim.Adam),
        (
            lambda p: adam(p, lr=0.02, betas=(0.8, 0.9), eps=1e-3),
            lambda p: torch.optim.Adam(p, lr=0.02, betas=(0.8, 0.9), eps=1e-3),
        ),
    ],
)
def test_training_takes_the_steps_of_torchs_optimizers(ours, torchs):
    parameters, inputs, labels = problem((6, 7, 5, 4), rows=40)
    leaves = as_leaves(parameters)
    optimizer = torchs(leaves)
    batches = np.random.default_rng(3).integers(40, size=(25, 8))
    wanted = []
    for rows in batches:
        loss = F.cross_entropy(torch_forward(leaves, inputs[rows], "tanh")[-1], torch.from_numpy(labels[rows]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        wanted.append(loss.item())
    found = train(parameters, inputs, labels, batches, ours(parameters), "tanh")
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    for mine, theirs in zip(parameters, leaves, strict=True):
        np.testing.assert_allclose(mine, theirs.detach(), rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("seed", range(3))
def test_training_learns_what_can_be_learnt(activation, seed):
    random = np.random.default_rng(seed)
    inputs = random.normal(size=(300, 4)).astype(np.float32)
    labels = inputs[:, :3].argmax(axis=1)
    parameters = initial_parameters((4, 16, 3), seed=seed)
    before = accuracy(parameters, inputs, labels, activation)
    batches = random.integers(300, size=(600, 32))
    losses = train(parameters, inputs, labels, batches, adam(parameters, lr=0.01), activation)
    assert len(losses) == 600
    assert np.mean(losses[-50:]) < 0.3 * np.mean(losses[:10])
    assert accuracy(parameters, inputs, labels, activation) > max(0.9, before)


def test_a_step_moves_the_parameters_in_place():
    parameters, inputs, labels = problem((5, 4, 3))
    held = list(parameters)
    before = [parameter.copy() for parameter in parameters]
    _, gradients = loss_and_gradients(parameters, inputs, labels)
    sgd(parameters, lr=0.5)(gradients)
    for new, same, old, gradient in zip(parameters, held, before, gradients, strict=True):
        assert new is same
        np.testing.assert_allclose(new, old - 0.5 * gradient, rtol=1e-13)


def test_accuracy_is_the_share_of_right_answers():
    parameters = [np.eye(3), np.zeros(3)]
    assert accuracy(parameters, np.eye(3)[[0, 1, 2, 0]], np.array([0, 1, 2, 1])) == 0.75


# What is refused


def parameters_with(place, value):
    parameters = initial_parameters((4, 3, 2), dtype=np.float64)
    parameters[place] = value
    return parameters


GOOD = initial_parameters((4, 3, 2), dtype=np.float64)
ROWS, LABELS = np.ones((5, 4)), np.array([0, 1, 0, 1, 1])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: initial_parameters((4,)), ValueError, r"at least two numbers, each at least 1, got \(4,\)"),
        (lambda: initial_parameters((4, 0, 2)), ValueError, r"got \(4, 0, 2\)"),
        (lambda: forward(GOOD, ROWS, "step"), ValueError, "one of 'relu', 'tanh', 'sigmoid', got 'step'"),
        (lambda: forward([], ROWS), ValueError, "a weight and a bias for each layer, got 0 arrays"),
        (lambda: forward(GOOD[:3], ROWS), ValueError, "a weight and a bias for each layer, got 3 arrays"),
        (lambda: forward(GOOD, np.ones(4)), ValueError, r"shape \(N, 4\), N at least 1, got \(4,\)"),
        (lambda: forward(GOOD, np.ones((0, 4))), ValueError, r"N at least 1, got \(0, 4\)"),
        (lambda: forward(GOOD, np.ones((5, 3))), ValueError, r"layer 1 gets 3 numbers: .* got \(3, 4\) and \(3,\)"),
        (lambda: forward(parameters_with(2, np.ones((2, 4))), ROWS), ValueError, "layer 2 gets 3 numbers"),
        (lambda: forward(parameters_with(1, np.ones((1, 3))), ROWS), ValueError, r"got \(3, 4\) and \(1, 3\)"),
        (lambda: forward(parameters_with(0, np.ones(4)), ROWS), ValueError, "layer 1"),
        (lambda: forward(GOOD, ROWS.astype(np.float32)), TypeError, "one dtype, got float32, float64"),
        (lambda: forward([np.ones((1, 4), int), np.ones(1, int)], np.ones((5, 4), int)), TypeError, "got int64"),
        (lambda: backward(GOOD, forward(GOOD, ROWS), np.ones((5, 3))), ValueError, r"of shape \(5, 3\)"),
        (lambda: backward(GOOD, forward(GOOD, ROWS)[1:], np.ones((5, 2))), ValueError, "layer 1 gets 3 numbers"),
        (lambda: backward(GOOD, forward(GOOD, ROWS)[:2], np.ones((5, 3))), ValueError, "1 layers' outputs"),
        (lambda: slopes(GOOD, forward(GOOD, ROWS), np.ones((5, 2)), "step"), ValueError, "got 'step'"),
        (lambda: loss_and_gradients(GOOD, ROWS, LABELS[:4]), ValueError, r"shape \(5,\), .* got \(4,\)"),
        (lambda: loss_and_gradients(GOOD, ROWS, LABELS[:, None]), ValueError, r"got \(5, 1\)"),
        (lambda: loss_and_gradients(GOOD, ROWS, LABELS + 1), ValueError, "from 0 to 1, got 1 to 2"),
        (lambda: loss_and_gradients(GOOD, ROWS, LABELS - 1), ValueError, "from 0 to 1, got -1 to 0"),
        (lambda: loss_and_gradients(GOOD, ROWS, LABELS / 1), TypeError, "integers, got float64"),
        (lambda: accuracy(GOOD, ROWS, LABELS[:4]), ValueError, r"got \(4,\)"),
        (lambda: train(GOOD, ROWS, LABELS[:4], [], sgd(GOOD, lr=1)), ValueError, "5 inputs and 4 labels"),
        (lambda: sgd(GOOD, lr=1)(GOOD[:3]), ValueError, "zip"),
        (lambda: adam(GOOD)(GOOD[:3]), ValueError, "zip"),
    ],
)
def test_bad_input_is_refused_with_what_was_given_and_what_is_wanted(call, error, message):
    with pytest.raises(error, match=message):
        call()
