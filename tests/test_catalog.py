"""The catalogue: every loss has an entry, and what an entry claims is so."""

import dataclasses
import functools
import inspect
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from lib import catalog, losses
from lib.catalog import DECISIONS, ENTRIES, FAMILIES, TASKS, TOOLS, TROUBLES, Entry

SPREADS = (0.01, 1.0, 30.0, 1e4)
ROOT = Path(__file__).parent.parent
# Losses whose gradients have entries that are sums with both signs, or exponentials far below the largest:
# rounding is judged by the largest entry.
SUMMED_GRADIENTS = {
    "clip_loss",
    "js_divergence",
    "listwise_softmax_loss",
    "nt_xent_loss",
    "sequence_cross_entropy",
    "supervised_contrastive_loss",
}
# Where papers lie that have neither DOI nor arXiv number
ARCHIVES = ("https://www.esann.org/", "https://www.jmlr.org/", "https://proceedings.mlr.press/")


def each(entries, condition=lambda entry: True):
    """Run a test for each entry that fulfils the condition."""
    chosen = [entry for entry in entries if condition(entry)]
    return pytest.mark.parametrize("entry", chosen, ids=lambda entry: entry.name)


each_entry = each(ENTRIES)
of_regression = each(ENTRIES, lambda entry: entry.task == "regression")
of_classification = each(ENTRIES, lambda entry: entry.task == "classification")
of_other_tasks = each(ENTRIES, lambda entry: entry.task == "other")
with_torch_twin = each(ENTRIES, lambda entry: entry.torch)
with_reductions = each(ENTRIES, lambda entry: entry.divisor is not None)


def draw(entry: Entry, n: int, spread: float = 1.0, seed: int = 0) -> tuple[tuple[np.ndarray, ...], dict]:
    return entry.sample(np.random.default_rng(seed), n, spread)


def tensors(arguments) -> list[torch.Tensor]:
    return [torch.from_numpy(np.array(argument)) for argument in arguments]


def call(entry: Entry, arguments, options, reduction: str = "sum") -> torch.Tensor:
    """The loss of tensors; one that knows no reductions is a sum."""
    options = options if entry.divisor is None else options | {"reduction": reduction}
    return entry.function(*entry.arguments(*arguments), **options)


def loss_and_gradients(entry: Entry, arguments, options, reduction: str = "sum"):
    """The loss, and the derivatives of its sum in the differentiable arguments."""
    arguments = tensors(arguments)
    wanted = [arguments[position].requires_grad_() for position in entry.differentiable]
    value = call(entry, arguments, options, reduction)
    return value.detach(), torch.autograd.grad(value.sum(), wanted)


def loss_and_gradient(entry: Entry, arguments, options, reduction: str = "sum"):
    """The loss, and the derivative of its sum in the input."""
    value, gradients = loss_and_gradients(entry, arguments, options, reduction)
    return value, gradients[0]


@functools.cache
def single_samples(entry: Entry, count: int = 200) -> list[tuple[float, float]]:
    """Single samples of every spread: for each, its loss and the norm of its gradient."""
    results = []
    for spread in SPREADS:
        for seed in range(count):
            value, gradient = loss_and_gradient(entry, *draw(entry, 1, spread, seed))
            results.append((value.item(), gradient.norm().item()))
    return results


def test_every_loss_and_every_tool_has_an_entry_and_none_has_two():
    assert sorted({entry.function_name for entry in ENTRIES} | {tool.name for tool in TOOLS}) == sorted(losses.__all__)
    names = [known.name for known in (*ENTRIES, *TOOLS)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("known", [*ENTRIES, *TOOLS], ids=lambda known: known.name)
def test_the_family_is_the_module_that_holds_the_loss(known):
    name = known.name.partition(",")[0]
    assert getattr(losses, name).__module__ == f"lib.losses.{known.family}"


@each_entry
def test_the_entry_claims_what_its_task_asks_for_and_nothing_else(entry):
    claims = (entry.optimum is not None, entry.robust is not None, entry.calibrated is not None)
    assert claims in {(False, True, False), (False, True, True), (True, False, False)}


@each_entry
@pytest.mark.parametrize("spread", SPREADS)
def test_the_loss_equals_its_numpy_twin_in_value_and_gradient(entry, spread):
    arguments, options = draw(entry, 50, spread)
    by_hand = entry.reference_gradient(*arguments, **options)
    by_hand = by_hand[: len(entry.differentiable)] if isinstance(by_hand, tuple) else (by_hand,)
    value, gradients = loss_and_gradients(entry, arguments, options, "none")
    np.testing.assert_allclose(value, entry.reference(*arguments, **options), rtol=1e-12, atol=1e-300)
    for ours, theirs in zip(gradients, by_hand, strict=True):
        negligible = 1e-14 * np.abs(theirs).max(initial=0) if entry.name in SUMMED_GRADIENTS else 0
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-300 + negligible)


