"""The study of wrong labels and rare classes: its losses, its networks side by side, and its record."""

import pytest
import torch
from torch.nn import functional as F

from lib import losses, studies
from lib.data.corruption import transition
from lib.networks import document_network
from lib.studies import noise_and_imbalance as study
from lib.training import descend

NOISES = [transition("symmetric", 0.6), transition("pairwise", 0.4)]


def batch(rows=40, networks=None, seed=0):
    """Logits and labels, of several networks side by side where asked."""
    generator = torch.Generator().manual_seed(seed)
    last = () if networks is None else (networks,)
    logits = 3 * torch.randn(rows, 10, *last, generator=generator, dtype=torch.float64)
    return logits, torch.randint(10, (rows, *last), generator=generator)


@pytest.mark.parametrize("noise", NOISES)
def test_forward_correction_is_the_log_loss_of_what_the_labels_will_say(noise):
    logits, labels = batch()
    wanted = F.nll_loss((logits.softmax(1) @ noise).log(), labels)
    torch.testing.assert_close(study.forward_corrected(logits, labels, noise=noise), wanted)


@pytest.mark.parametrize("noise", NOISES)
def test_forward_correction_is_least_at_the_truth_where_the_labels_are_wrong(noise):
    truth = batch(rows=1)[0].softmax(1)
    logits = truth.log().clone().requires_grad_()
    said = (truth @ noise)[0]
    each = torch.stack([study.forward_corrected(logits, torch.tensor([k]), noise=noise) for k in range(10)])
    (slope,) = torch.autograd.grad((said * each).sum(), logits)
    torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-12, rtol=0)


def test_forward_correction_without_noise_is_cross_entropy_and_survives_logits_in_the_thousands():
    logits, labels = batch()
    none = torch.eye(10, dtype=torch.float64)
    torch.testing.assert_close(
        study.forward_corrected(logits, labels, noise=none), losses.cross_entropy(logits, labels)
    )
    large = (1000 * logits.float()).requires_grad_()
    value = study.forward_corrected(large, labels, noise=NOISES[1])
    (slope,) = torch.autograd.grad(value, large)
    assert value.isfinite()
    assert slope.isfinite().all()


def test_adjusted_logits_learn_the_honest_ones():
    logits, labels = batch()
    shares = torch.arange(1, 11) / 55
    wanted = losses.cross_entropy(logits, labels)
    moved = logits - shares.log()
    torch.testing.assert_close(study.logit_adjusted(moved, labels, shares=shares), wanted)


