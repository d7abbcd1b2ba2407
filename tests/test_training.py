"""The training loop against a hand-written one, against a kill, and against every input that it must refuse."""

import json
import math
import multiprocessing
import os
import signal
from dataclasses import asdict
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from jupyter_client.manager import start_new_kernel
from torch import nn

from lib import training
from lib.training import (
    History,
    accuracy,
    calibration_bins,
    evaluate,
    expected_calibration_error,
    fit,
    order,
    predict,
)

SAMPLES, BATCH_SIZE, STEPS = 50, 8, 7  # seven steps an epoch, the last one of two samples
SGD = partial(torch.optim.SGD, lr=0.1)


def classification_data():
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(SAMPLES, 4, generator=generator)
    return inputs, inputs[:, :3].argmax(1)


def regression_data():
    inputs, _ = classification_data()
    return inputs, inputs.sum(1, keepdim=True)


def network(outputs=3, dropout=0.0):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(dropout), nn.BatchNorm1d(16), nn.Linear(16, outputs))


def run(**options):
    """Train a network with dropout on the classification data; return it and its history."""
    model = network(dropout=0.5)
    options = {"epochs": 3, "batch_size": BATCH_SIZE, "test": classification_data(), **options}
    loss = options.pop("loss", F.cross_entropy)
    return model, fit(model, loss, classification_data(), **options)