@each_entry
def test_the_numpy_twin_computes_in_float64_whatever_it_is_given(entry):
    arguments, options = draw(entry, 5)
    single = [x.astype(np.float32) if x.dtype == np.float64 else x.astype(np.int32) for x in map(np.asarray, arguments)]
    double = [x.astype(np.float64) if x.dtype == np.float32 else x.astype(np.int64) for x in single]
    for twin in (entry.reference, entry.reference_gradient):
        found, exact = twin(*single, **options), twin(*double, **options)
        found, exact = (value if isinstance(value, tuple) else (value,) for value in (found, exact))
        for ours, theirs in zip(found, exact, strict=True):
            assert np.asarray(ours).dtype == np.float64
            np.testing.assert_array_equal(ours, theirs)


@with_torch_twin
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_the_loss_equals_torchs(entry, reduction):
    arguments, options = draw(entry, 50)
    ours = call(entry, tensors(arguments), options, reduction)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "reduction: 'mean' divides", UserWarning)  # torch's own, of F.kl_div
        torchs = entry.torch_function(*tensors(arguments), **options, reduction=reduction)
    torch.testing.assert_close(ours, torchs, rtol=1e-10, atol=1e-12)


@with_reductions
def test_the_mean_divides_by_what_the_entry_says(entry):
    sample = draw(entry, 7)
    total, _ = loss_and_gradient(entry, *sample, reduction="sum")
    mean, _ = loss_and_gradient(entry, *sample, reduction="mean")
    assert mean.item() == pytest.approx(total.item() / entry.divisor(sample), rel=1e-12)


@each_entry
def test_half_precision_gives_the_loss_of_the_same_numbers_in_float32_rounded_once(entry):
    for dtype in (torch.float16, torch.bfloat16):
        arguments, options = draw(entry, 5)
        rounded = [x.to(dtype) if x.is_floating_point() else x for x in tensors(arguments)]
        exact = call(entry, [x.float() if x.is_floating_point() else x for x in rounded], options)
        loss = call(entry, rounded, options)
        assert loss.dtype == (torch.float32 if entry.divisor is None else dtype)
        torch.testing.assert_close(loss, exact.to(loss.dtype), rtol=0, atol=0)


@with_reductions
def test_under_autocast_the_loss_is_float32_and_loses_no_digit(entry):
    arguments, options = draw(entry, 5)
    rounded = [x.bfloat16() if x.is_floating_point() else x for x in tensors(arguments)]
    exact = call(entry, [x.float() if x.is_floating_point() else x for x in rounded], options)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = call(entry, rounded, options)
    torch.testing.assert_close(loss, exact, rtol=0, atol=0)


@each_entry
def test_the_loss_is_convex_if_and_only_if_the_entry_says_so(entry):
    violated = False
    for spread in SPREADS[1:]:
        for seed in range(100):
            (here, *rest), options = draw(entry, 1, spread, seed)
            there = draw(entry, 1, spread, seed + 1000)[0][0]
            values = [call(entry, tensors((z, *rest)), options).item() for z in (here, there, (here + there) / 2)]
            violated |= values[2] > (values[0] + values[1]) / 2 + 1e-9 * max(1.0, *map(abs, values))
    assert violated is not entry.convex


@each_entry
def test_the_lipschitz_constant_bounds_the_gradient_and_no_smaller_one_does(entry):
    steepest = max(norm for _, norm in single_samples(entry))
    if entry.lipschitz is None:
        assert steepest > 100
    else:
        assert 0.95 * entry.lipschitz <= steepest <= (1 + 1e-12) * entry.lipschitz


@each_entry
def test_the_bound_bounds_the_loss_and_no_smaller_one_does(entry):
    largest = max(value for value, _ in single_samples(entry))
    if entry.bound is None:
        assert largest > 100
    else:
        assert 0.95 * entry.bound <= largest <= (1 + 1e-12) * entry.bound


