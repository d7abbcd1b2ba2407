"""The catalogue: every loss has an entry, and what an entry claims is so."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lib import catalog, losses
from lib.catalog import ENTRIES, Entry

SPREADS = (0.01, 1.0, 30.0, 1e4)
ROOT = Path(__file__).parent.parent

each_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
of_regression = pytest.mark.parametrize("entry", [e for e in ENTRIES if e.calibrated is None], ids=lambda e: e.name)
with_torch_twin = pytest.mark.parametrize("entry", [e for e in ENTRIES if e.torch], ids=lambda entry: entry.name)
of_classification = pytest.mark.parametrize(
    "entry", [e for e in ENTRIES if e.calibrated is not None], ids=lambda e: e.name
)


def draw(entry: Entry, n: int, spread: float = 1.0, seed: int = 0) -> tuple[tuple[np.ndarray, ...], dict]:
    return entry.sample(np.random.default_rng(seed), n, spread)


def tensors(arguments) -> list[torch.Tensor]:
    return [torch.from_numpy(np.array(argument)) for argument in arguments]


def loss_and_gradient(entry: Entry, arguments, options, reduction: str = "sum"):
    first, *rest = tensors(arguments)
    first.requires_grad_()
    value = entry.function(first, *rest, **options, reduction=reduction)
    return value.detach(), torch.autograd.grad(value.sum(), first)[0]


def each_sample(entry: Entry, count: int = 200):
    """Single samples of every spread: for each, its loss and the norm of its gradient."""
    for spread in SPREADS:
        for seed in range(count):
            value, gradient = loss_and_gradient(entry, *draw(entry, 1, spread, seed))
            yield value.item(), gradient.norm().item()


def test_every_loss_has_exactly_one_entry():
    assert sorted(entry.name for entry in ENTRIES) == sorted(losses.__all__)


@each_entry
def test_the_family_is_the_module_that_holds_the_loss(entry):
    assert entry.function.__module__ == f"lib.losses.{entry.family}"


@each_entry
@pytest.mark.parametrize("spread", SPREADS)
def test_the_loss_equals_its_numpy_twin_in_value_and_gradient(entry, spread):
    arguments, options = draw(entry, 50, spread)
    value, gradient = loss_and_gradient(entry, arguments, options, reduction="none")
    np.testing.assert_allclose(value, entry.reference(*arguments, **options), rtol=1e-12, atol=1e-300)
    by_hand = entry.reference_gradient(*arguments, **options)
    by_hand = by_hand[0] if isinstance(by_hand, tuple) else by_hand  # the first is the input's
    np.testing.assert_allclose(gradient, by_hand, rtol=1e-12, atol=1e-300)


@with_torch_twin
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_the_loss_equals_torchs(entry, reduction):
    arguments, options = draw(entry, 50)
    ours = entry.function(*tensors(arguments), **options, reduction=reduction)
    torchs = entry.torch_function(*tensors(arguments), **options, reduction=reduction)
    torch.testing.assert_close(ours, torchs, rtol=1e-10, atol=1e-12)


@each_entry
def test_the_mean_divides_by_what_the_entry_says(entry):
    sample = draw(entry, 7)
    total, _ = loss_and_gradient(entry, *sample, reduction="sum")
    mean, _ = loss_and_gradient(entry, *sample, reduction="mean")
    assert mean.item() == pytest.approx(total.item() / entry.divisor(sample), rel=1e-12)


@each_entry
def test_the_loss_is_convex_if_and_only_if_the_entry_says_so(entry):
    violated = False
    for spread in SPREADS[1:]:
        for seed in range(100):
            (here, *rest), options = draw(entry, 1, spread, seed)
            there = draw(entry, 1, spread, seed + 1000)[0][0]
            values = [entry.function(*tensors((z, *rest)), **options).item() for z in (here, there, (here + there) / 2)]
            violated |= values[2] > (values[0] + values[1]) / 2 + 1e-9 * max(1.0, *map(abs, values))
    assert violated is not entry.convex


@each_entry
def test_the_lipschitz_constant_bounds_the_gradient_and_no_smaller_one_does(entry):
    steepest = max(norm for _, norm in each_sample(entry))
    if entry.lipschitz is None:
        assert steepest > 100
    else:
        assert 0.95 * entry.lipschitz <= steepest <= (1 + 1e-12) * entry.lipschitz


@each_entry
def test_the_bound_bounds_the_loss_and_no_smaller_one_does(entry):
    largest = max(value for value, _ in each_sample(entry))
    if entry.bound is None:
        assert largest > 100
    else:
        assert 0.95 * entry.bound <= largest <= (1 + 1e-12) * entry.bound


def best_constant(entry: Entry, target: np.ndarray) -> float:
    """The one prediction for all targets that has the least loss, found by ever finer grids."""
    options, centre, width = draw(entry, 1)[1], 5.0, 10.0
    for _ in range(8):
        grid = torch.linspace(centre - width, centre + width, 201, dtype=torch.float64)[:, None]
        wanted = torch.from_numpy(target).expand(len(grid), -1)
        each = entry.function(grid.expand_as(wanted), wanted, **options, reduction="none")
        centre, width = grid[each.sum(1).argmin()].item(), width / 20
    return centre


@of_regression
@pytest.mark.parametrize("seed", range(3))
def test_the_best_constant_is_what_the_entry_says(entry, seed):
    target = np.random.default_rng(seed).exponential(size=101)  # skewed: mean, median and quantiles lie apart
    mean, median = target.mean(), np.median(target)
    found, options = best_constant(entry, target), draw(entry, 1)[1]
    wanted = {
        "mean": lambda: abs(found - mean) < 1e-6,
        "median": lambda: abs(found - median) < 1e-6,
        "quantile": lambda: abs(found - np.quantile(target, options["q"], method="inverted_cdf")) < 1e-6,
        "log of the mean": lambda: abs(found - np.log(mean)) < 1e-6,
        "between median and mean": lambda: median + 1e-3 < found < mean - 1e-3,
    }
    assert wanted[entry.minimiser]()


@of_regression
def test_an_outlier_has_a_bounded_pull_if_and_only_if_the_entry_says_robust(entry):
    options = draw(entry, 1)[1]
    pulls = [abs(loss_and_gradient(entry, (np.zeros(1), np.array([far])), options)[1].item()) for far in (1e4, 1e8)]
    assert (pulls[1] < 1.01 * pulls[0] + 1e-9) is entry.robust


def best_logits(entry: Entry, probabilities: torch.Tensor) -> torch.Tensor:
    """The logits at which the loss is least on average when the classes have these probabilities."""
    classes = torch.arange(len(probabilities))
    logits = torch.zeros(len(probabilities), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        each = entry.function(logits.expand(len(classes), -1), classes, reduction="none")
        expected = (probabilities * each).sum()
        expected.backward()
        return expected

    optimizer.step(closure)
    return logits.detach()


def best_score(entry: Entry, probability: float) -> float:
    """The score that has the least loss on average when the label is +1 with this probability."""
    labels = torch.tensor([1.0, -1.0], dtype=torch.float64)
    weights = torch.tensor([probability, 1 - probability], dtype=torch.float64)
    centre, width = 0.0, 10.0
    for _ in range(8):
        grid = torch.linspace(centre - width, centre + width, 201, dtype=torch.float64)[:, None].expand(-1, 2)
        each = entry.function(grid, labels.expand_as(grid), reduction="none")
        centre, width = grid[(each * weights).sum(1).argmin(), 0].item(), width / 20
    return centre


def labels_of(entry: Entry) -> list[float]:
    """The labels that the entry's samples have: -1 and +1, or the class indices."""
    return np.unique(draw(entry, 200)[0][1]).tolist()


