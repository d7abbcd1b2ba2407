"""Micro-batches, several processes and fewer bits change how a gradient is worked out, not the gradient."""

import json
import os
import subprocess
import sys
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from lib import losses
from lib.training import fit
from lib.training._spread import spread

SAMPLES, BATCH_SIZE, STEPS = 50, 8, 7  # the last of the seven batches has two samples
WEIGHT = torch.tensor([0.2, 1.0, 5.0], dtype=torch.float64)

# None of them is a mean over the samples: some are left out, some count more, some are compared with the others.
NO_MEANS = {
    "ignored targets": lambda output, target: losses.cross_entropy(output, target.where(target != 1, -100)),
    "weighted classes": lambda output, target: losses.cross_entropy(output, target, weight=WEIGHT),
    "negatives from the batch": lambda output, target: losses.supervised_contrastive_loss(
        output, target % 2, temperature=0.5
    ),
}


def data():
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(SAMPLES, 4, generator=generator, dtype=torch.float64)
    return inputs, inputs[:, :3].argmax(1)


def network(*more):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3), *more).double()


def trained(loss=F.cross_entropy, model=None, **options):
    model = model or network()
    options = {"epochs": 2, "batch_size": BATCH_SIZE, "optimizer": partial(torch.optim.SGD, lr=0.1), **options}
    return model, fit(model, loss, data(), **options)