with_numbers = each(ENTRIES, lambda entry: entry.lipschitz is not None or entry.bound is not None)


def float_options(entry: Entry) -> dict[str, float]:
    """The options that are floats, with their values in the entry's samples; what is 0 is off, and left out."""
    defaults = {p.name: p.default for p in inspect.signature(entry.function).parameters.values()}
    options = defaults | draw(entry, 1)[1]
    return {name: value for name, value in options.items() if isinstance(value, float) and value}


def with_option(entry: Entry, name: str, value: float) -> Entry:
    def sample(generator, n, spread):
        arguments, options = entry.sample(generator, n, spread)
        return arguments, options | {name: value}

    return dataclasses.replace(entry, sample=sample)


@with_numbers
def test_a_number_that_an_option_changes_says_for_which_value_it_holds(entry):
    for name, value in float_options(entry).items():
        largest, steepest = map(max, zip(*single_samples(with_option(entry, name, value / 2), 50), strict=True))
        claims = ((entry.lipschitz, steepest), (entry.bound, largest))
        unchanged = all(claim is None or found == pytest.approx(claim, rel=0.07, abs=1e-9) for claim, found in claims)
        assert unchanged or entry.setting, f"{name} = {value} changes the Lipschitz constant or the bound"


@with_numbers
def test_a_number_that_a_formula_gives_says_for_which_values_it_holds(entry):
    assert entry.setting or not any(claim in entry.symbols for claim in ("Lipschitz constant", "upper bound"))


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


def zoom(expected_loss, dimensions: int) -> torch.Tensor:
    """Where a function of a few numbers is least, found by ever finer grids; kinks and plateaus do it no harm."""
    axis = torch.linspace(-1, 1, 41, dtype=torch.float64)
    grid = torch.cartesian_prod(*[axis] * dimensions).reshape(-1, dimensions)
    centre, width = torch.zeros(dimensions, dtype=torch.float64), 12.0
    while width > 1e-8:
        points = centre + width * grid
        centre, width = points[expected_loss(points).argmin()], width / 5
    return centre


def best_logits(entry: Entry, probabilities: list[float]) -> torch.Tensor:
    """The logits, the last of them 0, with the least loss on average when the classes have these probabilities."""
    options = draw(entry, 1)[1]

    def expected_loss(points):
        logits = torch.nn.functional.pad(points, (0, 1))
        targets = [torch.full((len(points),), label) for label in range(len(probabilities))]
        losses = [call(entry, (entry.link(logits), target), options, "none") for target in targets]
        return sum(p * loss for p, loss in zip(probabilities, losses, strict=True))

    return torch.nn.functional.pad(zoom(expected_loss, len(probabilities) - 1), (0, 1))


def best_score(entry: Entry, probability: float) -> float:
    """The score with the least loss on average when the label is the larger one with this probability."""
    options = draw(entry, 1)[1]

    def expected_loss(points):
        scores = entry.link(points[:, 0])
        low, high = (
            call(entry, (scores, torch.full_like(scores, label)), options, "none") for label in labels_of(entry)
        )
        return probability * high + (1 - probability) * low

    return zoom(expected_loss, 1).item()


def labels_of(entry: Entry) -> list[float]:
    """The labels that the entry's samples have: -1 and +1, 0 and 1, or the class indices."""
    return np.unique(draw(entry, 200)[0][1]).tolist()


def is_binary(entry: Entry) -> bool:
    return draw(entry, 2)[0][0].ndim == 1


def best_probabilities(entry: Entry, probabilities: list[float]) -> torch.Tensor:
    """The softmax (of a score x and -x the logistic function) where the expected loss is least."""
    if is_binary(entry):
        score = torch.tensor(best_score(entry, probabilities[-1]), dtype=torch.float64)
        return torch.stack([(-score).sigmoid(), score.sigmoid()])
    return best_logits(entry, probabilities).softmax(0)


# Classes in ascending order of probability, the last with more than half, and with less than half
LEADING = [[0.1, 0.25, 0.65], [0.15, 0.3, 0.55], [0.02, 0.46, 0.52]]
SPLIT = [[0.25, 0.3, 0.45], [0.3, 0.32, 0.38], [0.1, 0.42, 0.48]]


