"""The ways to train an epoch: the operations are counted right, ways train on what they say, clocks are read."""

from itertools import pairwise
from statistics import fmean, stdev

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from lib import ladder, studies
from lib.data import ImageSet
from lib.networks import document_network, small_cnn
from lib.studies import speed


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (150, 28, 28), generator=generator, dtype=torch.uint8)
    return ImageSet(pixels, torch.randint(10, (150,), generator=generator), "noise")


@pytest.mark.parametrize("sizes", [(784, 128, 64, 10), (5, 3), (7, 6, 5, 4, 3)])
def test_the_operations_are_those_that_torch_counts(sizes):
    layers = [torch.nn.Linear(a, b) for a, b in pairwise(sizes)]
    network = torch.nn.Sequential(*[part for layer in layers for part in (layer, torch.nn.ReLU())][:-1])
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(network(torch.randn(8, sizes[0])), torch.zeros(8, dtype=torch.int64)).backward()
    assert counter.get_total_flops() == 8 * ladder.operations(sizes)


def test_the_traffic_counts_images_once_and_parameters_once_a_step():
    pixels, state = ladder.traffic(64)
    parameters = sum(parameter.numel() for parameter in document_network().parameters())
    assert pixels == 60_000 * 784 * 4 * 2
    assert state == 938 * parameters * 4 * 7
    assert ladder.traffic(64, bytes_per_pixel=2) == (pixels // 2, state)
    assert ladder.traffic(128)[1] == state // 2


def test_the_rates_are_positive_numbers():
    assert ladder.matrix_rate(torch.float32, 64, 64, 64) > 1e6
    assert ladder.matrix_rate(torch.bfloat16, 64, 64, 64) > 1e6
    assert ladder.copy_rate(10_000) > 1e6


WAYS = {
    "as the document": lambda images, **options: ladder.as_the_document(images, **options),
    "tensors in a loader": lambda images, **options: ladder.tensors_in_a_loader(images, **options),
    "resident": lambda images, **options: ladder.resident_tensors(images, **options),
    "resident, not fused": lambda images, **options: ladder.resident_tensors(images, fused=False, **options),
    "hand-written": lambda images, **options: ladder.handwritten(images, **options),
    "bfloat16": lambda images, **options: ladder.handwritten(images, precision="bfloat16", **options),
}


@pytest.mark.parametrize("name", WAYS)
def test_a_turn_has_as_many_samples_as_it_says(name, images):
    assert WAYS[name](images, batch_size=64, batches=2).samples == 128
    assert WAYS[name](images, batch_size=64, batches=9).samples == 150  # the last batch is smaller


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("option", ["batch_size", "batches"])
def test_a_way_without_samples_is_refused(name, option, images):
    with pytest.raises(ValueError, match=f"{option} must be at least 1, got 0"):
        WAYS[name](images, **{option: 0})


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: ladder.traffic(0), "batch_size"),
        (lambda: ladder.traffic(64, bytes_per_pixel=0), "bytes_per_pixel"),
        (lambda: ladder.matrix_rate(torch.float32, rows=0), "rows"),
        (lambda: ladder.copy_rate(0), "numbers"),
    ],
)
def test_counts_of_nothing_are_refused(call, name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        call()


@pytest.mark.parametrize("name", WAYS)
def test_a_turn_trains_a_network(name, images, monkeypatch):
    networks = []
    monkeypatch.setattr(ladder, "document_network", lambda: networks.append(document_network()) or networks[-1])
    way = WAYS[name](images, batches=3)
    before = torch.cat([parameter.detach().flatten().clone() for parameter in networks[0].parameters()])
    way.turn()
    after = torch.cat([parameter.detach().flatten() for parameter in networks[0].parameters()])
    assert (before != after).float().mean() > 0.9


def test_every_way_has_a_number_for_each_round_and_clock_scaled_to_an_epoch(images):
    calls = []
    ways = {
        "one": ladder.Way(lambda: calls.append("one"), 60_000),
        "two": ladder.Way(lambda: [calls.append("two"), sum(range(100_000))], 600),
    }
    found = ladder.measure(ways, rounds=2)
    assert calls == ["one", "two"] * 3  # one turn each to warm up
    assert set(found) == set(ways)
    for row in found.values():
        assert {clock: len(numbers) for clock, numbers in row.items()} == {"clock": 2, "work": 2}
    assert min(found["two"]["work"]) > 50 * max(found["one"]["work"])


@pytest.mark.parametrize(("threads", "seconds"), [(1, 1.0), (2, 3.0)])
def test_with_several_threads_the_clock_counts(threads, seconds, monkeypatch):
    monkeypatch.setattr(ladder, "device", lambda: torch.device("cpu"))
    monkeypatch.setattr(ladder, "_seconds", lambda function, repeats: (3.0, 1.0))
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert ladder.copy_rate(10) == 80 / seconds


def test_no_rounds_are_refused():
    with pytest.raises(ValueError, match="rounds must be at least 1, got 0"):
        ladder.measure({}, rounds=0)


# The small convolutional network, and the study's own parts


def test_the_small_convolutional_network_is_as_small_as_the_documents():
    assert sum(parameter.numel() for parameter in small_cnn().parameters()) == 107_922
    assert small_cnn(7)(torch.zeros(3, 1, 28, 28)).shape == (3, 7)


def test_the_study_holds_out_the_last_sixth(images):
    kept, held_out = speed.split(images)
    assert torch.equal(torch.cat([kept.labels, held_out.labels]), images.labels)
    assert len(held_out.labels) == 25


@pytest.mark.parametrize("network", ["document_network", "small_cnn"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_recipe_trains_its_network_on_the_bytes(network, precision, images):
    recipe = speed.Recipe(network, epochs=20, batch_size=50, rate=3e-3, cycle=True, precision=precision)
    trained = speed.train(recipe, images, seed=0)
    assert speed.score(recipe, trained, images) > 0.8
    again = speed.train(recipe, images, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(trained.parameters(), again.parameters(), strict=True))


def test_a_recipe_for_an_unknown_network_is_refused(images):
    with pytest.raises(ValueError, match="the network must be one of 'document_network', 'small_cnn', got 'large_cnn'"):
        speed.train(speed.Recipe("large_cnn"), images, seed=0)


def test_normalised_inputs_have_the_documented_mean_and_deviation():
    pixels = torch.randint(256, (10, 28, 28), dtype=torch.uint8)
    images = ImageSet(pixels, torch.zeros(10, dtype=torch.int64), "noise")
    inputs = speed.prepare(speed.Recipe(normalized=True), images)
    torch.testing.assert_close(inputs, (pixels.flatten(1) / 255 - 0.1307) / 0.3081)
    assert speed.prepare(speed.Recipe(), images).min() >= -1


class Serial:
    """A pool that works by itself."""

    map = staticmethod(map)


@pytest.mark.parametrize(
    ("accuracies", "chosen"),
    [
        ({2: 0.97, 3: 0.985, 4: 0.99}, 3),  # the cheapest that does it
        ({2: 0.97, 3: 0.975, 4: 0.96}, 3),  # none does: the nearest
    ],
)
def test_the_cheapest_recipe_above_the_goal_is_chosen(accuracies, chosen, monkeypatch):
    def validate(trial):
        seed, recipe = trial
        return accuracies[recipe.epochs] + 1e-5 * (seed % 2), float(recipe.epochs)

    monkeypatch.setattr(speed, "_validate", validate)
    recipe, rows = speed.choose([speed.Recipe(epochs=epochs) for epochs in accuracies], 0.98, Serial)
    assert recipe.epochs == chosen
    assert [row["seconds"] for row in rows] == [2.0, 3.0, 4.0]


# The record


def test_the_recorded_recipes_are_what_the_rule_chooses_from_the_recorded_validation():
    record = studies.read("speed")
    for name, goal in record["goals"].items():
        rows = record["validation"][name]
        assert [row["rate"] for row in rows] == [recipe.rate for recipe in speed.GRIDS[name]]
        enough = [row for row in rows if fmean(row["accuracy"]) - 2 * stdev(row["accuracy"]) >= goal]
        cheapest = min(enough, key=lambda row: row["seconds"])
        assert record["chosen"][name].items() <= cheapest.items()
        assert len(record["test_accuracy"][name]) == len(speed.SEEDS)
        assert set(speed.SEEDS).isdisjoint(speed.TUNING_SEEDS)


def test_the_record_has_all_eight_combinations_of_ingredients():
    rows = studies.read("speed")["ingredients"]
    assert len({(row["label_smoothing"], row["normalized"], row["cycle"]) for row in rows}) == len(rows) == 8
    assert {len(row["accuracy"]) for row in rows} == {len(speed.FEWER_SEEDS)}