def same_weights(one, other):
    return all(
        torch.equal(a.cpu(), b.cpu())
        for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


def without_seconds(history):
    return {name: value for name, value in asdict(history).items() if name != "seconds"}


class FailingAt:
    """A cross-entropy that lets something happen when it is called for the n-th time in training."""

    def __init__(self, call, event):
        self.left, self.event = call, event
        self.__qualname__ = F.cross_entropy.__qualname__  # a checkpoint asks for it

    def __call__(self, output, target):
        value = F.cross_entropy(output, target)
        if torch.is_grad_enabled():
            self.left -= 1
            if self.left == 0:
                return self.event(value)
        return value


def kill_this_process(_):
    os.kill(os.getpid(), signal.SIGKILL)


# The loop


def test_the_five_moves_reach_the_weights_and_the_history_of_a_loop_written_by_hand():
    inputs, targets = classification_data()
    model = network().to(training.device())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    expected = History()
    for epoch in range(2):
        right = 0
        for batch in order(SAMPLES, 3, epoch).split(BATCH_SIZE):
            output = model(inputs[batch].to(training.device()))
            target = targets[batch].to(training.device())
            loss = F.cross_entropy(output, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            expected.loss.append(loss.item())
            expected.gradient_norm.append(
                math.hypot(*(g for p in model.parameters() for g in p.grad.flatten().tolist()))
            )
            expected.correct.append((output.argmax(1) == target).sum().item())
            right += expected.correct[-1]
        expected.train_loss.append(sum(expected.loss[-STEPS:]) / STEPS)
        expected.train_accuracy.append(right / SAMPLES)

    trained = network()
    history = fit(trained, F.cross_entropy, (inputs, targets), epochs=2, batch_size=BATCH_SIZE, seed=3)
    assert history.correct == expected.correct
    assert history.train_accuracy == expected.train_accuracy
    for name in ("loss", "gradient_norm", "train_loss"):
        assert getattr(history, name) == pytest.approx(getattr(expected, name), rel=1e-4)
    for ours, theirs in zip(trained.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_the_history_has_an_entry_for_each_step_and_for_each_epoch_and_goes_through_json():
    _, history = run()
    for per_step in (history.loss, history.gradient_norm, history.correct):
        assert len(per_step) == 3 * STEPS
    for per_epoch in (
        history.train_loss,
        history.train_accuracy,
        history.test_loss,
        history.test_accuracy,
        history.seconds,
    ):
        assert len(per_epoch) == 3
    assert min(history.seconds) > 0
    assert History(**json.loads(json.dumps(asdict(history)))) == history


def test_the_history_of_an_epoch_ends_with_the_evaluation_of_the_model_it_trained():
    model, history = run()
    result = evaluate(model, F.cross_entropy, classification_data())
    assert history.test_loss[-1] == pytest.approx(result.loss, rel=1e-5)
    assert history.test_accuracy[-1] == result.accuracy


def test_training_learns_what_can_be_learned():
    data, adam = classification_data(), partial(torch.optim.Adam, lr=0.01)
    history = fit(network(), F.cross_entropy, data, data, epochs=60, batch_size=BATCH_SIZE, optimizer=adam)
    assert history.test_loss[-1] < history.test_loss[0] / 4
    assert history.test_accuracy[-1] > 0.9


def test_real_targets_have_a_loss_and_no_accuracy():
    history = fit(network(1), F.mse_loss, regression_data(), regression_data(), epochs=20, optimizer=SGD)
    assert history.correct == history.train_accuracy == history.test_accuracy == []
    assert history.test_loss[-1] < history.test_loss[0]
    assert evaluate(network(1), F.mse_loss, regression_data()).accuracy is None


def test_class_indices_as_targets_of_a_regression_have_no_accuracy():
    inputs, classes = classification_data()
    history = fit(network(1).append(nn.Flatten(0)), lambda o, t: F.mse_loss(o, t.float()), (inputs, classes), epochs=1)
    assert history.train_accuracy == []


def test_without_epochs_nothing_happens(tmp_path):
    model, history = run(epochs=0, checkpoint=tmp_path / "run.pt")
    assert history == History()
    assert same_weights(model, network())
    assert list(tmp_path.iterdir()) == []


def test_the_gradient_is_measured_before_the_optimizer_changes_it():
    # With Nesterov momentum, torch adds the momentum to the gradient in place.
    inputs, targets = classification_data()
    history = fit(
        network(),
        F.cross_entropy,
        (inputs, targets),
        epochs=1,
        batch_size=SAMPLES,
        optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True, foreach=True),
    )
    model = network()
    F.cross_entropy(model(inputs[order(SAMPLES, 0, 0)]), targets[order(SAMPLES, 0, 0)]).backward()
    by_hand = math.hypot(*(g for p in model.parameters() for g in p.grad.flatten().tolist()))
    assert history.gradient_norm == [pytest.approx(by_hand, rel=1e-4)]


def test_training_happens_in_training_mode_and_evaluation_in_evaluation_mode():
    modes = []

    class Spy(nn.Linear):
        def forward(self, x):
            modes.append((self.training, torch.is_grad_enabled()))
            return super().forward(x)

    fit(Spy(4, 3).eval(), F.cross_entropy, classification_data(), classification_data(), epochs=2, batch_size=SAMPLES)
    assert modes == [(True, True), (False, False)] * 2


def test_frozen_parameters_stay_as_they_are():
    model = network()
    model[0].requires_grad_(False)
    fit(model, F.cross_entropy, classification_data(), epochs=1)
    assert torch.equal(model[0].weight.cpu(), network()[0].weight)
    assert not torch.equal(model[4].weight.cpu(), network()[4].weight)


# Order and randomness


@settings(deadline=None)
@given(length=st.integers(1, 300), seed=st.integers(0, 2**70), epoch=st.integers(0, 10_000))
def test_the_order_is_a_permutation(length, seed, epoch):
    assert sorted(order(length, seed, epoch).tolist()) == list(range(length))


def test_the_order_depends_on_the_seed_and_the_epoch_and_on_nothing_else():
    orders = {(seed, epoch): tuple(order(SAMPLES, seed, epoch).tolist()) for seed in range(8) for epoch in range(8)}
    assert len(set(orders.values())) == 64
    torch.manual_seed(99)
    assert all(tuple(order(SAMPLES, *key).tolist()) == value for key, value in orders.items())


def test_each_epoch_sees_every_sample_once_in_the_order_of_its_seed():
    seen = []

    class Spy(nn.Linear):
        def forward(self, x):
            seen.extend(x[:, 0].tolist())
            return super().forward(x)

    numbers = torch.arange(SAMPLES, dtype=torch.float32).unsqueeze(1)
    fit(Spy(1, 1), F.mse_loss, (numbers, numbers / SAMPLES), epochs=2, batch_size=BATCH_SIZE, seed=4)
    assert seen == [*order(SAMPLES, 4, 0).tolist(), *order(SAMPLES, 4, 1).tolist()]


def test_the_same_seed_gives_the_same_weights_and_another_one_others():
    (one, first), (again, second), (other, third) = run(seed=1), run(seed=1), run(seed=2)
    assert same_weights(one, again)
    assert without_seconds(first) == without_seconds(second)
    assert not same_weights(one, other)
    assert first.loss != third.loss


def test_training_takes_nothing_from_the_global_generator():
    model = network()
    state = torch.get_rng_state()
    fit(model, F.cross_entropy, classification_data(), classification_data(), epochs=1)
    assert torch.equal(torch.get_rng_state(), state)


# Checkpoints


def run_until_killed(path):
    run(loss=FailingAt(2 * STEPS + 5, kill_this_process), checkpoint=path, checkpoint_every=3)


def run_until_killed_while_writing(path):
    whole_save = torch.save

    def save_half_and_die(state, file):
        if len(state["history"]["loss"]) < 2 * STEPS:
            return whole_save(state, file)
        file.write(path.read_bytes()[:1000])
        file.flush()
        return kill_this_process(None)

    torch.save = save_half_and_die
    run(checkpoint=path)


@pytest.mark.parametrize("doomed", [run_until_killed, run_until_killed_while_writing])
def test_a_run_that_was_killed_ends_to_the_bit_like_an_unbroken_one(doomed, tmp_path):
    path = tmp_path / "run.pt"
    process = multiprocessing.get_context("spawn").Process(target=doomed, args=(path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert path.exists()
    first_loss_again = FailingAt(10**9, None)
    resumed, history = run(loss=first_loss_again, checkpoint=path)
    assert 0 < 10**9 - first_loss_again.left < 3 * STEPS  # it went on, and did not start afresh
    unbroken, expected = run()
    assert same_weights(resumed, unbroken)
    assert without_seconds(history) == without_seconds(expected)
    assert len(history.seconds) == 3
    assert list(tmp_path.iterdir()) == [path]


@settings(deadline=None)
@given(stop=st.integers(1, 3 * STEPS), every=st.integers(1, 3 * STEPS + 1))
def test_a_run_that_failed_anywhere_ends_to_the_bit_like_an_unbroken_one(stop, every, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run.pt"

    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(loss=FailingAt(stop, interrupt), checkpoint=path, checkpoint_every=every)
    resumed, history = run(checkpoint=path, checkpoint_every=every)
    unbroken, expected = run()
    assert same_weights(resumed, unbroken)
    assert without_seconds(history) == without_seconds(expected)


def test_what_is_random_after_a_resumed_run_is_what_it_is_after_an_unbroken_one(tmp_path):
    run(checkpoint=tmp_path / "run.pt", epochs=1)
    run(checkpoint=tmp_path / "run.pt")
    resumed = torch.rand(3)
    run()
    assert torch.equal(torch.rand(3), resumed)


def test_a_finished_run_returns_at_once(tmp_path):
    path = tmp_path / "run.pt"
    finished, expected = run(checkpoint=path)
    written = path.stat().st_mtime_ns

    def not_called(value):
        raise AssertionError("a finished run has no loss to compute")

    again, history = run(checkpoint=path, loss=FailingAt(1, not_called))
    assert same_weights(again, finished)
    assert history == expected
    assert path.stat().st_mtime_ns == written


def test_a_finished_run_can_be_prolonged(tmp_path):
    run(checkpoint=tmp_path / "run.pt", epochs=1)
    prolonged, history = run(checkpoint=tmp_path / "run.pt")
    at_once, expected = run()
    assert same_weights(prolonged, at_once)
    assert without_seconds(history) == without_seconds(expected)


@pytest.mark.parametrize(
    ("every", "steps"), [(None, [7, 14, 21]), (5, [5, 10, 15, 20, 21]), (7, [7, 14, 21]), (99, [21])]
)
def test_checkpoints_come_every_so_many_steps_and_at_the_end(every, steps, tmp_path, monkeypatch):
    written, save = [], torch.save
    monkeypatch.setattr(
        torch, "save", lambda state, file: (written.append(len(state["history"]["loss"])), save(state, file))
    )
    run(checkpoint=tmp_path / "run.pt", checkpoint_every=every)
    assert written == steps


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one_whole(tmp_path, monkeypatch):
    path = tmp_path / "run.pt"
    run(checkpoint=path, epochs=1)
    before = path.read_bytes()

    def full_disk(state, file):
        file.write(before[: len(before) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space left") as caught:
        run(checkpoint=path)
    monkeypatch.undo()
    assert str(path) in caught.value.__notes__[0]
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    assert same_weights(run(checkpoint=path)[0], run()[0])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"batch_size": 16}, "batch_size was 8, now it is 16"),
        ({"seed": 1}, "seed was 0, now it is 1"),
        ({"train": tuple(t[:-1] for t in classification_data())}, r"training inputs was .*\(50, 4\), now .*\(49, 4\)"),
        ({"test": None}, "test inputs was .* now it is absent"),
        ({"optimizer": partial(torch.optim.Adam, lr=1e-2, fused=True)}, "lr: 0.001 .* lr: 0.01 "),
        ({"optimizer": SGD}, "optimizer was Adam .* now it is SGD"),
        ({"model": nn.Linear(4, 3)}, "weight was absent, now it is .*"),
        ({"model": nn.Sequential(nn.Linear(4, 3))}, r"0.weight was .*\(16, 4\), now it is .*\(3, 4\)"),
        ({"model": network().double()}, "0.weight was float32 .* now it is float64"),
        ({"epochs": 1}, "step 14, beyond the last step asked for, 7"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_and_nothing_changes(change, reason, tmp_path):
    path = tmp_path / "run.pt"
    same = {"train": classification_data(), "test": classification_data(), "batch_size": BATCH_SIZE, "epochs": 2}
    fit(network(), F.cross_entropy, **same, checkpoint=path)
    written = path.read_bytes()
    model = change.get("model", network())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=rf"run\.pt .*{reason}"):
        fit(**{"model": model, "loss": F.cross_entropy, **same, **change, "checkpoint": path})
    assert path.read_bytes() == written
    for name, value in model.state_dict().items():
        assert torch.equal(value.cpu(), before[name])


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "flipped bit", "only weights"])
def test_a_damaged_checkpoint_is_named(damage, tmp_path):
    path = tmp_path / "run.pt"
    model, _ = run(checkpoint=path, epochs=1)
    whole = path.read_bytes()
    if damage == "only weights":
        torch.save(model.state_dict(), path)
    elif damage == "flipped bit":  # in the weights themselves, where torch.load does not notice it
        where = whole.index(model[4].weight.detach().cpu().numpy().tobytes())
        path.write_bytes(whole[:where] + bytes([whole[where] ^ 1]) + whole[where + 1 :])
        assert not torch.equal(torch.load(path, map_location="cpu")["model"]["4.weight"], model[4].weight.cpu())
    else:
        path.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "text": b"not a checkpoint"}[damage])
    with pytest.raises(ValueError, match=r"run\.pt is damaged"):
        run(checkpoint=path)


# NaN


@pytest.mark.parametrize(
    ("step", "place"), [(1, "epoch 1, batch 1"), (7, "epoch 1, batch 7"), (20, "epoch 3, batch 6")]
)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_named_with_its_step(step, place, bad):
    with pytest.raises(FloatingPointError, match=rf"loss is {bad} at step {step} \({place} of 7\)"):
        run(loss=FailingAt(step, lambda value: value * bad))


def test_a_gradient_that_is_not_finite_is_named_with_its_step():
    def infinite_slope(value):  # sqrt(0) has a finite value and an infinite gradient
        return (value - value.detach()).sqrt()

    with pytest.raises(FloatingPointError, match="norm of the gradient is nan at step 4 "):
        run(loss=FailingAt(4, infinite_slope))


def test_a_nan_is_named_even_where_another_error_follows_from_it():
    inputs, targets = classification_data()
    refuses_nan = FailingAt(3, lambda value: value * math.nan)

    def loss(output, target):
        if output.isnan().any():
            raise RuntimeError("a later complaint")
        return refuses_nan(output, target)

    with pytest.raises(FloatingPointError, match="loss is nan at step 3 "):
        fit(network(), loss, (inputs, targets), batch_size=BATCH_SIZE)


@pytest.mark.parametrize("every", [1, 3, None])
def test_a_nan_never_reaches_the_checkpoint(every, tmp_path):
    path = tmp_path / "run.pt"
    with pytest.raises(FloatingPointError, match="step 12 "):
        run(loss=FailingAt(12, lambda value: value * math.nan), checkpoint=path, checkpoint_every=every)
    assert len(torch.load(path)["history"]["loss"]) == {1: 11, 3: 9, None: 7}[every]
    assert same_weights(run(checkpoint=path)[0], run()[0])


def test_weights_that_a_step_threw_to_infinity_never_reach_the_checkpoint(tmp_path):
    with pytest.raises(FloatingPointError, match="a weight is infinite or NaN after step 1"):
        run(
            loss=lambda output, target: 1000 * F.cross_entropy(output, target),
            optimizer=partial(torch.optim.SGD, lr=3e38),
            checkpoint=tmp_path / "run.pt",
            checkpoint_every=1,
        )
    assert list(tmp_path.iterdir()) == []


# Evaluation


@settings(deadline=None)
@given(batch_size=st.integers(1, 2 * SAMPLES))
def test_the_evaluation_is_the_mean_over_all_samples_whatever_the_batch_size(batch_size):
    inputs, targets = classification_data()
    model = network(dropout=0.5).double()
    result = evaluate(model, F.cross_entropy, (inputs.double(), targets), batch_size=batch_size)
    model.eval()
    outputs = [model(row.unsqueeze(0)) for row in inputs.double()]
    losses = [
        F.cross_entropy(output, target.unsqueeze(0)).item() for output, target in zip(outputs, targets, strict=True)
    ]
    hits = [output.argmax().item() == target for output, target in zip(outputs, targets.tolist(), strict=True)]
    assert result.loss == pytest.approx(sum(losses) / SAMPLES, rel=1e-12)
    assert result.accuracy == sum(hits) / SAMPLES


@settings(deadline=None)
@given(batch_size=st.integers(1, 2 * SAMPLES))
def test_a_weighted_mean_is_that_of_all_samples_whatever_the_batch_size(batch_size):
    inputs, targets = classification_data()
    targets[::3] = -100
    loss = partial(F.cross_entropy, weight=torch.tensor([1.0, 5.0, 0.2], dtype=torch.float64))
    model = network().double()
    whole = loss(predict(model, inputs.double()), targets).item()
    result = evaluate(model, loss, (inputs.double(), targets), batch_size=batch_size)
    assert result.loss == pytest.approx(whole, rel=1e-12)


def test_evaluation_restores_the_mode_of_every_part_of_the_model():
    model = network()
    model[3].eval()
    modes = [module.training for module in model.modules()]
    evaluate(model, F.cross_entropy, classification_data())
    assert [module.training for module in model.modules()] == modes
    with pytest.raises(RuntimeError):
        predict(model, torch.zeros(2, 5))
    assert [module.training for module in model.modules()] == modes


def test_evaluation_leaves_the_model_and_the_global_generator_alone():
    model = network(dropout=0.5)
    state = torch.get_rng_state()
    evaluate(model, F.cross_entropy, classification_data())
    assert same_weights(model, network(dropout=0.5).eval())
    torch.set_rng_state(state)
    assert all(parameter.grad is None for parameter in model.parameters())


@settings(deadline=None)
@given(batch_size=st.integers(1, 2 * SAMPLES))
def test_a_prediction_has_the_output_of_each_input_in_order_and_no_gradient(batch_size):
    inputs, _ = classification_data()
    model = network(dropout=0.5).double().eval()
    outputs = predict(model, inputs.double(), batch_size=batch_size)
    torch.testing.assert_close(outputs, model(inputs.double()).detach(), rtol=1e-12, atol=1e-14)
    assert not outputs.requires_grad


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.data())
def test_accuracy_is_the_share_of_right_answers(answers, data):
    truth = data.draw(st.lists(st.integers(0, 4), min_size=len(answers), max_size=len(answers)))
    outputs = F.one_hot(torch.tensor(answers), 5).float()
    expected = sum(a == t for a, t in zip(answers, truth, strict=True)) / len(truth)
    assert accuracy(outputs, torch.tensor(truth)) == expected
    per_pixel = outputs.T.unsqueeze(0)  # one image, whose pixels are the samples: the classes are dimension 1
    assert accuracy(per_pixel, torch.tensor([truth])) == expected