def minimiser_of(entry: Entry) -> tuple[str, bool]:
    """What the least expected loss tells of the classes, and whether the most probable one always leads."""
    cases = [[0.2, 0.8], [0.35, 0.65], [0.45, 0.55]] if is_binary(entry) else LEADING + SPLIT
    found = [best_probabilities(entry, case) for case in cases]
    wanted = [torch.tensor(case, dtype=torch.float64) for case in cases]
    if all(torch.allclose(ours, truth, atol=1e-5) for ours, truth in zip(found, wanted, strict=True)):
        return "posterior", True
    leads = [bool((ours[:-1] < ours[-1] - 1e-4).all()) for ours in found]
    if not all(leads):
        above_one_half = [lead for lead, truth in zip(leads, wanted, strict=True) if truth[-1] > 0.5]
        return ("majority above one half" if all(above_one_half) else "another class"), False
    if all((ours.diff() > 1e-4).all() for ours in found):
        if all(ours.max() < truth.max() - 1e-3 for ours, truth in zip(found, wanted, strict=True)):
            return "flattened posterior", True
        if not is_binary(entry):
            return "sharpened posterior", True
    return "majority", True


@of_classification
def test_the_minimiser_is_what_the_entry_says_and_ranks_the_classes_if_it_is_calibrated(entry):
    assert minimiser_of(entry) == (entry.minimiser, entry.calibrated)


@of_other_tasks
@pytest.mark.parametrize("seed", range(5))
def test_no_input_has_less_loss_than_the_optimum_of_the_entry(entry, seed):
    (best, *rest), options = entry.optimum(np.random.default_rng(seed))
    least, excess = call(entry, tensors((best, *rest)), options).item(), []
    for spread in (0.1, 1.0, 30.0):
        for other in range(30):
            there = draw(entry, 50, spread, other)[0][0][tuple(slice(size) for size in best.shape)]
            for share in (1e-3, 0.1, 1.0):
                mixture = best + share * (there - best)
                excess.append(call(entry, tensors((mixture, *rest)), options).item() - least)
    assert min(excess) >= -1e-12 * max(1.0, abs(least))
    assert max(excess) > 1e-3


@of_classification
def test_the_losses_of_all_labels_add_up_to_a_constant_if_and_only_if_the_entry_says_robust(entry):
    (scores, target), options = draw(entry, 100, 3.0)
    total = sum(
        call(entry, tensors((scores, np.full_like(target, label))), options, "none") for label in labels_of(entry)
    )
    assert torch.allclose(total, total[0].expand_as(total), rtol=1e-9) is entry.robust


@each((*ENTRIES, *TOOLS))
def test_every_limit_is_a_sentence_with_a_full_stop(entry):
    assert all(limit[0].isupper() and limit.endswith(".") for limit in entry.limits)


@each((*ENTRIES, *TOOLS))
def test_an_entry_names_a_chapter_of_the_table_of_contents_and_a_paper(entry):
    assert entry.url.startswith(("https://doi.org/", "https://arxiv.org/abs/", *ARCHIVES))
    assert entry.limits
    if entry.chapter is not None:
        assert (ROOT / "chapters" / f"{entry.chapter}.ipynb").is_file()


KNOWN = (*ENTRIES, *TOOLS)


@each(KNOWN)
def test_the_reason_is_made_of_sentences_and_all_words_of_the_choice_are_known(entry):
    assert entry.because[0].isupper()
    assert entry.because.endswith(".")
    assert set(entry.use_for) <= set(TASKS)
    assert set(entry.helps_against) <= set(TROUBLES)
    assert set(entry.decisions) <= set(DECISIONS)
    assert set(entry.first_choice_for) <= set(entry.use_for)
    assert entry.use_for
    assert entry.family in FAMILIES


def test_no_two_losses_can_be_linked_to_by_the_same_name():
    assert len({entry.anchor for entry in KNOWN}) == len(KNOWN)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_one_first_choice(task):
    first = [entry.name.partition("_loss, ")[0] for entry in KNOWN if task in entry.first_choice_for]
    assert len(first) == 1 or (task, first) == ("generate samples", ["discriminator", "generator"])


@pytest.mark.parametrize("word", [*TROUBLES, *DECISIONS])
def test_every_trouble_and_every_decision_has_a_loss(word):
    assert any(word in (*entry.helps_against, *entry.decisions) for entry in KNOWN)


