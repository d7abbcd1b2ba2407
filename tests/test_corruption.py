"""Labels that are spoilt on purpose: wrong and rare by exactly the rule that is promised, and by no other."""

import math

import pytest
import torch

from lib.data.corruption import flip_pairwise, flip_symmetric, long_tail, make_rare, transition

FLIPS = {"symmetric": flip_symmetric, "pairwise": flip_pairwise}
LABELS = torch.arange(60_000) % 10


def within_chance(count: int, draws: int, probability: float) -> bool:
    """Whether a count is within five standard deviations of a binomial's mean: beyond, one time in two millions."""
    return abs(count - draws * probability) <= 5 * math.sqrt(draws * probability * (1 - probability))


@pytest.mark.parametrize("flip", FLIPS.values())
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.2, 0.4, 0.6, 0.9, 1.0])
def test_share_of_wrong_labels_is_the_rate(flip, rate):
    wrong = (flip(LABELS, rate, seed=3) != LABELS).sum().item()
    assert within_chance(wrong, len(LABELS), rate)


@pytest.mark.parametrize("kind", FLIPS)
@pytest.mark.parametrize("rate", [0.2, 0.6])
def test_labels_occur_as_often_as_the_transition_matrix_says(kind, rate):
    labels = FLIPS[kind](LABELS, rate, seed=5)
    counts = torch.bincount(10 * LABELS + labels, minlength=100).tolist()
    for count, probability in zip(counts, transition(kind, rate).flatten().tolist(), strict=True):
        assert within_chance(count, 6000, probability)


@pytest.mark.parametrize("flip", FLIPS.values())
def test_no_label_is_flipped_to_itself(flip):
    assert (flip(LABELS, 1.0) != LABELS).all()
    assert (flip(LABELS % 2, 1.0, classes=2) == 1 - LABELS % 2).all()


@pytest.mark.parametrize("flip", FLIPS.values())
def test_flips_are_the_same_for_the_same_seed_and_others_for_another(flip):
    once, again, other = (flip(LABELS, 0.4, seed=seed) for seed in (7, 7, 8))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


@pytest.mark.parametrize("flip", FLIPS.values())
def test_what_is_flipped_at_a_low_rate_is_flipped_alike_at_a_higher_one(flip):
    low, high = flip(LABELS, 0.2, seed=1), flip(LABELS, 0.6, seed=1)
    wrong = low != LABELS
    assert torch.equal(low[wrong], high[wrong])


@pytest.mark.parametrize("flip", FLIPS.values())
def test_flipping_leaves_its_argument_the_global_generator_shape_and_dtype_alone(flip):
    labels = LABELS.reshape(2, -1).int()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    flipped = flip(labels, 0.5)
    assert torch.equal(labels, LABELS.reshape(2, -1).int())
    assert torch.equal(torch.get_rng_state(), before)
    assert flipped.shape == labels.shape
    assert flipped.dtype == labels.dtype


def test_both_kinds_flip_the_same_labels():
    symmetric, pairwise = (flip(LABELS, 0.3, seed=2) != LABELS for flip in FLIPS.values())
    assert torch.equal(symmetric, pairwise)


def test_the_last_class_is_followed_by_the_first():
    assert flip_pairwise(torch.tensor([0, 4]), 1.0, classes=5).tolist() == [1, 0]