# Refusals


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        ({"model": lambda x: x}, TypeError, "model must be a torch.nn.Module, got function"),
        ({"model": nn.Flatten()}, ValueError, "model must have a parameter to train"),
        ({"loss": "cross_entropy"}, TypeError, "loss must be a function of .* got str"),
        ({"train": torch.zeros(4)}, TypeError, "train must be a pair .* got Tensor"),
        ({"train": ([1.0], [1])}, TypeError, "train inputs must be a torch.Tensor, got list"),
        ({"train": (torch.zeros(3, 4), torch.zeros(2))}, ValueError, "train .* got 3 inputs, 2 targets"),
        ({"train": (torch.zeros(0, 4), torch.zeros(0))}, ValueError, "train inputs must have at least one row"),
        ({"test": (torch.zeros(0, 4), torch.zeros(0))}, ValueError, "test inputs must have at least one row"),
        ({"test": (torch.zeros(3, 4), torch.tensor(1))}, ValueError, "test targets must have at least one row"),
        ({"epochs": -1}, ValueError, "epochs must be at least 0, got -1"),
        ({"epochs": 1.5}, TypeError, "epochs must be an integer, got 1.5"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        ({"checkpoint": "nowhere/run.pt"}, ValueError, "checkpoint must be in a folder that exists, got nowhere"),
        ({"checkpoint_every": 5}, ValueError, "checkpoint_every needs the name of the file"),
        ({"checkpoint_every": 0, "checkpoint": "run.pt"}, ValueError, "checkpoint_every must be at least 1, got 0"),
        ({"optimizer": SGD(network().parameters())}, TypeError, "optimizer must be a function of .*, got SGD"),
        ({"optimizer": list}, TypeError, "optimizer must be a function of .*; this one returns list"),
        ({"loss": lambda o, t: F.cross_entropy(o, t).item()}, TypeError, "loss must return a scalar tensor, got float"),
        ({"loss": partial(F.cross_entropy, reduction="none")}, ValueError, r"must return a scalar.*shape \(50,\)"),
        (
            {"loss": lambda o, t: (o.argmax(1) != t).float().mean()},
            ValueError,
            "loss must depend on the model's output",
        ),
        ({"model": nn.LSTM(4, 3)}, TypeError, "model must return a tensor, got tuple"),
    ],
)
def test_bad_input_is_refused_with_its_reason_before_a_weight_changes(change, error, reason):
    arguments = {"model": network(), "loss": F.cross_entropy, "train": classification_data(), **change}
    with pytest.raises(error, match=reason):
        fit(**arguments)
    if "model" not in change:
        for ours, untouched in zip(arguments["model"].parameters(), network().parameters(), strict=True):
            assert torch.equal(ours.cpu(), untouched)


