"""python -m lib.training: what it trains, what it leaves behind, and what it refuses."""

import json
import os
import re
import subprocess
import sys

import pytest
import torch
from torch import nn

from lib import catalog, losses
from lib.data import load_mnist
from lib.networks import document_network
from lib.training import evaluate, fit
from lib.training.__main__ import loss_for_classes, main


@pytest.fixture
def train(empty_cache, tmp_path):
    """Runs the command on the stand-in data and returns its exit status and its folder."""
    folder = tmp_path / "out"

    def run(*arguments):
        return main(["--output", str(folder), "--epochs", "1", "--batch-size", "100", *arguments]), folder

    return run


def history_of(folder):
    return json.loads((folder / "history.json").read_text())["history"]


# What it leaves behind


def test_it_trains_saves_checkpoint_and_history_and_says_where(train, capsys):
    status, folder = train("--loss", "focal_loss", "--epochs", "3")
    assert status == 0
    printed = capsys.readouterr().out
    saved = json.loads((folder / "history.json").read_text())
    assert saved["settings"]["loss"] == "focal_loss"
    assert len(saved["history"]["loss"]) == 3 * 15
    for name in ("checkpoint.pt", "history.json"):
        assert str(folder / name) in printed
    network = document_network()
    network.load_state_dict(torch.load(folder / "checkpoint.pt", weights_only=True)["model"])
    images, labels, _ = load_mnist("test")
    found = evaluate(network, losses.focal_loss, (images.flatten(1) / 127.5 - 1, labels))
    assert found.accuracy == saved["history"]["test_accuracy"][-1] > 0.5
    assert f"test accuracy {found.accuracy:.2%}" in printed


def test_the_folder_is_named_after_data_loss_and_seed(empty_cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["--loss", "brier_loss", "--seed", "3", "--epochs", "1"]) == 0
    assert {path.name for path in (tmp_path / "runs" / "mnist-brier_loss-seed3").iterdir()} == {
        "checkpoint.pt",
        "history.json",
    }


def test_options_reach_the_loss_and_the_training(train):
    _, folder = train("--loss", "focal_loss", "--option", "gamma=0", "--schedule", "one-cycle", "--seed", "4")
    history = history_of(folder)
    images, labels, _ = load_mnist("train")
    torch.manual_seed(4)
    # Without focus, the focal loss is cross-entropy.
    wanted = fit(
        document_network(),
        losses.cross_entropy,
        (images.flatten(1) / 127.5 - 1, labels),
        epochs=1,
        batch_size=100,
        seed=4,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-3, fused=True),
        schedule=lambda optimizer, steps: torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps),
    )
    assert history["loss"] == pytest.approx(wanted.loss, rel=1e-4)
    assert history["learning_rate"] == wanted.learning_rate


def test_the_same_command_again_goes_on_from_the_checkpoint(train):
    train()
    once = history_of(train()[1])
    _, folder = train("--epochs", "2")
    twice = history_of(folder)
    assert len(twice["loss"]) == 2 * len(once["loss"])
    assert twice["loss"][: len(once["loss"])] == once["loss"]


def test_the_log_for_tensorboard_lies_beside_the_rest(train, capsys):
    _, folder = train("--tensorboard")
    assert list((folder / "tensorboard").glob("events.*"))
    assert str(folder / "tensorboard") in capsys.readouterr().out


def test_two_processes_leave_what_one_leaves(tmp_path, pytestconfig):
    arguments = ["-m", "lib.training", "--batch-size", "1000", "--epochs", "1", "--output"]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    printed = {}
    for name, launcher in {"one": [], "two": torchrun}.items():
        command = [sys.executable, *launcher, *arguments, str(tmp_path / name)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, cwd=pytestconfig.rootpath, env=environment, capture_output=True, text=True, timeout=300, check=True
        )
        printed[name] = done.stdout.replace(str(tmp_path / name), "").splitlines()
    one, two = (history_of(tmp_path / name) for name in ("one", "two"))
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-3)
    assert len(printed["one"]) == len(printed["two"])  # the second process is silent
    weights = [torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["model"] for name in ("one", "two")]
    torch.testing.assert_close(*weights, rtol=1e-2, atol=1e-3)