@each_entry
def test_a_loss_is_for_tasks_whose_targets_it_can_read(entry):
    tasks = set(entry.use_for)
    if entry.task == "regression":
        assert tasks <= {"predict a number", "predict a range", "predict a count", "find boxes"}
        assert ("predict a count" in tasks) is (entry.minimiser == "log of the mean")
        tells_the_spread = "var" in inspect.signature(entry.function).parameters
        assert ("predict a range" in tasks) is (entry.minimiser == "quantile" or tells_the_spread)
    elif entry.task == "classification":
        assert ("answer yes or no" in tasks) is is_binary(entry)
        assert ("pick one class" in tasks) is not is_binary(entry)
    else:
        assert not tasks & {"predict a number", "predict a range", "predict a count", "answer yes or no"}


# The gradient of CIoU takes its factor alpha as a constant, as its limits say.
@each(ENTRIES, lambda entry: entry.name != "ciou_loss")
def test_between_two_points_of_its_curve_a_loss_rises_by_a_slope_between_theirs(entry):
    points, values, slopes = entry.curve()
    assert (points[0], points[-1]) == (entry.slice.low, entry.slice.high)
    assert np.ptp(values) > 0.1  # there is something to see
    rise, ends = np.diff(values) / np.diff(points), np.stack([slopes[:-1], slopes[1:]])
    slack = 0.01 * np.abs(slopes).max()  # for a slope that turns back between the points
    between = (rise > ends.min(0) - slack) & (rise < ends.max(0) + slack)
    assert between.mean() >= 0.95  # a kink has no slope of its own


@each_entry
def test_to_draw_a_loss_changes_nothing(entry):
    _, options = draw(entry, 1)
    before = dict(options)
    entry.curve(2)
    assert options == before == draw(entry, 1)[1] or "lengths" in options  # these are drawn


# What a remedy must be able to do, for each trouble that a loss of an input and a target can be a remedy for. Each is a
# property that some neighbour of the remedy lacks.


def one_far_target_moves_the_prediction_little(entry: Entry) -> bool:
    target = np.random.default_rng(0).exponential(size=101)
    moves = []
    for loss in (entry, catalog.entry("mse_loss")):
        moves.append(best_constant(loss, np.append(target, 500.0)) - best_constant(loss, target))
    return abs(moves[0]) < 0.05 * moves[1]


def noisier_samples_pull_less(entry: Entry) -> bool:
    if "var" not in inspect.signature(entry.function).parameters:
        return False
    (prediction, target), options = draw(entry, 50)
    pulls = [
        np.abs(loss_and_gradient(entry, (prediction, target), options | {"var": var})[1].numpy()) for var in (1, 9)
    ]
    return bool((pulls[1] < 0.2 * pulls[0]).all())


def equal_errors_can_cost_differently(entry: Entry) -> bool:
    """Of two errors that mirror each other, one costs half as much again, with the options that say so."""
    if entry.task == "regression":
        arguments, mirrored = (np.ones(1), np.zeros(1)), (-np.ones(1), np.zeros(1))
    elif "mark pixels" in entry.use_for and entry.task == "other":
        logits = np.full((1, 1, 8), -100.0)
        logits[..., :4] = 100.0
        extra, missed = np.zeros((1, 1, 8)), np.zeros((1, 1, 8))
        extra[..., :3] = missed[..., :5] = 1.0
        arguments, mirrored = (logits, extra), (logits, missed)
    else:
        arguments, mirrored = (opposite_errors(entry, label) for label in (0, -1))
    options = draw(entry, 1)[1] | weights_for(entry, 10.0)
    first, second = (call(entry, tensors(errors), options).item() for errors in (arguments, mirrored))
    return max(first, second) > 1.5 * min(first, second)


def opposite_errors(entry: Entry, position: int) -> tuple[np.ndarray, np.ndarray]:
    """A sample of one label, and scores that are as wrong as those of the mirrored sample."""
    labels = labels_of(entry)
    label = labels[position]
    if is_binary(entry):
        return np.array([2.0 if label == labels[0] else -2.0]), np.array([label])
    logits = np.zeros((1, len(labels)))
    logits[0, int(label)] = -2.0
    return logits, np.array([int(label)])


def weights_for(entry: Entry, weight: float) -> dict[str, torch.Tensor]:
    """The option that makes the last class, or a yes, weigh more, where the loss has one."""
    options = inspect.signature(entry.function).parameters
    if "pos_weight" in options:
        return {"pos_weight": torch.tensor([weight]).double()}
    if entry.task == "classification" and "weight" in options and not is_binary(entry):
        return {"weight": torch.tensor([1.0] * (len(labels_of(entry)) - 1) + [weight]).double()}
    return {}