@pytest.mark.parametrize(
    ("output", "target"),
    [
        (torch.zeros(3, 2), torch.zeros(3)),
        (torch.zeros(3, 2), torch.zeros(3, dtype=torch.bool)),
        (torch.zeros(3, 2), torch.zeros(2, dtype=torch.long)),
        (torch.zeros(3), torch.zeros(3, dtype=torch.long)),
        (torch.zeros(3, 5, 2), torch.zeros(3, 5, dtype=torch.long)),
        (torch.zeros(0, 2), torch.zeros(0, dtype=torch.long)),
    ],
    ids=["real targets", "boolean targets", "another length", "no classes", "classes last", "empty"],
)
def test_accuracy_refuses_what_has_no_classes(output, target):
    with pytest.raises(ValueError, match="accuracy needs outputs of shape"):
        accuracy(output, target)


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        ({"model": None}, TypeError, "model must be"),
        ({"data": None}, TypeError, "data must be a pair"),
        ({"data": (torch.zeros(3, 4), torch.zeros(2))}, ValueError, "got 3 inputs, 2 targets"),
        ({"data": (torch.zeros(0, 4), torch.zeros(0))}, ValueError, "at least one row"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        ({"loss": partial(F.cross_entropy, reduction="none")}, ValueError, "must return a scalar"),
    ],
)
def test_evaluation_refuses_bad_input_with_its_reason(change, error, reason):
    with pytest.raises(error, match=reason):
        evaluate(**{"model": network(), "loss": F.cross_entropy, "data": classification_data(), **change})