@pytest.mark.parametrize("kind", FLIPS)
@pytest.mark.parametrize("rate", [0, 0.25, 1])
def test_rows_of_a_transition_are_distributions_that_keep_all_but_the_rate(kind, rate):
    matrix = transition(kind, rate, classes=4)
    assert (matrix >= 0).all()
    torch.testing.assert_close(matrix.sum(1), torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(matrix.diagonal(), torch.full((4,), 1 - rate, dtype=torch.float64))


def test_long_tail_falls_by_one_factor_from_the_largest_to_the_smallest():
    counts = long_tail(10_000, 100, classes=5)
    assert counts.tolist() == [10_000, 3162, 1000, 316, 100]
    assert long_tail(30, 1).tolist() == [30] * 10
    assert long_tail(100, 100)[-1] == 1


def test_make_rare_keeps_as_many_of_each_class_as_wanted_and_no_row_twice():
    counts = torch.tensor([6000, 600, 60, 6, 0, 1, 2, 3, 4, 5])
    rows = make_rare(LABELS, counts, seed=4)
    assert torch.equal(torch.bincount(LABELS[rows], minlength=10), counts)
    assert (rows.diff() > 0).all()


def test_the_few_that_are_drawn_are_among_the_many_and_depend_on_the_seed():
    few, many = (make_rare(LABELS, torch.full((10,), count), seed=4) for count in (10, 100))
    assert torch.isin(few, many).all()
    assert torch.equal(few, make_rare(LABELS, torch.full((10,), 10), seed=4))
    assert not torch.equal(few, make_rare(LABELS, torch.full((10,), 10), seed=5))


@pytest.mark.parametrize("flip", FLIPS.values())
@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (([1, 2], 0.1), TypeError, "labels must be a tensor, got list"),
        ((torch.tensor([0.5]), 0.1), TypeError, "labels must be integers, got torch.float32"),
        ((torch.tensor([True]), 0.1), TypeError, "labels must be integers, got torch.bool"),
        ((torch.tensor([10]), 0.1), ValueError, r"labels must be in \[0, 10\), got 10 to 10"),
        ((torch.tensor([-1]), 0.1), ValueError, r"labels must be in \[0, 10\), got -1 to -1"),
        ((torch.tensor([1]), 1.1), ValueError, r"rate must be in \[0, 1\], got 1.1"),
        ((torch.tensor([1]), -0.1), ValueError, r"rate must be in \[0, 1\], got -0.1"),
        ((torch.tensor([1]), math.nan), ValueError, "rate must be a number, got NaN"),
        ((torch.tensor([1]), "0.1"), TypeError, "rate must be a number, got str"),
    ],
)
def test_flipping_refuses_what_makes_no_sense(flip, arguments, error, words):
    with pytest.raises(error, match=words):
        flip(*arguments)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: flip_symmetric(torch.tensor([0]), 0.1, classes=1), ValueError, "classes must be 2 or more, got 1"),
        (lambda: flip_pairwise(torch.tensor([0]), 0.1, classes=2.0), TypeError, "classes must be an integer"),
        (lambda: transition("pair", 0.1), ValueError, "kind must be one of 'symmetric', 'pairwise', got 'pair'"),
        (lambda: transition("pairwise", 2), ValueError, "rate must be in"),
        (lambda: long_tail(10, 11), ValueError, r"ratio must be in \[1, largest\], got 11"),
        (lambda: long_tail(10, 0.5), ValueError, r"ratio must be in \[1, largest\], got 0.5"),
        (lambda: long_tail(10.0, 2), TypeError, "largest must be an integer, got float"),
        (lambda: long_tail(10, None), TypeError, "ratio must be a number, got NoneType"),
        (lambda: make_rare(LABELS, torch.tensor([1.0, 2.0])), TypeError, "counts must be a tensor of integers"),
        (lambda: make_rare(LABELS, [1, 2]), TypeError, "counts must be a tensor of integers, got list"),
        (lambda: make_rare(LABELS, torch.tensor([[1]])), ValueError, r"counts must have shape \(C,\)"),
        (lambda: make_rare(LABELS, torch.tensor([1, -1])), ValueError, "0 or above"),
        (lambda: make_rare(LABELS, torch.ones(9, dtype=torch.long)), ValueError, r"labels must be in \[0, 9\)"),
        (lambda: make_rare(LABELS[:5], torch.ones(10).long()), ValueError, "class 5 has 0 samples, 1 are wanted"),
        (lambda: make_rare(LABELS[:, None], torch.ones(10).long()), ValueError, r"labels must have shape \(N,\)"),
    ],
)
def test_bad_arguments_are_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()