def the_easy_many_drown_the_rare_less(entry: Entry) -> bool:
    """Of one hard sample of the rare class among 1000 easy others, the latter have less of the pull than in the CE."""
    rare, others = 1, 1000
    easy, hard = 4.0, -1.0  # logits in favour of the truth
    if "mark pixels" in entry.use_for and entry.task == "other":
        target = np.zeros((1, 1, rare + others))
        target[..., :rare] = 1.0
        logits = np.where(target == 1.0, hard, -easy)
    elif is_binary(entry):
        low, high = labels_of(entry)
        target = np.array([high] * rare + [low] * others)
        logits = np.where(target == high, hard, -easy)
    else:
        last = len(labels_of(entry)) - 1
        target = np.array([last] * rare + [0] * others)
        logits = np.zeros((rare + others, last + 1))
        logits[:rare, last], logits[rare:, 0] = hard, easy + np.log(last)
    _, gradient = loss_and_gradient(entry, (logits, target), draw(entry, 1)[1] | weights_for(entry, 10.0))
    pull = gradient.reshape(rare + others, -1).norm(dim=1)
    share = pull[rare:].sum() / pull.sum()
    wrong = torch.sigmoid(torch.tensor([-hard] * rare + [-easy] * others))
    plain = wrong[rare:].sum() / wrong.sum()
    return bool(share < 0.95 * plain)


def slope_at(entry: Entry, probability: float) -> float:
    """How steep the loss is along the true logit where the true class has this probability."""
    logits, target = logits_of(entry, probability)
    return loss_and_gradient(entry, (logits, target), draw(entry, 1)[1])[1].abs().max().item()


def logits_of(entry: Entry, probability: float) -> tuple[np.ndarray, np.ndarray]:
    odds = np.log(probability / (1 - probability))
    if is_binary(entry):
        return np.array([odds]), np.array([labels_of(entry)[-1]])
    logits = np.zeros((1, len(labels_of(entry))))
    logits[0, 0] = odds + np.log(len(labels_of(entry)) - 1)
    return logits, np.array([0])


def an_implausible_label_pulls_less_than_a_doubtful_one(entry: Entry) -> bool:
    return slope_at(entry, 1e-3) < 0.5 * slope_at(entry, 0.5)


def what_is_right_already_pulls_less_than_in_the_cross_entropy(entry: Entry) -> bool:
    """The closer to certainty, the weaker the pull towards it; of the cross-entropy it is proportional to 1 - p."""
    return slope_at(entry, 0.99) / slope_at(entry, 0.5) < 0.5 * (0.01 / 0.5)


def no_argument_is_a_label(entry: Entry) -> bool:
    arguments, _ = draw(entry, 10)
    return all(argument.dtype == np.float64 and not np.isin(argument, (-1.0, 1.0)).all() for argument in arguments)


def it_learns_from_what_belongs_together_alone(entry: Entry) -> bool:
    """No argument says what does not belong together, and yet to treat all alike is worse than the optimum."""
    if not no_argument_is_a_label(entry):
        return False
    arguments, options = entry.optimum(np.random.default_rng(0))
    alike = [np.ones_like(argument) for argument in arguments]
    least, collapsed = (call(entry, tensors(these), options).item() for these in (arguments, alike))
    return collapsed > least + 0.1


def a_class_needs_no_output_of_its_own(entry: Entry) -> bool:
    """Labels that nobody has seen before, and more of them than the input is wide, are as good as others."""
    if "compare things" not in entry.use_for:
        return False
    arguments, options = draw(entry, 10)
    renamed = [part + 1000 if part.dtype.kind == "i" and part.max() > 1 else part for part in arguments]
    before, after = (call(entry, tensors(these), options) for these in (arguments, renamed))
    return bool(torch.equal(before, after))


def it_scores_a_sample_of_the_classes(entry: Entry) -> bool:
    arguments, _ = draw(entry, 10)
    return no_argument_is_a_label(entry) and {argument.ndim for argument in arguments} == {1, 2}


def every_alignment_that_spells_the_target_will_do(entry: Entry) -> bool:
    if len(draw(entry, 1)[0]) != 4:  # log-probabilities, labels, and how many there are of each
        return False
    lengths = (np.array([1, 2])[None], np.array([4]), np.array([2]))
    alignments = np.array([[1, 0, 2, 0], [0, 1, 0, 2], [1, 1, 2, 2]])
    log_probs = 50.0 * (np.eye(3)[alignments] - 1)
    return all(call(entry, tensors((frames[:, None], *lengths)), {}).item() < 1e-6 for frames in log_probs)