# The progress bar


def test_the_bar_is_shown_in_a_notebook_with_a_reader_and_leaves_nothing_in_one_that_is_executed(pytestconfig):
    code = (
        "import torch; from lib.training import fit\n"
        "x = torch.ones(8, 1)\n"
        "fit(torch.nn.Linear(1, 1), torch.nn.functional.mse_loss, (x, x), epochs=2);"
    )
    manager, client = start_new_kernel(cwd=pytestconfig.rootpath)
    try:
        outputs = {}
        for watched in (True, False):  # JupyterLab and Colab allow a prompt, nbclient and nbval do not
            messages = []
            client.execute_interactive(code, allow_stdin=watched, output_hook=messages.append, timeout=60)
            outputs[watched] = "".join(m["content"]["text"] for m in messages if m["msg_type"] == "stream")
            produced = {m["msg_type"] for m in messages} - {"status", "execute_input"}
            assert produced == ({"stream"} if watched else set())
        assert "steps/s" in outputs[True]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@pytest.mark.parametrize(
    ("terminal", "progress", "shown"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_the_bar_is_shown_on_a_terminal_alone_and_only_on_request(terminal, progress, shown, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    run(progress=progress)
    printed = capsys.readouterr()
    assert ("21" in printed.err) == shown
    assert printed.out == ""


# Calibration


def test_a_model_that_is_right_as_often_as_it_says_has_no_calibration_error():
    probabilities = torch.tensor([[0.75, 0.25]] * 4 + [[0.4, 0.6]] * 5)
    target = torch.tensor([0, 0, 0, 1, 1, 1, 1, 0, 0])
    assert expected_calibration_error(probabilities, target) == pytest.approx(0, abs=1e-7)


def test_certainty_that_is_always_wrong_has_the_calibration_error_one():
    assert expected_calibration_error(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([1, 0])) == 1


@given(seed=st.integers(0, 2**31), bins=st.integers(1, 20))
@settings(deadline=None)
def test_calibration_follows_its_definition(seed, bins):
    generator = torch.Generator().manual_seed(seed)
    probabilities = torch.randn(50, 3, generator=generator, dtype=torch.float64).mul(3).softmax(1)
    target = torch.randint(3, (50,), generator=generator)
    found = calibration_bins(probabilities, target, bins=bins)
    confidence, prediction = probabilities.max(1)
    error = 0.0
    for number in range(bins):
        inside = (confidence >= number / bins) & (confidence < (number + 1) / bins)
        assert found.share[number].item() == pytest.approx(inside.double().mean().item())
        if inside.any():
            right = (prediction == target)[inside].double().mean().item()
            assert found.accuracy[number].item() == pytest.approx(right)
            assert found.confidence[number].item() == pytest.approx(confidence[inside].mean().item())
            error += found.share[number].item() * abs(right - confidence[inside].mean().item())
    assert expected_calibration_error(probabilities, target, bins=bins) == pytest.approx(error)


@pytest.mark.parametrize(
    ("probabilities", "target", "options", "error", "reason"),
    [
        (torch.tensor([[3.0, -1.0]]), torch.tensor([0]), {}, ValueError, "are these logits"),
        (
            torch.ones(2, 2) / 2,
            torch.tensor([0]),
            {},
            ValueError,
            r"got float32 of shape \(2, 2\) and int64 of shape \(1,",
        ),
        (torch.ones(0, 2), torch.tensor([], dtype=torch.long), {}, ValueError, "at least one"),
        (torch.ones(1, 2) / 2, torch.tensor([0]), {"bins": 0}, ValueError, "bins must be at least 1, got 0"),
        (torch.ones(1, 2) / 2, torch.tensor([0]), {"bins": 2.5}, TypeError, "bins must be an integer, got 2.5"),
    ],
)
def test_calibration_refuses_bad_input_with_its_reason(probabilities, target, options, error, reason):
    with pytest.raises(error, match=reason):
        calibration_bins(probabilities, target, **options)