@of_classification
def test_the_minimiser_is_what_the_entry_says_and_ranks_the_classes_if_it_is_calibrated(entry):
    ranked, posterior = True, True
    if labels_of(entry) == [-1, 1]:
        for probability in (0.3, 0.45, 0.8):
            score = best_score(entry, probability)
            ranked &= (score > 0) == (probability > 0.5)
            posterior &= abs(1 / (1 + np.exp(-score)) - probability) < 1e-5
    else:
        for probabilities in ([0.2, 0.1, 0.4, 0.3], [0.1, 0.2, 0.05, 0.65], [0.25, 0.26, 0.25, 0.24]):
            probabilities = torch.tensor(probabilities, dtype=torch.float64)
            logits = best_logits(entry, probabilities)
            ranked &= (logits.argmax() == probabilities.argmax()).item()
            posterior &= torch.allclose(logits.softmax(0), probabilities, atol=1e-5)
    assert ranked is entry.calibrated
    assert entry.minimiser == ("posterior" if posterior else "majority")


@of_classification
def test_the_losses_of_all_labels_add_up_to_a_constant_if_and_only_if_the_entry_says_robust(entry):
    (scores, target), options = draw(entry, 100, 3.0)
    total = sum(
        entry.function(*tensors((scores, np.full_like(target, label))), **options, reduction="none")
        for label in labels_of(entry)
    )
    assert torch.allclose(total, total[0].expand_as(total), rtol=1e-9) is entry.robust


