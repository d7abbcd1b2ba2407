"""The study that compares losses: a fair race, honest measures, sound statistics, a record without contradiction."""

import inspect
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from lib import losses, studies
from lib.catalog import entry
from lib.networks import document_network
from lib.studies import compare_losses as study
from lib.training import accuracy, predict


@pytest.fixture(scope="module")
def data():
    """A thousand noisy images of ten patterns."""
    generator = torch.Generator().manual_seed(0)
    patterns, noise = (torch.randn(rows, 784, generator=generator) for rows in (10, 1000))
    labels = torch.arange(1000) % 10
    return patterns[labels] + 3 * noise, labels


@pytest.fixture(scope="module")
def record():
    return studies.read("compare_losses")


def train(loss, data, **options):
    return study.train(loss, data, **{"rate": 1e-2, "seed": 0, "epochs": 2, **options})


# One run


@pytest.mark.parametrize("loss", study.LOSSES)
def test_every_loss_trains_the_network_to_be_better_than_chance(loss, data):
    found = train(loss, data)
    assert [type(layer) for layer in found.network] == [type(layer) for layer in document_network()]
    assert accuracy(predict(found.network, data[0]), data[1]) > 0.5
    assert found.seconds > 0
    assert found.gradients == []


@pytest.mark.parametrize("loss", study.LOSSES)
def test_options_are_those_that_the_catalogue_holds_for_the_papers(loss):
    function = study.LOSSES[loss]
    name = loss.partition(",")[0]
    if name == "mse_loss":
        return
    assert getattr(function, "func", function) is entry(name).function
    defaults = inspect.signature(entry(name).function).parameters
    for option, value in getattr(function, "keywords", {}).items():
        assert option == "label_smoothing" or defaults[option].default == value


def test_all_losses_start_from_the_same_weights_and_see_the_same_batches(data, monkeypatch):
    seen = {}

    def spy(name):
        def loss(output, target):
            seen.setdefault(name, []).append((output.detach().clone(), target.clone()))
            return study.losses.cross_entropy(output, target)

        return loss

    monkeypatch.setattr(study, "LOSSES", {name: spy(name) for name in study.LOSSES})
    for name in study.LOSSES:
        train(name, data, epochs=1, seed=3)
    first = seen[study.BASELINE]
    for name, steps in seen.items():
        assert torch.equal(steps[0][0], first[0][0]), name
        for (_, target), (_, wanted) in zip(steps, first, strict=True):
            assert torch.equal(target, wanted), name


def test_probe_leaves_the_features_alone_and_learns_the_classes(data, monkeypatch):
    found = train(study.CONTRASTIVE, data).network
    monkeypatch.setattr(study, "_replace_last_layer", lambda *_: 0.0)
    before = train(study.CONTRASTIVE, data).network
    for new, old in zip(found[:-1].parameters(), before[:-1].parameters(), strict=True):
        assert torch.equal(new, old)
    assert not torch.equal(found[-1].weight, before[-1].weight)


def test_watching_records_each_layer_at_each_step_and_changes_nothing(data):
    watched, plain = (train("mse_loss", data, watch=watch) for watch in (True, False))
    assert [len(norms) for norms in watched.gradients] == 3 * [2 * math.ceil(1000 / study.BATCH_SIZE)]
    torch.testing.assert_close(watched.network[0].weight, plain.network[0].weight, rtol=0, atol=0)


def test_watched_gradient_is_that_of_the_loss(data):
    inputs, labels = (part[: study.BATCH_SIZE] for part in data)
    found = train("brier_loss", (inputs, labels), epochs=1, watch=True).gradients
    torch.manual_seed(0)
    network = document_network()
    losses.brier_loss(network(inputs), labels).backward()
    wanted = [layer.weight.grad.norm().item() for layer in network if isinstance(layer, nn.Linear)]
    np.testing.assert_allclose(np.ravel(found), wanted, rtol=1e-4)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda data: train("mse", data), "no loss called 'mse' in this study; there are: cross_entropy"),
        (lambda data: train("mse_loss", data, rate=0.0), "must be above 0, got 0.0"),
        (lambda data: study.load("mnist"), "no data set called 'mnist'; there are"),
        (lambda data: study.fit_temperature(data[0], data[1][:5]), r"got \(1000, 784\) and \(5,\)"),
        (lambda data: study.fit_temperature(torch.eye(3), torch.arange(3)), "no temperature is best"),
        (lambda data: study.fit_temperature(-torch.eye(3), torch.arange(3)), "no temperature is best"),
        (lambda data: study.margins(data[0], data[1][:5]), "one label for each row"),
        (lambda data: study.separation(data[0], data[1][:5]), "one label for each row"),
        (lambda data: study.paired([1.0]), "two values or more"),
        (lambda data: study.holm([0.1, 1.1]), r"must be in \[0, 1\]"),
        (lambda data: study.holm([0.1, math.nan]), r"must be in \[0, 1\]"),
    ],
)
def test_bad_input_is_refused(call, reason, data):
    with pytest.raises(ValueError, match=reason):
        call(data)


# What a network is worth


@pytest.mark.parametrize("temperature", [0.02, 0.5, 1.0, 3.0, 50.0])
def test_temperature_is_found_where_labels_are_drawn_with_one(temperature):
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(20_000, 10, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)
    assert study.fit_temperature(temperature * logits, labels) == pytest.approx(temperature, rel=0.03)


def test_no_other_temperature_has_a_larger_likelihood():
    generator = torch.Generator().manual_seed(1)
    logits, labels = torch.randn(500, 4, generator=generator), torch.randint(4, (500,), generator=generator)
    logits[torch.arange(500), labels] += 1
    best = study.fit_temperature(logits, labels)
    values = [losses.cross_entropy(logits.double() / (best * factor), labels) for factor in (0.99, 1, 1.01)]
    assert values[1] < min(values[0], values[2])