def a_box_that_lies_apart_is_drawn_nearer(entry: Entry) -> bool:
    target, sideways = np.array([[[0.0, 0.0, 1.0, 1.0]], [[1.0, 0.0, 1.0, 0.0]]])
    far, near = (loss_and_gradient(entry, (target + way * sideways, target), {}) for way in (5.0, 4.0))
    return bool(near[0] < far[0] and far[1].abs().max() > 1e-3)


def a_sure_discriminator_leaves_a_slope(entry: Entry) -> bool:
    arguments, options = draw(entry, 1)
    scores = (np.array([30.0]), np.array([-30.0]))[-len(arguments) :]  # real and fake; of a generator, fake alone
    _, gradients = loss_and_gradients(entry, scores, options)
    return all(-gradient.item() * sign >= 0.9 for gradient, sign in zip(gradients, (1, -1), strict=False))


def a_small_parameter_is_pulled_to_0_as_hard_as_a_large_one(entry: Entry) -> bool:
    return loss_and_gradient(entry, (np.array([1e-6]),), {})[1].item() > 0.1


def shared_weight_costs_less_than_weight_in_one_place(entry: Entry) -> bool:
    shared, single = (call(entry, tensors((np.array(weights),)), {}).item() for weights in ([1.0, 1.0], [2.0, 0.0]))
    return shared < single - 0.1


def a_large_parameter_is_pulled_harder(entry: Entry) -> bool:
    small, large = loss_and_gradient(entry, (np.array([1.0, 10.0]),), {})[1].tolist()
    return large > 2 * small


REMEDIES = {
    "outliers": one_far_target_moves_the_prediction_little,
    "uneven noise": noisier_samples_pull_less,
    "unequal costs": equal_errors_can_cost_differently,
    "rare classes": the_easy_many_drown_the_rare_less,
    "wrong labels": an_implausible_label_pulls_less_than_a_doubtful_one,
    "overconfidence": what_is_right_already_pulls_less_than_in_the_cross_entropy,
    "few labels": no_argument_is_a_label,
    "few examples": a_class_needs_no_output_of_its_own,
    "no negative examples": it_learns_from_what_belongs_together_alone,
    "many classes": it_scores_a_sample_of_the_classes,
    "no alignment": every_alignment_that_spells_the_target_will_do,
    "boxes that miss": a_box_that_lies_apart_is_drawn_nearer,
    "sure discriminator": a_sure_discriminator_leaves_a_slope,
    "irrelevant features": a_small_parameter_is_pulled_to_0_as_hard_as_a_large_one,
    "correlated features": shared_weight_costs_less_than_weight_in_one_place,
    "overfitting": a_large_parameter_is_pulled_harder,
}


@each(ENTRIES, lambda entry: entry.helps_against)
def test_a_remedy_can_do_what_its_trouble_asks_for(entry):
    assert [trouble for trouble in entry.helps_against if not REMEDIES[trouble](entry)] == []


@each(ENTRIES, lambda entry: "outliers" in entry.helps_against)
def test_a_remedy_against_outliers_is_robust(entry):
    assert entry.robust


# For each trouble a loss that is no remedy for it, a neighbour of one that is
NO_REMEDIES = {
    "outliers": "gaussian_nll_loss",
    "uneven noise": "mse_loss",
    "unequal costs": "mse_loss",
    "rare classes": "soft_margin_loss",
    "wrong labels": "cross_entropy",
    "overconfidence": "cross_entropy",
    "few labels": "supervised_contrastive_loss",
    "few examples": "cross_entropy",
    "no negative examples": "contrastive_loss",
    "many classes": "cross_entropy",
    "no alignment": "sequence_cross_entropy",
    "boxes that miss": "iou_loss",
    "sure discriminator": "generator_loss, minimax",
    "irrelevant features": "l2_penalty",
    "correlated features": "l1_penalty",
    "overfitting": "l1_penalty",
}


@pytest.mark.parametrize("trouble", REMEDIES)
def test_a_false_remedy_fails(trouble):
    false = dataclasses.replace(catalog.entry(NO_REMEDIES[trouble]), helps_against=(trouble,))
    with pytest.raises(AssertionError):
        test_a_remedy_can_do_what_its_trouble_asks_for(false)