# What it refuses

LEARN_FROM_CLASSES = {
    "brier_loss",
    "crammer_singer_loss",
    "cross_entropy",
    "focal_loss",
    "generalized_cross_entropy",
    "multi_margin_loss",
    "nll_loss",
    "symmetric_cross_entropy",
}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--loss", "focal_los"], "the nearest name is 'focal_loss'"),
        (["--loss", "mse_loss"], "mse_loss cannot be trained on logits of ten classes and their labels"),
        (["--loss", "pgd"], "pgd cannot be trained on logits of ten classes and their labels"),
        (["--loss", "focal_loss", "--option", "gama=2"], "focal_loss has no option 'gama'; it has gamma"),
        (["--loss", "focal_loss", "--option", "gamma=-1"], "gamma must be"),
        (["--option", "reduction='none'"], "cross_entropy must return one number for a batch"),
        (["--epochs", "-1"], "epochs must be at least 0, got -1"),
        (["--learning-rate", "nan"], "Invalid learning rate: nan"),
        (["--learning-rate", "1e9"], "a learning rate that is too high"),
    ],
)
def test_a_mistake_ends_with_its_reason_and_no_traceback(arguments, reason, train, capsys):
    status, _ = train(*arguments)
    printed = capsys.readouterr().err
    assert status == 2
    assert "Traceback" not in printed
    assert re.search(reason, printed)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [(["--option", "gamma"], "must have the form NAME=VALUE, got 'gamma'"), (["--data", "cifar"], "invalid choice")],
)
def test_arguments_without_sense_end_with_the_usage(arguments, reason, train, capsys):
    with pytest.raises(SystemExit) as found:
        train(*arguments)
    assert found.value.code == 2
    printed = capsys.readouterr().err
    assert reason in printed
    assert printed.startswith("usage: python -m lib.training")


def test_a_checkpoint_of_another_model_is_refused_and_left_alone(train, capsys):
    _, folder = train()
    images, labels, _ = load_mnist("train")
    (folder / "checkpoint.pt").unlink()
    fit(
        nn.Linear(784, 10),
        losses.cross_entropy,
        (images.flatten(1) / 255, labels),
        epochs=1,
        checkpoint=folder / "checkpoint.pt",
    )
    written = (folder / "checkpoint.pt").read_bytes()
    status, _ = train()
    assert status == 2
    assert "belongs to another run" in capsys.readouterr().err
    assert (folder / "checkpoint.pt").read_bytes() == written


def test_a_checkpoint_of_another_loss_is_refused(train, capsys):
    train()
    status, _ = train("--option", "label_smoothing=0.1")
    assert status == 2
    assert "loss was cross_entropy(), now it is cross_entropy(label_smoothing=0.1)" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted({known.name for known in (*catalog.ENTRIES, *catalog.TOOLS)}))
def test_each_name_of_the_catalogue_either_learns_from_classes_or_says_why_not(name):
    if name not in LEARN_FROM_CLASSES:
        with pytest.raises(ValueError, match=f"{re.escape(name)} cannot be trained on logits of ten classes"):
            loss_for_classes(name, {})
        return
    logits = torch.zeros(4, 10, requires_grad=True)
    labels = torch.tensor([3, 1, 4, 1])
    loss_for_classes(name, {})(logits, labels).backward()
    assert (logits.grad[range(4), labels] < 0).all()


def test_help_names_every_option_and_its_default(capsys):
    with pytest.raises(SystemExit) as found:
        main(["--help"])
    assert found.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "--loss NAME a loss of the catalogue (default: cross_entropy)" in printed
    assert "None" not in printed
    assert "{}" not in printed