def test_temperature_moves_no_answer_and_never_costs_likelihood_where_it_was_fitted(data):
    network = train("crammer_singer_loss", data).network
    inputs, labels = data
    wrong_here = inputs, torch.where(torch.arange(1000) % 7 == 0, (labels + 1) % 10, labels)
    found = study.judge(network, study.Splits(data, wrong_here, wrong_here, False))
    assert found["accuracy"] == accuracy(predict(network, inputs), wrong_here[1])
    assert found["nll_scaled"] <= found["nll"]


def test_margin_is_negative_exactly_where_the_answer_is_wrong():
    logits = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(200) % 5
    found = study.margins(logits, labels)
    assert torch.equal(found < 0, logits.argmax(1) != labels)
    torch.testing.assert_close(study.margins(torch.tensor([[3.0, 1.0, 2.5]]), torch.tensor([0])), torch.tensor([0.5]))


def test_separation_is_one_where_classes_are_points_and_zero_where_their_means_agree():
    labels = torch.tensor([2, 2, 5, 5])  # not every class need be there
    points = torch.tensor([[0.0, 1.0], [0.0, 1.0], [3.0, 0.0], [3.0, 0.0]])
    assert study.separation(points, labels) == pytest.approx(1)
    assert study.separation(points[[0, 2, 0, 2]], labels) == pytest.approx(0)
    features = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    classes = torch.arange(40) % 4
    assert study.separation(7 * features + 2, classes) == pytest.approx(study.separation(features, classes), rel=1e-4)


# The statistics


def test_interval_and_p_value_are_those_of_the_paired_t_test():
    one, other = np.random.default_rng(0).normal(size=(2, 9))
    wanted = stats.ttest_rel(one, other)
    mean, half, p = study.paired(one - other)
    interval = wanted.confidence_interval(0.95)
    np.testing.assert_allclose([mean - half, mean + half, p], [*interval, wanted.pvalue])


@pytest.mark.parametrize(("gaps", "p"), [([0.0, 0.0, 0.0], 1.0), ([2.0, 2.0, 2.0], 0.0)])
def test_equal_differences_have_no_width(gaps, p):
    assert study.paired(gaps) == (gaps[0], 0.0, p)


@pytest.mark.parametrize(
    ("p_values", "rejected"),
    [
        ([0.04, 0.01], [True, True]),  # Bonferroni would keep the first
        ([0.03, 0.045, 0.03], [False, False, False]),  # the smallest fails, so no other is asked
        ([0.05], [True]),
        ([], []),
    ],
)
def test_holm_rejects_step_by_step(p_values, rejected):
    assert study.holm(p_values) == rejected


def test_holm_keeps_a_family_of_true_hypotheses_whole_in_95_of_100_cases():
    draws = np.random.default_rng(0).uniform(size=(4000, 7))
    assert np.mean([any(study.holm(row)) for row in draws]) == pytest.approx(0.05, abs=0.012)


# The record


def test_record_is_complete(record):
    for found in record["data"].values():
        assert list(found["tuning"]) == list(found["final"]) == list(study.LOSSES)
        for results in found["tuning"].values():
            assert np.shape(results) == (len(study.EXPONENTS), len(study.TUNING_SEEDS))
        for results in found["final"].values():
            assert {len(values) for values in results.values()} == {len(study.SEEDS)}
    assert list(record["data"]) == list(study.SOURCES)
    longer = record["longer"]
    assert (longer["data"], longer["epochs"], tuple(longer["seeds"])) == (
        study.LONGER,
        study.LONGER_EPOCHS,
        study.LONGER_SEEDS,
    )
    for results in longer["final"].values():
        assert {len(values) for values in results.values()} == {len(study.LONGER_SEEDS)}
    protocol = record["protocol"]
    assert tuple(protocol["exponents"]) == study.EXPONENTS
    assert (protocol["epochs"], protocol["batch_size"]) == (study.EPOCHS, study.BATCH_SIZE)


def test_each_loss_has_the_rate_that_was_best_for_it_and_none_is_at_an_end_of_the_grid(record):
    for name, found in record["data"].items():
        for loss, results in found["tuning"].items():
            best = study.EXPONENTS[int(np.mean(results, axis=1).argmax())]
            assert found["best"][loss] == best
            assert best not in (study.EXPONENTS[0], study.EXPONENTS[-1]), (name, loss)


def test_right_and_wrong_alone_make_up_the_difference_in_accuracy(record):
    for found in record["data"].values():
        reference = np.array(found["final"][study.BASELINE]["accuracy"])
        for results in found["final"].values():
            alone = np.subtract(results["right_alone"], results["wrong_alone"])
            np.testing.assert_allclose(np.subtract(results["accuracy"], reference) * 10_000, alone, atol=1.1)


def test_no_loss_differs_from_itself_and_the_family_is_whole(record):
    names = ["accuracy", "nll_scaled"]
    found = study.differences(record, names)
    assert len(found) == len(study.SOURCES) * len(names) * (len(study.LOSSES) - 1)
    assert study.BASELINE not in {difference.loss for difference in found}
    for difference in found:
        assert not difference.differs or difference.p < 0.05
        final = record["data"][difference.data]["final"]
        gap = np.mean(final[difference.loss][difference.measure]) - np.mean(final[study.BASELINE][difference.measure])
        assert difference.mean == pytest.approx(gap, abs=1e-9)


def test_measure_that_the_record_lacks_is_refused(record):
    with pytest.raises(ValueError, match="no measure 'luck'; it has accuracy"):
        study.differences(record, ["luck"])