def assert_same_training(one, other, tolerance=1e-12):
    (model, history), (model_2, history_2) = one, other
    torch.testing.assert_close(history.loss, history_2.loss, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(history.gradient_norm, history_2.gradient_norm, rtol=tolerance, atol=tolerance)
    assert history.correct == history_2.correct
    torch.testing.assert_close(model.state_dict(), model_2.state_dict(), rtol=tolerance, atol=tolerance)


# Micro-batches


@pytest.mark.parametrize("micro_batches", [2, 3, BATCH_SIZE, 100])
@pytest.mark.parametrize("loss", NO_MEANS.values(), ids=NO_MEANS)
def test_micro_batches_train_like_the_whole_batch(loss, micro_batches):
    assert_same_training(trained(loss, micro_batches=micro_batches), trained(loss))


@pytest.mark.parametrize("loss", NO_MEANS.values(), ids=NO_MEANS)
def test_the_mean_of_the_gradients_of_micro_batches_would_be_another(loss):
    inputs, targets = data()
    model = network()

    def gradient(rows):
        return torch.cat(
            [g.flatten() for g in torch.autograd.grad(loss(model(inputs[rows]), targets[rows]), model.parameters())]
        )

    rows = targets[:BATCH_SIZE].argsort()  # parts that differ in what is left out or counts more
    mean = torch.stack([gradient(part) for part in rows.chunk(2)]).mean(0)
    assert (mean - gradient(rows)).norm() > 0.01 * gradient(rows).norm()


@given(batch=st.integers(1, 20), micro_batches=st.integers(1, 20))
def test_the_model_never_sees_more_than_a_micro_batch(batch, micro_batches):
    seen = []
    model = nn.Linear(4, 3)
    model.register_forward_pre_hook(lambda _, arguments: seen.append(len(arguments[0])))
    output = spread(model, micro_batches, "float32")(torch.ones(batch, 4))
    output.sum().backward()
    assert max(seen) <= -(-batch // micro_batches)
    assert len(output) == batch


def test_the_second_forward_pass_drops_out_the_same_units():
    model, inputs = network(nn.Dropout(0.5)), data()[0]
    torch.manual_seed(1)
    in_turns = spread(model, 5, "float32")(inputs)
    found = torch.autograd.grad(in_turns.square().sum(), model.parameters())
    torch.manual_seed(1)
    at_once = torch.cat([model(part) for part in inputs.chunk(5)])
    assert torch.equal(in_turns, at_once)
    wanted = torch.autograd.grad(at_once.square().sum(), model.parameters())
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_a_batch_in_parts_is_refused_to_batch_normalisation_with_its_reason():
    trained(model=network(nn.BatchNorm1d(3)))
    with pytest.raises(ValueError, match=r"statistics from what it sees.*GroupNorm"):
        trained(model=network(nn.BatchNorm1d(3)), micro_batches=2)


# Fewer bits


@pytest.mark.parametrize("micro_batches", [1, 4])
def test_in_bfloat16_layers_compute_in_it_and_loss_and_weights_do_not(micro_batches):
    layers, outputs = [], []
    model = network().float()
    model[0].register_forward_hook(lambda _, __, output: layers.append(output.dtype))

    def loss(output, target):
        outputs.append(output.dtype)
        return F.cross_entropy(output, target)

    inputs, targets = data()
    fit(model, loss, (inputs.float(), targets), epochs=1, precision="bfloat16", micro_batches=micro_batches)
    assert set(layers) == {torch.bfloat16}
    assert set(outputs) == {torch.float32}
    assert {p.dtype for p in model.parameters()} == {p.grad.dtype for p in model.parameters()} == {torch.float32}


def test_bfloat16_trains_nearly_like_float32():
    inputs, targets = data()
    history = {}
    for precision in ("float32", "bfloat16"):
        options = {"epochs": 20, "optimizer": partial(torch.optim.SGD, lr=0.1), "precision": precision}
        history[precision] = fit(network().float(), F.cross_entropy, (inputs.float(), targets), **options)
    first, last = (abs(history["float32"].loss[i] - history["bfloat16"].loss[i]) for i in (0, -1))
    assert 0 < first < 0.01
    assert last < 0.02 < history["float32"].loss[0] - history["float32"].loss[-1]


# Several processes

TRAIN = """
import json, os, signal, sys
from pathlib import Path
import torch
import torch.nn.functional as F
from lib.training import processes, rank
sys.path.insert(0, "tests")
from test_training_in_parts import NO_MEANS, network, trained
from torch import nn

folder, loss, dropout, killed = Path(sys.argv[1]), NO_MEANS[sys.argv[2]], float(sys.argv[3]), int(sys.argv[4])
calls = 0

def watched(output, target):
    global calls
    calls += 1
    mark = folder / "killed"
    if calls == killed and rank() == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return loss(output, target)

with processes():
    model = network(nn.Dropout(dropout))
    if rank() == 1:
        nn.init.zeros_(model[0].weight)  # what the others start from does not count
    model, history = trained(
        watched, model, micro_batches=int(sys.argv[5]), checkpoint=folder / "run.pt", checkpoint_every=3
    )
    state = {"weights": {k: v.tolist() for k, v in model.state_dict().items()}, "loss": history.loss,
             "gradient_norm": history.gradient_norm, "correct": history.correct, "calls": calls}
    (folder / f"rank{rank()}.json").write_text(json.dumps(state))
"""


def torchrun(folder, pytestconfig, *, processes, loss, dropout=0.0, killed=0, micro_batches=1):
    """Train in several processes and return what each of them ends with."""
    folder.mkdir()
    script = folder / "train.py"
    script.write_text(TRAIN)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    arguments = [str(folder), loss, str(dropout), str(killed), str(micro_batches)]
    done = subprocess.run(
        [*command, "--max-restarts=1", str(script), *arguments],
        cwd=pytestconfig.rootpath,
        env={**os.environ, "PYTHONPATH": str(pytestconfig.rootpath), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(processes)]


@pytest.mark.parametrize(
    ("processes", "loss", "micro_batches"),
    [(2, "ignored targets", 1), (2, "negatives from the batch", 2), (3, "weighted classes", 1)],
)
def test_processes_train_like_one(processes, loss, micro_batches, tmp_path, pytestconfig):
    # Of the last batch, of two samples, one of three processes has no share.
    results = torchrun(tmp_path / "run", pytestconfig, processes=processes, loss=loss, micro_batches=micro_batches)
    model, history = trained(NO_MEANS[loss])
    for result in results:
        torch.testing.assert_close(result["loss"], history.loss, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(result["gradient_norm"], history.gradient_norm, rtol=1e-12, atol=1e-12)
        assert result["correct"] == history.correct
        weights = {name: torch.tensor(value, dtype=torch.float64) for name, value in result["weights"].items()}
        torch.testing.assert_close(weights, dict(model.state_dict()), rtol=1e-12, atol=1e-12)


@pytest.fixture(scope="module")
def dropping_out(tmp_path_factory, pytestconfig):
    """What two processes end with whose units drop out at random, and the arguments for another such run."""
    settings = {"processes": 2, "loss": "weighted classes", "dropout": 0.5}
    return torchrun(tmp_path_factory.mktemp("unbroken") / "run", pytestconfig, **settings), settings


def test_a_run_whose_worker_was_killed_starts_again_and_ends_like_an_unbroken_one(dropping_out, tmp_path, pytestconfig):
    unbroken, settings = dropping_out
    restarted = torchrun(tmp_path / "run", pytestconfig, **settings, killed=5)
    assert (tmp_path / "run" / "killed").exists()
    for one, other in zip(restarted, unbroken, strict=True):
        assert (one["calls"], other["calls"]) == (2 * STEPS - 3, 2 * STEPS)  # it went on from the checkpoint
        assert {**one, "calls": 0} == {**other, "calls": 0}


def test_processes_drop_out_units_of_their_own(dropping_out):
    # If both drew the same numbers, the halves of a batch would lose the same units: _Halves makes that happen.
    _, history = trained(NO_MEANS["weighted classes"], _Halves(network(nn.Dropout(0.5))))
    assert abs(dropping_out[0][0]["loss"][0] - history.loss[0]) > 1e-6


class _Halves(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input):
        state = torch.get_rng_state()
        first = self.model(input[: len(input) // 2])
        torch.set_rng_state(state)
        return torch.cat([first, self.model(input[len(input) // 2 :])])


# Learning rates that change


def one_cycle(optimizer, steps, peak=0.5):
    return OneCycleLR(optimizer, peak, total_steps=steps)


def test_the_learning_rate_follows_the_schedule():
    _, history = trained(schedule=one_cycle)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = one_cycle(optimizer, 2 * STEPS)
    for rate in history.learning_rate:
        assert rate == optimizer.param_groups[0]["lr"]
        optimizer.step()
        schedule.step()
    assert max(history.learning_rate) > 0.4
    assert len(history.learning_rate) == 2 * STEPS
    assert trained()[1].learning_rate == [0.1] * (2 * STEPS)


def test_a_schedule_goes_on_from_the_checkpoint_to_the_bit(tmp_path):
    class KilledError(Exception):
        pass

    calls = 0

    def failing(output, target):
        nonlocal calls
        calls += 1
        if calls == 10:
            raise KilledError
        return F.cross_entropy(output, target)

    options = {"schedule": one_cycle, "checkpoint": tmp_path / "run.pt", "checkpoint_every": 3}
    with pytest.raises(KilledError):
        trained(failing, **options)
    model, history = trained(failing, **options)
    unbroken, expected = trained(schedule=one_cycle)
    assert history.loss == expected.loss
    assert history.learning_rate == expected.learning_rate
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), unbroken.parameters(), strict=True))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schedule": partial(one_cycle, peak=0.6)}, "optimizer was"),
        ({"schedule": None}, "optimizer was"),
        ({"epochs": 3}, "schedule was OneCycleLR"),
        ({"precision": "bfloat16"}, "precision was float32, now it is bfloat16"),
        ({"loss": partial(F.cross_entropy, label_smoothing=0.1)}, r"now it is cross_entropy\(label_smoothing=0.1\)"),
    ],
)
def test_a_checkpoint_of_another_schedule_precision_or_loss_is_refused(change, reason, tmp_path):
    options = {"schedule": one_cycle, "checkpoint": tmp_path / "run.pt"}
    trained(**options)
    with pytest.raises(ValueError, match=f"belongs to another run: .*({reason})"):
        trained(**{**options, **change})


def test_the_number_of_micro_batches_may_change_at_a_checkpoint(tmp_path):
    trained(epochs=1, checkpoint=tmp_path / "run.pt")
    assert_same_training(trained(checkpoint=tmp_path / "run.pt", micro_batches=3), trained())


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        ({"schedule": "one-cycle"}, TypeError, "schedule must be a function of .optimizer, steps.*got str"),
        ({"schedule": lambda optimizer, steps: 0.1}, TypeError, "this one returns float"),
        ({"precision": "float16"}, ValueError, "precision must be one of 'float32', 'bfloat16', got 'float16'"),
        ({"micro_batches": 0}, ValueError, "micro_batches must be at least 1, got 0"),
        ({"micro_batches": 2.0}, TypeError, "micro_batches must be an integer, got 2.0"),
    ],
)
def test_bad_options_are_refused_with_their_reason(change, error, reason):
    with pytest.raises(error, match=reason):
        trained(**change)


# The log for TensorBoard


def read_log(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    log.Reload()
    return {tag: [(event.step, event.value) for event in log.Scalars(tag)] for tag in log.Tags()["scalars"]}


@pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard", "ignore::DeprecationWarning:google")
def test_the_log_holds_the_history_once_also_after_an_interruption(tmp_path):
    options = {"checkpoint": tmp_path / "run.pt", "tensorboard": tmp_path / "log", "schedule": one_cycle}
    calls = 0

    def failing(output, target):
        nonlocal calls
        calls += 1
        if calls == STEPS + 3:
            raise KeyboardInterrupt
        return F.cross_entropy(output, target)

    with pytest.raises(KeyboardInterrupt):
        trained(failing, **options)
    _, history = trained(failing, **options)
    log = read_log(tmp_path / "log")
    for name in ("loss", "gradient_norm", "learning_rate"):
        assert [step for step, _ in log[f"step/{name}"]] == list(range(2 * STEPS))
        values = torch.tensor([value for _, value in log[f"step/{name}"]])
        torch.testing.assert_close(values, torch.tensor(getattr(history, name)))
    assert [step for step, _ in log["epoch/train_loss"]] == [STEPS - 1, 2 * STEPS - 1]  # an epoch's last step
    assert "epoch/test_loss" not in log  # there were no test data


def test_without_its_package_a_log_is_refused_before_training(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ModuleNotFoundError) as found:
        trained(tensorboard=tmp_path / "log")
    assert "pip install tensorboard" in found.value.__notes__[0]