# How a loss whose minimiser is told of one sample takes three classes: its arguments of logits (3,) and a label
OF_THREE_CLASSES = {
    "kl_div": lambda logits, label: (logits.log_softmax(0), torch.eye(3).double()[label]),
    "sequence_cross_entropy": lambda logits, label: (logits[None, None], torch.tensor([[label]])),
}


@each(ENTRIES, lambda entry: "a probability" in entry.serves)
def test_a_loss_that_is_said_to_serve_probabilities_is_flat_at_the_true_ones(entry):
    probabilities = torch.tensor([0.2, 0.3, 0.5]).double()
    for logits, flat in ((probabilities.log(), True), (probabilities, False)):
        logits.requires_grad_()
        costs = [call(entry, OF_THREE_CLASSES[entry.name](logits, label), {}) for label in range(3)]
        (slope,) = torch.autograd.grad(sum(p * cost for p, cost in zip(probabilities, costs, strict=True)), logits)
        assert (slope.abs().max().item() < 1e-12) is flat


def test_the_catalogue_prints_itself_as_a_table_with_a_row_for_each_loss_and_each_tool():
    printed = subprocess.run([sys.executable, "-m", "lib.catalog"], capture_output=True, text=True, check=True).stdout
    first_column = [line.split("|")[1].strip() for line in printed.splitlines() if line]
    named = [cell for cell in first_column if cell not in ("loss", "tool", "---")]
    assert named == [known.name for known in (*ENTRIES, *TOOLS)]
    assert printed.strip() == catalog.table()


@each_entry
def test_the_card_of_a_loss_holds_its_formulas_and_its_paper(entry):
    card = catalog.card(entry.name)
    assert entry.value in card
    assert entry.gradient in card
    assert f"[{entry.paper}]({entry.url})" in card


@each(TOOLS)
def test_the_card_of_a_tool_holds_its_formula_and_what_it_is_for(entry):
    card = catalog.card(entry.name)
    assert entry.value in card
    assert entry.purpose in card


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
        ("limits", ("It has no full stop",), test_every_limit_is_a_sentence_with_a_full_stop),
        ("because", "no sentence", test_the_reason_is_made_of_sentences_and_all_words_of_the_choice_are_known),
        ("because", "No full stop", test_the_reason_is_made_of_sentences_and_all_words_of_the_choice_are_known),
        ("use_for", (), test_the_reason_is_made_of_sentences_and_all_words_of_the_choice_are_known),
        ("use_for", ("pick a class",), test_the_reason_is_made_of_sentences_and_all_words_of_the_choice_are_known),
        ("use_for", ("pick one class", "answer yes or no"), test_a_loss_is_for_tasks_whose_targets_it_can_read),
        (
            "first_choice_for",
            ("mark boxes",),
            test_the_reason_is_made_of_sentences_and_all_words_of_the_choice_are_known,
        ),
        ("helps_against", ("outlier",), test_the_reason_is_made_of_sentences_and_all_words_of_the_choice_are_known),
        ("helps_against", ("outliers",), test_a_remedy_against_outliers_is_robust),
        ("serves", ("a guess",), test_the_reason_is_made_of_sentences_and_all_words_of_the_choice_are_known),
        ("chapter", "mnist/tran", test_an_entry_names_a_chapter_of_the_table_of_contents_and_a_paper),
    ],
)
def test_a_false_entry_fails(claim, falsehood, theorem):
    with pytest.raises(AssertionError):
        theorem(dataclasses.replace(catalog.entry("cross_entropy"), **{claim: falsehood}))


@pytest.mark.parametrize(
    ("name", "theorem"),
    [
        ("focal_loss", test_a_number_that_an_option_changes_says_for_which_value_it_holds),
        ("nt_xent_loss", test_a_number_that_an_option_changes_says_for_which_value_it_holds),
        ("quantile_loss", test_a_number_that_an_option_changes_says_for_which_value_it_holds),
        ("entropy_loss", test_a_number_that_a_formula_gives_says_for_which_values_it_holds),
        ("ctc_loss", test_a_number_that_a_formula_gives_says_for_which_values_it_holds),
    ],
)
def test_an_entry_without_the_setting_of_its_numbers_fails(name, theorem):
    with pytest.raises(AssertionError):
        theorem(dataclasses.replace(catalog.entry(name), setting=""))