def test_weights_are_one_on_average_over_the_training_labels():
    counts = torch.tensor([[1000, 20], [100, 700], [10, 5]])
    for beta in (0.0, 0.999, 1.0):
        weights = study.class_weights(counts, beta)
        torch.testing.assert_close((weights * counts).sum(0) / counts.sum(0), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(weights[0] * 1000, weights[1] * torch.tensor([100, 700 * 50.0]) / torch.tensor([1, 1]))


def test_weighted_sum_is_divided_by_the_rows():
    logits, labels = batch()
    weights = torch.arange(1.0, 11)
    wanted = F.cross_entropy(logits, labels, weight=weights.double(), reduction="sum") / len(labels)
    torch.testing.assert_close(study.weighted(logits, labels, weights=weights), wanted)


@pytest.mark.parametrize("group", ["noise", "rarity"])
def test_losses_of_networks_side_by_side_are_the_mean_of_their_own(group):
    logits, labels = batch(networks=3)
    counts = torch.arange(1, 31).reshape(10, 3)
    together = study.losses_for_noise(NOISES[0]) if group == "noise" else study.losses_for_rarity(counts)
    for name, loss in together.items():
        own = [study.losses_for_noise(NOISES[0]) if group == "noise" else study.losses_for_rarity(c) for c in counts.T]
        alone = [own[k][name](logits[..., k], labels[:, k]) for k in range(3)]
        torch.testing.assert_close(loss(logits, labels), torch.stack(alone).mean(), msg=name)


def test_networks_side_by_side_learn_what_they_learn_alone():
    torch.manual_seed(0)
    networks = [document_network() for _ in range(3)]
    stack = study.SideBySide(networks)
    inputs, labels = torch.randn(64, 3, 784), torch.randint(10, (64, 3))
    batches = torch.arange(64).split(16)
    sgd = torch.optim.SGD(stack.parameters(), lr=0.1)
    for _ in descend(stack, lambda z, y: 3 * losses.cross_entropy(z, y), sgd, inputs, labels, batches):
        pass
    for k, net in enumerate(networks):
        alone = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in descend(net, losses.cross_entropy, alone, inputs[:, k], labels[:, k], batches):
            pass
        torch.testing.assert_close(stack(inputs)[..., k], net(inputs[:, k]), rtol=1e-4, atol=1e-5)


def test_recalls_are_those_of_each_network_and_class():
    logits, labels = batch(rows=500, networks=2)
    found = study.recalls(logits, labels)
    for k in range(2):
        for number in range(10):
            own = labels[:, k] == number
            right = (logits[own][..., k].argmax(1) == number).double().mean()
            torch.testing.assert_close(found[number, k], right)


def test_the_best_of_all_learning_rates_and_looks_is_picked_and_the_first_of_equals(monkeypatch):
    monkeypatch.setattr(study, "DRAWS", (0, 1))
    scores = {0.1: torch.tensor([[0.5, 0.6], [0.7, 0.6]]), 0.2: torch.tensor([[0.9, 0.6], [0.1, 0.2]])}
    assert study._picked(scores) == [(0.2, 0), (0.1, 0)]


def test_informed_logits_undo_noise_and_rarity():
    truth, noise = batch(rows=8, networks=2)[0].softmax(1), 0.3
    shares = torch.arange(1, 21).double().reshape(10, 2)
    shares = shares / shares.sum(0)
    matrix = transition("symmetric", noise)
    said, counts = (torch.einsum("ij...,jk->ik...", p, matrix) for p in (truth, 1e6 * shares[None]))
    found = study.ways("cross_entropy", said.log(), counts[0], noise)["informed"].softmax(1)
    wanted = truth / shares
    torch.testing.assert_close(found, wanted / wanted.sum(1, keepdim=True), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda z, y: study.forward_corrected(z, y, noise=torch.eye(9)), r"noise must have shape \(10, 10\)"),
        (lambda z, y: study.forward_corrected(z, y, noise=torch.eye(10) * 0.9), "a distribution"),
        (lambda z, y: study.logit_adjusted(z, y, shares=torch.ones(9)), r"shares must have shape \(10,\)"),
        (lambda z, y: study.logit_adjusted(z, y, shares=torch.zeros(10)), "shares must be above 0"),
        (lambda z, y: study.weighted(z, y, weights=torch.ones(10, 2)), r"weights must have shape \(10,\)"),
        (lambda z, y: study.weighted(z, y, weights=-torch.ones(10)), "weights must be above 0"),
    ],
)
def test_bad_arguments_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call(*batch())


def chosen_by_tuning(found, scores, record):
    """What the scores are, draw by draw, at the rate and epoch that are best on the tuning images, as recorded."""
    chosen = []
    for k, (rate, epoch) in enumerate(zip(found["rate"], found["epoch"], strict=True)):
        place = record["epochs"].index(epoch)
        assert found["tune"][str(rate)][k][place] == max(max(curves[k]) for curves in found["tune"].values())
        chosen.append(scores[str(rate)][k][place])
    return chosen


def test_record_holds_every_condition_loss_and_draw_and_its_choices_are_those_of_the_tuning_images():
    record = studies.read("noise_and_imbalance")
    draws, looks = record["draws"], len(record["epochs"])
    assert [(one["kind"], one["noise"]) for one in record["noise"]] == list(study.NOISE)
    for one in record["noise"]:
        assert list(one["losses"]) == list(study.losses_for_noise(NOISES[0]))
        for found in one["losses"].values():
            assert len(found["accuracy"]) == draws
            assert all(len(curve) == looks for curves in found["test"].values() for curve in curves)
            assert found["accuracy"] == chosen_by_tuning(found, found["test"], record)
    assert [(one["ratio"], one["noise"]) for one in record["rarity"]] == list(study.RARITY)
    for one in record["rarity"]:
        assert one["counts"][0] == one["ratio"] * one["counts"][-1]
        for found in one["losses"].values():
            assert [len(recall) for recall in found["recall"]] == [10] * draws
            balanced = chosen_by_tuning(found, found["balanced"], record)
            assert balanced == pytest.approx([sum(recall) / 10 for recall in found["recall"]], abs=1.1e-4)