@each_entry
def test_an_entry_names_a_chapter_of_the_table_of_contents_and_a_paper(entry):
    assert entry.url.startswith(("https://doi.org/", "https://arxiv.org/abs/"))
    assert entry.limits
    if entry.chapter is not None:
        assert (ROOT / "chapters" / f"{entry.chapter}.ipynb").is_file()


def test_the_catalogue_prints_itself_as_a_table_with_a_row_for_each_loss():
    printed = subprocess.run([sys.executable, "-m", "lib.catalog"], capture_output=True, text=True, check=True).stdout
    assert [line.split("|")[1].strip() for line in printed.splitlines()[2:]] == [entry.name for entry in ENTRIES]
    assert printed.strip() == catalog.table()


@each_entry
def test_the_card_of_a_loss_holds_its_formulas_and_its_paper(entry):
    card = catalog.card(entry.name)
    assert entry.value in card
    assert entry.gradient in card
    assert f"[{entry.paper}]({entry.url})" in card


def test_an_unknown_loss_is_told_the_nearest_name():
    with pytest.raises(ValueError, match="no loss called 'crossentropy'; the nearest name is 'cross_entropy'"):
        catalog.entry("crossentropy")


@pytest.mark.parametrize(
    ("claim", "falsehood", "theorem"),
    [
        ("convex", False, test_the_loss_is_convex_if_and_only_if_the_entry_says_so),
        ("lipschitz", 1.3, test_the_lipschitz_constant_bounds_the_gradient_and_no_smaller_one_does),
        ("lipschitz", 1.6, test_the_lipschitz_constant_bounds_the_gradient_and_no_smaller_one_does),
        ("lipschitz", None, test_the_lipschitz_constant_bounds_the_gradient_and_no_smaller_one_does),
        ("bound", 10.0, test_the_bound_bounds_the_loss_and_no_smaller_one_does),
        ("bound", 1e9, test_the_bound_bounds_the_loss_and_no_smaller_one_does),
        ("minimiser", "majority", test_the_minimiser_is_what_the_entry_says_and_ranks_the_classes_if_it_is_calibrated),
        ("calibrated", False, test_the_minimiser_is_what_the_entry_says_and_ranks_the_classes_if_it_is_calibrated),
        ("robust", True, test_the_losses_of_all_labels_add_up_to_a_constant_if_and_only_if_the_entry_says_robust),
        ("divisor", lambda sample: 3, test_the_mean_divides_by_what_the_entry_says),
        ("chapter", "mnist/tran", test_an_entry_names_a_chapter_of_the_table_of_contents_and_a_paper),
    ],
)
def test_a_false_entry_fails(claim, falsehood, theorem):
    with pytest.raises(AssertionError):
        theorem(dataclasses.replace(catalog.entry("cross_entropy"), **{claim: falsehood}))
