"""The ranking losses against 50 digits of mpmath, against each other, and against what theory says of them."""

import itertools
import math

import mpmath
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import grad, gradcheck, gradgradcheck

from lib.losses import ranking as losses
from lib.reference import ranking as reference

TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-12}
DTYPES = list(TOLERANCE)
HITS = torch.tensor([[True, False, False, False], *[[False] * 4] * 5, [False, True, True, False]])
CASES = {
    "bpr_loss": {},
    "bpr_loss, several": {},
    "sampled_softmax_loss": {},
    "sampled_softmax_loss, corrected": {
        "input_log_q": torch.linspace(-3, 0, 7, dtype=torch.float64),
        "target_log_q": torch.linspace(-1, 2, 4, dtype=torch.float64),
        "accidental_hits": HITS,
    },
    "listwise_softmax_loss": {},
    "listwise_softmax_loss, masked": {"mask": ~HITS},
    "listwise_softmax_loss, shares": {"softmax_target": False},
    "listwise_softmax_loss, masked shares": {"mask": ~HITS, "softmax_target": False},
}
LISTS = [case for case in CASES if "listwise" in case]


def function_of(case, module=losses):
    return getattr(module, case.split(",")[0])


def twin_of(case, suffix=""):
    return getattr(reference, case.split(",")[0] + suffix)


def random_arguments(case, seed=0):
    """Return the differentiable inputs and the constant ones of a case, in float64: seven rows of four."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    if case in LISTS:
        return [draw(7, 4)], [draw(7, 4).abs()]
    return [draw(7), draw(7) if case == "bpr_loss" else draw(7, 4)], []


def value_and_gradients(loss, inputs, constants=(), **options):
    inputs = [x.clone().requires_grad_() for x in inputs]
    value = loss(*inputs, *constants, **options)
    return value.detach(), grad(value.sum(), inputs)


def rows_of(options, rows):
    """Return the options for some of the seven rows only."""
    cut = {k: v[rows] for k, v in options.items() if isinstance(v, torch.Tensor) and len(v) == 7}
    return options | cut


# Against mpmath


def relative_error(ours, truth, dtype, size=None):
    """Return how far off a result is, relative to ``size`` or to the truth; 0 where it is too small for the dtype."""
    limits = torch.finfo(dtype)
    if abs(truth) > limits.max:
        return 0.0 if ours == math.copysign(math.inf, truth) else math.inf
    error = abs(ours - truth)
    if not error <= limits.tiny:  # NaN too
        size = size or abs(truth)
        return float(error / size) if size else math.inf
    return 0.0


SCORES = [0.0, 1e-30, -1e-4, 0.3, 1.7, -15.1, 16.3, -39.9, 40.1, 57.3, -87.2, 123.4, 1e4, 1e8, -1e30, 1e30]


@pytest.mark.parametrize("dtype", DTYPES)
def test_bpr_is_right_for_scores_that_nearly_agree_and_for_scores_far_apart(dtype):
    scores = torch.tensor(SCORES, dtype=dtype)
    scores = torch.cat([scores, scores.nextafter(scores + 1), scores + 0.1])
    chosen, other = (x.flatten() for x in torch.meshgrid(scores, scores, indexing="ij"))
    value, slopes = value_and_gradients(losses.bpr_loss, [chosen, other], reduction="none")
    errors = []
    with mpmath.workdps(50):
        for x, y, *ours in zip(*(t.tolist() for t in (chosen, other, value, *slopes)), strict=True):
            deficit = mpmath.mpf(y) - mpmath.mpf(x)
            slope = 1 / (1 + mpmath.exp(-deficit))
            truths = (mpmath.log1p(mpmath.exp(deficit)), -slope, slope)
            errors += [relative_error(our, truth, dtype) for our, truth in zip(ours, truths, strict=True)]
    assert max(errors) <= TOLERANCE[dtype]


def score_lists(dtype, places, seed=0):
    """Return lists of scores at every scale: leads by far and by little, ties, and all of it shifted."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for scale, shift in itertools.product((0, 1e-30, 1e-3, 1, 8, 30, 100, 1e4, 1e30), (0, 0.3, -70.1, 1e5)):
        noise = torch.randn(places, generator=generator, dtype=torch.float64)
        rows += [scale * noise + shift, scale * noise.round() + shift]
    rows += [torch.tensor([lead] + [0.1] * (places - 1), dtype=torch.float64) for lead in (-90, -3.3, 3.3, 17, 41, 90)]
    return torch.stack(rows).to(dtype)


@pytest.mark.parametrize("hits", [False, True], ids=["all count", "hits"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_sampled_softmax_is_right_from_a_lead_of_nothing_to_one_of_1e30(dtype, hits):
    scores = score_lists(dtype, 5)
    truth, samples = scores[:, 0].contiguous(), scores[:, 1:].contiguous()
    skipped = torch.zeros_like(samples, dtype=torch.bool)
    skipped[::2, 2], skipped[1::5] = hits, hits
    value, slopes = value_and_gradients(
        losses.sampled_softmax_loss, [truth, samples], accidental_hits=skipped if hits else None, reduction="none"
    )
    errors = []
    with mpmath.workdps(50):
        for i, (x, row) in enumerate(zip(truth.tolist(), samples.tolist(), strict=True)):
            odds = [0 if s else mpmath.exp(mpmath.mpf(t) - x) for t, s in zip(row, skipped[i], strict=True)]
            total = mpmath.fsum(odds)
            errors.append(relative_error(value[i].item(), mpmath.log1p(total), dtype))
            errors.append(relative_error(slopes[0][i].item(), -total / (1 + total), dtype))
            for ours, odd in zip(slopes[1][i].tolist(), odds, strict=True):
                errors.append(relative_error(ours, odd / (1 + total), dtype))
    assert max(errors) <= TOLERANCE[dtype]


@pytest.mark.parametrize("far", [False, True], ids=["a close race", "the true item far behind"])
@pytest.mark.parametrize("size", [0.0, 1e2, 1e3, 1e4, 1e8])
@pytest.mark.parametrize("dtype", DTYPES)
def test_sampled_softmax_is_as_exact_as_scores_and_corrections_are(dtype, size, far):
    (truth, samples), _ = random_arguments("sampled_softmax_loss", seed=1)
    truth, samples = (8 * truth + (-size / 3 if far else size)).to(dtype), (8 * samples + size).to(dtype)
    options = CASES["sampled_softmax_loss, corrected"]
    own_q, other_q = (5.3 * options[name].to(dtype) for name in ("input_log_q", "target_log_q"))
    value, slopes = value_and_gradients(
        losses.sampled_softmax_loss,
        [truth, samples],
        input_log_q=own_q,
        target_log_q=other_q,
        accidental_hits=HITS,
        reduction="none",
    )
    tolerance = TOLERANCE[dtype] if dtype == torch.float32 else max(TOLERANCE[dtype], 1e-15 * size)  # of the scores
    errors = []
    with mpmath.workdps(50):
        for i in range(7):
            own = mpmath.mpf(truth[i].item()) - own_q[i].item()
            leads = [mpmath.mpf(t) - q - own for t, q in zip(samples[i].tolist(), other_q.tolist(), strict=True)]
            odds = [0 if hit else mpmath.exp(lead) for lead, hit in zip(leads, HITS[i], strict=True)]
            total = mpmath.fsum(odds)
            errors.append(relative_error(value[i].item(), mpmath.log1p(total), dtype))
            errors.append(relative_error(slopes[0][i].item(), -total / (1 + total), dtype))
            for ours, odd in zip(slopes[1][i].tolist(), odds, strict=True):
                errors.append(relative_error(ours, odd / (1 + total), dtype))
    assert max(errors) <= tolerance


@pytest.mark.parametrize("dtype", DTYPES)
def test_samples_far_ahead_of_the_true_item_are_told_apart_without_correction_too(dtype):
    truth = torch.tensor([-33.3, -33333332.0], dtype=dtype)  # float32 rounds the second's leads 16 apart, not 8
    samples = torch.tensor([[100.3, 100.7], [1e8, 1e8 + 8]], dtype=dtype)
    _, (_, slopes) = value_and_gradients(losses.sampled_softmax_loss, [truth, samples], reduction="none")
    torch.testing.assert_close(slopes, samples.softmax(1), rtol=TOLERANCE[dtype], atol=0)


def exact_lists(scores, relevance, softmax_target):
    """Return value, gradient and the size of the gradient's terms of one list, exactly."""
    top, best = max(scores), max(relevance)
    odds = [mpmath.exp(mpmath.mpf(s) - top) for s in scores]
    chances = [mpmath.exp(mpmath.mpf(r) - best) if softmax_target else mpmath.mpf(r) for r in relevance]
    odds_sum, chance_sum = mpmath.fsum(odds), mpmath.fsum(chances)
    others = mpmath.fsum(o for j, o in enumerate(odds) if j != scores.index(top))
    chances = [c / chance_sum for c in chances]
    value = mpmath.log1p(others) + mpmath.fsum(c * (mpmath.mpf(top) - s) for c, s in zip(chances, scores, strict=True))
    return value, [(o / odds_sum - c, max(o / odds_sum, c)) for o, c in zip(odds, chances, strict=True)]


@pytest.mark.parametrize("softmax_target", [True, False], ids=["grades", "shares"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_listwise_is_right_at_every_scale_of_scores_and_relevances(dtype, softmax_target):
    # A gradient is the difference of two probabilities: the error is relative to the larger.
    scores = score_lists(dtype, 5)
    for seed in range(3):
        relevance = score_lists(dtype, 5, seed)[
            torch.randperm(len(scores), generator=torch.Generator().manual_seed(seed))
        ]
        relevance = relevance if softmax_target else relevance.abs() + 0.01
        value, (slopes,) = value_and_gradients(
            losses.listwise_softmax_loss, [scores], [relevance], softmax_target=softmax_target, reduction="none"
        )
        errors = []
        with mpmath.workdps(50):
            for i, (row, facts) in enumerate(zip(scores.tolist(), relevance.tolist(), strict=True)):
                truth, slope_and_size = exact_lists(row, facts, softmax_target)
                errors.append(relative_error(value[i].item(), truth, dtype))
                for ours, (slope, size) in zip(slopes[i].tolist(), slope_and_size, strict=True):
                    errors.append(relative_error(ours, slope, dtype, size))
        assert max(errors) <= TOLERANCE[dtype]


def test_listwise_counts_the_least_chance_of_a_hopeless_score_and_a_lead_of_any_size():
    scores = torch.tensor([[0.0, -1e30], [80.0, 0.0]])
    value = losses.listwise_softmax_loss(scores, torch.tensor([[110.0, 0.0], [90.0, 0.0]]), reduction="none")
    truth = [1e30 * math.exp(-110), math.exp(-80) + 80 * math.exp(-90)]
    np.testing.assert_allclose(value, truth, rtol=2e-6)
    naive = -(torch.tensor([90.0, 0.0]).softmax(0) * scores[1].log_softmax(0)).sum()
    assert naive < 0.5 * truth[1]


@pytest.mark.parametrize("name", ["bpr_loss", "sampled_softmax_loss"])
def test_a_lead_of_scores_as_large_as_they_come_costs_nothing_and_teaches_nothing(name):
    far, shape = 3e38, (1,) if name == "bpr_loss" else (1, 1)
    value, slopes = value_and_gradients(function_of(name), [torch.tensor([far]), torch.full(shape, -far)])
    assert value == 0 == slopes[0] == slopes[1]
    value, slopes = value_and_gradients(function_of(name), [torch.tensor([-1e38]), torch.full(shape, 1e38)])
    assert value.item() == pytest.approx(2e38)
    assert [slope.item() for slope in slopes] == [-1, 1]


@pytest.mark.parametrize("log_q", [None, torch.tensor([-5.0])], ids=["plain", "corrected"])
def test_a_true_item_hopelessly_behind_costs_infinity_and_teaches_as_much_as_any_lost_one(log_q):
    truth, samples = torch.tensor([-3e38, 3e38]), torch.tensor([[3e38, 0.0], [0.0, -3e38]])
    options = {"input_log_q": None if log_q is None else log_q.expand(2), "reduction": "none"}
    value, slopes = value_and_gradients(losses.sampled_softmax_loss, [truth, samples], **options)
    assert value.tolist() == [math.inf, 0]
    assert slopes[0].tolist() == [-1, 0]
    assert slopes[1].tolist() == [[1, 0], [0, 0]]


def test_a_true_item_at_infinity_is_certain_and_one_at_minus_infinity_is_ruled_out():
    truth, samples = torch.tensor([math.inf, -math.inf]), torch.ones(2, 3)
    value, slopes = value_and_gradients(losses.sampled_softmax_loss, [truth, samples], reduction="none")
    assert value.tolist() == [0, math.inf]
    assert not any(slope.any() for slope in slopes)


def test_a_list_spread_over_all_a_float_can_hold_costs_what_it_costs_in_float64():
    scores, grades = torch.tensor([[-3e38, 3e38, 1e38], [3e38, -3e38, -1e38]]), torch.tensor([[0.0, 1.0, 2.0]] * 2)
    ours = value_and_gradients(losses.listwise_softmax_loss, [scores], [grades / 2], reduction="none")
    exact = value_and_gradients(
        losses.listwise_softmax_loss, [scores.double()], [grades.double() / 2], reduction="none"
    )
    assert exact[0].max() > torch.finfo(torch.float32).max > exact[0].min()
    torch.testing.assert_close((ours[0], *ours[1]), (exact[0].float(), exact[1][0].float()), rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("amount", [3e38, 1e-30, 1e-38])
def test_amounts_count_by_their_ratios_up_to_the_largest_float(amount):
    scores = torch.tensor([[0.0, 1.0, 2.0], [0.5, 0.3, 0.1]])
    amounts = amount * torch.tensor([[1.0, 1.0, 1.0], [0.25, 0.5, 0.0]])
    ours = value_and_gradients(losses.listwise_softmax_loss, [scores], [amounts], softmax_target=False)
    same = value_and_gradients(losses.listwise_softmax_loss, [scores], [amounts / amount], softmax_target=False)
    torch.testing.assert_close(ours, same, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_lowest_score_of_all_is_an_item_and_not_padding(dtype):
    lowest = torch.full((1, 3), torch.finfo(dtype).min, dtype=dtype)
    for relevance in (lowest, torch.zeros_like(lowest)):
        value, (slopes,) = value_and_gradients(
            losses.listwise_softmax_loss, [lowest], [relevance], mask=torch.tensor([[True, True, False]])
        )
        assert value.item() == pytest.approx(math.log(2))
        assert slopes.abs().max() < 1e-6


# The NumPy twin


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("case", CASES)
def test_the_numpy_twin_has_the_same_value_and_its_hand_derived_gradient_is_autograds(case, seed):
    inputs, constants = random_arguments(case, seed)
    value, gradients = value_and_gradients(function_of(case), inputs, constants, **CASES[case], reduction="none")
    arrays = [x.numpy() for x in (*inputs, *constants)]
    options = {k: v.numpy() if isinstance(v, torch.Tensor) else v for k, v in CASES[case].items()}
    twin_gradients = twin_of(case, "_grad")(*arrays, **options)
    twin_gradients = twin_gradients if isinstance(twin_gradients, tuple) else (twin_gradients,)
    np.testing.assert_allclose(twin_of(case)(*arrays, **options), value, rtol=1e-12, atol=1e-14)
    for ours, theirs in zip(twin_gradients, gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


def test_the_numpy_twin_neither_overflows_nor_warns_nor_counts_a_list_without_items():
    assert reference.bpr_loss([1e30], [-1e30]) == 0 == reference.bpr_loss_grad([1e30], [-1e30])[0]
    assert reference.sampled_softmax_loss([-1e30], [[1e30]]) == 2e30
    scores, relevance = [[1e30, 0.0], [1.0, 2.0], [1.0, 2.0]], [[0.0, 1.0], [0.0, 0.0], [1.0, 2.0]]
    mask = np.array([[True, True], [True, True], [False, False]])
    options = {"mask": mask, "softmax_target": False}
    np.testing.assert_array_equal(reference.listwise_softmax_loss(scores, relevance, **options), [1e30, 0, 0])
    np.testing.assert_array_equal(
        reference.listwise_softmax_loss_grad(scores, relevance, **options), [[1, -1], [0, 0], [0, 0]]
    )
    assert reference.listwise_softmax_loss(scores, relevance, mask=mask)[2] == 0
    assert not reference.listwise_softmax_loss_grad(scores, relevance, mask=mask)[2].any()


# What theory says


@pytest.mark.parametrize("case", CASES)
def test_gradient_is_the_derivative_of_the_value_and_can_be_derived_again(case):
    inputs, constants = random_arguments(case)
    inputs = [x.requires_grad_() for x in inputs]

    def loss(*inputs):
        return function_of(case)(*inputs, *constants, **CASES[case])

    assert gradcheck(loss, inputs)
    assert gradgradcheck(loss, inputs)


def test_the_gradient_of_a_list_with_ties_or_one_leader_is_the_derivative_too():
    scores = torch.tensor([[1.0, 1.0, 1.0], [30.0, 0.0, 0.0], [2.0, 2.0, -5.0]], dtype=torch.float64)
    grades = torch.zeros_like(scores)
    assert gradcheck(lambda s: losses.listwise_softmax_loss(s, grades), scores.requires_grad_())
    assert gradgradcheck(lambda s: losses.listwise_softmax_loss(s, grades), scores)


@given(shift=st.floats(-50, 50), seed=st.integers(0, 2**31))
@settings(deadline=None)
def test_only_differences_of_scores_matter(shift, seed):
    for case, options in CASES.items():
        inputs, constants = random_arguments(case, seed)
        shifted = function_of(case)(*(x + shift for x in inputs), *constants, **options)
        torch.testing.assert_close(shifted, function_of(case)(*inputs, *constants, **options))


@given(factor=st.floats(0.01, 100), seed=st.integers(0, 2**31))
@settings(deadline=None)
def test_only_differences_of_grades_and_ratios_of_amounts_matter(factor, seed):
    (scores,), (relevance,) = random_arguments("listwise_softmax_loss", seed)
    for softmax_target, same in [(True, relevance + factor), (False, relevance * factor)]:
        ours = losses.listwise_softmax_loss(scores, same, softmax_target=softmax_target)
        torch.testing.assert_close(ours, losses.listwise_softmax_loss(scores, relevance, softmax_target=softmax_target))


@given(order=st.permutations(range(4)), rows=st.permutations(range(7)), seed=st.integers(0, 2**31))
@settings(deadline=None)
def test_the_order_in_which_items_and_rows_are_given_changes_nothing(order, rows, seed):
    for case, options in CASES.items():
        inputs, constants = random_arguments(case, seed)
        loss = function_of(case)(*inputs, *constants, **options, reduction="none")

        def shuffled(x):
            if x.dim() == 2:
                return x[rows][:, order]
            return x[order] if len(x) == 4 else x[rows]

        mixed = {k: shuffled(v) if isinstance(v, torch.Tensor) else v for k, v in options.items()}
        ours = function_of(case)(*map(shuffled, (*inputs, *constants)), **mixed, reduction="none")
        expected = loss[rows][:, order] if loss.dim() == 2 else loss[rows]
        torch.testing.assert_close(ours, expected)


def test_bpr_is_the_log_loss_of_the_order_and_half_of_it_is_lost_by_a_tie():
    (chosen, other), _ = random_arguments("bpr_loss")
    expected = F.binary_cross_entropy_with_logits(chosen - other, torch.ones(7, dtype=torch.float64))
    torch.testing.assert_close(losses.bpr_loss(chosen, other), expected)
    assert losses.bpr_loss(chosen, chosen).item() == pytest.approx(math.log(2))


def test_bpr_of_several_others_compares_the_chosen_one_with_each():
    (chosen, others), _ = random_arguments("bpr_loss, several")
    each = torch.stack([losses.bpr_loss(chosen, others[:, k], reduction="none") for k in range(4)], 1)
    torch.testing.assert_close(losses.bpr_loss(chosen, others, reduction="none"), each)
    torch.testing.assert_close(losses.bpr_loss(chosen, others), each.mean())


def test_sampled_softmax_against_one_sample_is_bpr():
    (chosen, other), _ = random_arguments("bpr_loss")
    ours = value_and_gradients(losses.sampled_softmax_loss, [chosen, other[:, None]], reduction="none")
    expected = value_and_gradients(losses.bpr_loss, [chosen, other], reduction="none")
    torch.testing.assert_close(ours[0], expected[0])
    torch.testing.assert_close(ours[1], (expected[1][0], expected[1][1][:, None]))


@given(seed=st.integers(0, 2**31))
@settings(deadline=None)
def test_with_every_other_class_sampled_and_no_correction_it_is_cross_entropy(seed):
    logits = 5 * torch.randn(6, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    target = torch.randint(0, 5, (6,), generator=torch.Generator().manual_seed(seed))
    own = F.one_hot(target, 5).bool()

    def all_classes(logits, reduction="mean"):
        truth = logits[own]
        return losses.sampled_softmax_loss(truth, logits, accidental_hits=own, reduction=reduction)

    for reduction in ("none", "mean", "sum"):
        expected = value_and_gradients(F.cross_entropy, [logits], [target], reduction=reduction)
        torch.testing.assert_close(value_and_gradients(all_classes, [logits], reduction=reduction), expected)
    others = logits[~own].reshape(6, 4)
    torch.testing.assert_close(losses.sampled_softmax_loss(logits[own], others), F.cross_entropy(logits, target))


def expectation_over_samples(logits, sampler, size, corrected=True):
    """Return the expected partition sum, and the expected loss, over all samples of the classes but the last."""
    partition = loss = 0.0
    for drawn in itertools.product(range(len(sampler)), repeat=size):
        drawn = torch.tensor(drawn)
        chance = sampler[drawn].prod()
        log_q = (size * sampler[drawn]).log() if corrected else torch.zeros(size, dtype=logits.dtype)
        value = losses.sampled_softmax_loss(logits[-1:], logits[drawn][None], target_log_q=log_q)
        partition += chance * (value + logits[-1]).exp()
        loss += chance * value
    return partition, loss


def test_the_expected_partition_sum_over_all_samples_is_the_full_one_with_the_correction_only():
    logits = torch.tensor([0.3, -1.0, 2.0, 0.7], dtype=torch.float64)
    sampler = torch.tensor([0.1, 0.6, 0.3], dtype=torch.float64)
    full = logits.exp().sum()
    for size in (1, 2, 4):
        torch.testing.assert_close(expectation_over_samples(logits, sampler, size)[0], full)
        assert abs(expectation_over_samples(logits, sampler, size, corrected=False)[0] - full) > 0.1


def test_the_expected_loss_is_too_small_and_grows_to_cross_entropy_with_the_sample():
    logits = torch.tensor([0.3, -1.0, 2.0, 0.7], dtype=torch.float64)
    sampler = torch.tensor([0.2, 0.4, 0.4], dtype=torch.float64)
    full = F.cross_entropy(logits, torch.tensor(3))
    gaps = [full - expectation_over_samples(logits, sampler, size)[1] for size in (1, 2, 4, 7)]
    assert gaps == sorted(gaps, reverse=True)
    assert 0 < gaps[-1] < 0.25 * gaps[0]


def test_in_batch_negatives_are_corrected_by_frequencies_up_to_a_common_factor():
    generator = torch.Generator().manual_seed(4)
    scores = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    frequency = torch.rand(6, generator=generator, dtype=torch.float64)
    own = torch.eye(6, dtype=torch.bool)
    expected = F.cross_entropy(scores - frequency.log(), torch.arange(6))
    for factor in (1, 6):
        log_q = (factor * frequency).log()
        ours = losses.sampled_softmax_loss(
            scores.diagonal(), scores, input_log_q=log_q, target_log_q=log_q, accidental_hits=own
        )
        torch.testing.assert_close(ours, expected)


def test_a_correction_for_all_rows_is_that_of_each_row():
    (truth, samples), _ = random_arguments("sampled_softmax_loss")
    log_q = torch.linspace(-1, 2, 4, dtype=torch.float64)
    shared = losses.sampled_softmax_loss(truth, samples, target_log_q=log_q)
    assert losses.sampled_softmax_loss(truth, samples, target_log_q=log_q.expand(7, 4)) == shared
    torch.testing.assert_close(losses.sampled_softmax_loss(truth, samples - log_q), shared)


def test_accidental_hits_cost_what_the_row_without_them_costs_whatever_their_scores_are():
    (truth, samples), _ = random_arguments("sampled_softmax_loss")
    for score in (0.0, math.nan, math.inf):
        value, (slope, slopes) = value_and_gradients(
            losses.sampled_softmax_loss,
            [truth, samples.masked_fill(HITS, score)],
            accidental_hits=HITS,
            reduction="none",
        )
        for i in range(7):
            kept = ~HITS[i]
            expected = value_and_gradients(losses.sampled_softmax_loss, [truth[i : i + 1], samples[i : i + 1, kept]])
            ours = value[i], (slope[i : i + 1], slopes[i : i + 1, kept])
            torch.testing.assert_close(ours, expected)
        assert not slopes[HITS].any()


def test_a_row_of_accidental_hits_only_costs_nothing():
    hits = torch.ones(1, 3, dtype=torch.bool)
    value, slopes = value_and_gradients(
        losses.sampled_softmax_loss, [torch.ones(1), torch.full((1, 3), 5.0)], accidental_hits=hits
    )
    assert value == 0 == slopes[0]
    assert not slopes[1].any()


@pytest.mark.parametrize("name", ["bpr_loss", "sampled_softmax_loss"])
def test_a_ruled_out_rival_is_none_and_a_ruled_out_truth_costs_infinity_without_nan(name):
    shape = (1,) if name == "bpr_loss" else (1, 1)
    value, slopes = value_and_gradients(function_of(name), [torch.zeros(1), torch.full(shape, -math.inf)])
    assert value == 0 == slopes[0] == slopes[1]
    value, slopes = value_and_gradients(function_of(name), [torch.tensor([-math.inf]), torch.zeros(shape)])
    assert value == math.inf
    assert not torch.cat([s.flatten() for s in slopes]).isnan().any()


# Lists


def test_listwise_is_cross_entropy_between_two_softmaxes():
    (scores,), (grades,) = random_arguments("listwise_softmax_loss")
    expected = value_and_gradients(F.cross_entropy, [scores], [grades.softmax(1)])
    torch.testing.assert_close(value_and_gradients(losses.listwise_softmax_loss, [scores], [grades]), expected)
    shares = grades / grades.sum(1, keepdim=True)
    expected = value_and_gradients(F.cross_entropy, [scores], [shares])
    ours = value_and_gradients(losses.listwise_softmax_loss, [scores], [grades], softmax_target=False)
    torch.testing.assert_close(ours, expected)


def test_one_relevant_item_without_softmax_is_cross_entropy_of_its_place():
    (scores,), _ = random_arguments("listwise_softmax_loss")
    place = torch.tensor([0, 3, 1, 1, 2, 0, 3])
    clicks = F.one_hot(place, 4) * torch.tensor([[5]])  # integers
    ours = losses.listwise_softmax_loss(scores, clicks, softmax_target=False)
    torch.testing.assert_close(ours, F.cross_entropy(scores, place))


@given(seed=st.integers(0, 2**31))
@settings(deadline=None)
def test_the_least_loss_is_the_entropy_of_the_relevance_at_scores_equal_to_the_grades(seed):
    (scores,), (grades,) = random_arguments("listwise_softmax_loss", seed)
    least, (slope,) = value_and_gradients(losses.listwise_softmax_loss, [grades + 3], [grades], reduction="none")
    torch.testing.assert_close(least, -(grades.softmax(1) * grades.log_softmax(1)).sum(1))
    torch.testing.assert_close(slope, torch.zeros_like(slope))
    assert (losses.listwise_softmax_loss(scores, grades, reduction="none") >= least - 1e-12).all()


@pytest.mark.parametrize("softmax_target", [True, False], ids=["grades", "shares"])
@pytest.mark.parametrize("filler", [0.0, 1e30, -1e30, math.nan, math.inf, -math.inf])
def test_padding_costs_nothing_and_gets_no_gradient_whatever_it_holds(filler, softmax_target):
    (scores,), (relevance,) = random_arguments("listwise_softmax_loss")
    options = {"mask": ~HITS, "softmax_target": softmax_target, "reduction": "none"}
    padded = [scores.masked_fill(HITS, filler)], [relevance.masked_fill(HITS, filler)]
    value, (slopes,) = value_and_gradients(losses.listwise_softmax_loss, *padded, **options)
    for i in range(7):
        kept = ~HITS[i]
        alone = [scores[i : i + 1, kept]], [relevance[i : i + 1, kept]]
        expected = value_and_gradients(losses.listwise_softmax_loss, *alone, softmax_target=softmax_target)
        torch.testing.assert_close((value[i], (slopes[i : i + 1, kept],)), expected)
    assert not slopes[HITS].any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("softmax_target", [True, False], ids=["grades", "shares"])
def test_lists_that_do_not_count_equal_removed_lists(softmax_target, dtype):
    (scores,), (relevance,) = random_arguments("listwise_softmax_loss")
    scores, relevance = scores.to(dtype), relevance.to(dtype)
    if softmax_target:
        mask = torch.ones(7, 4, dtype=torch.bool)
        mask[2:4] = False
        scores[2], relevance[3] = math.nan, math.nan
    else:
        mask = None
        relevance[2:4] = 0.0
    kept = [0, 1, 4, 5, 6]
    options = {"mask": mask, "softmax_target": softmax_target}
    for reduction in ("mean", "sum"):
        value, (slopes,) = value_and_gradients(
            losses.listwise_softmax_loss, [scores], [relevance], **options, reduction=reduction
        )
        expected = value_and_gradients(
            losses.listwise_softmax_loss,
            [scores[kept]],
            [relevance[kept]],
            softmax_target=softmax_target,
            reduction=reduction,
        )
        torch.testing.assert_close((value, (slopes[kept],)), expected)
        assert slopes[2:4].eq(0).all()
    assert losses.listwise_softmax_loss(scores, relevance, **options, reduction="none")[2:4].tolist() == [0, 0]


def test_of_no_list_that_counts_the_mean_is_nan_without_gradient():
    scores, nobody = torch.ones(2, 3), torch.zeros(2, 3, dtype=torch.bool)
    value, (slopes,) = value_and_gradients(losses.listwise_softmax_loss, [scores], [scores], mask=nobody)
    assert value.isnan()
    assert slopes.eq(0).all()


def test_nan_relevance_of_an_item_is_not_passed_over():
    assert losses.listwise_softmax_loss(torch.zeros(1, 2), torch.tensor([[math.nan, 1.0]])).isnan()


def test_an_item_ruled_out_costs_nothing_where_it_has_no_chance_and_infinity_where_it_has():
    scores, clicks = torch.tensor([[-math.inf, 1.0, 0.5]]), torch.tensor([[0.0, 3.0, 1.0]])
    value, (slopes,) = value_and_gradients(losses.listwise_softmax_loss, [scores], [clicks], softmax_target=False)
    two = value_and_gradients(losses.listwise_softmax_loss, [scores[:, 1:]], [clicks[:, 1:]], softmax_target=False)
    torch.testing.assert_close((value, (slopes[:, 1:],)), two)
    assert slopes[0, 0] == 0
    value, (slopes,) = value_and_gradients(losses.listwise_softmax_loss, [scores], [clicks])
    assert value == math.inf
    assert not slopes.isnan().any()


def test_relevances_get_no_gradient():
    scores, relevance = torch.randn(2, 3, requires_grad=True), torch.rand(2, 3, requires_grad=True)
    losses.listwise_softmax_loss(scores, relevance).backward()
    assert scores.grad is not None
    assert relevance.grad is None


@pytest.mark.parametrize("softmax_target", [True, False], ids=["grades", "shares"])
def test_lists_may_stand_in_any_number_of_dimensions(softmax_target):
    (scores,), (relevance,) = random_arguments("listwise_softmax_loss")
    scores = 30 * scores  # one item leads by far
    options = {"softmax_target": softmax_target, "reduction": "none"}
    loss = losses.listwise_softmax_loss(scores, relevance, mask=~HITS, **options)
    assert losses.listwise_softmax_loss(scores[1], relevance[1], mask=~HITS[1], **options) == loss[1]
    deep = [x[:6].reshape(2, 3, 4) for x in (scores, relevance, ~HITS)]
    ours = losses.listwise_softmax_loss(*deep[:2], mask=deep[2], **options)
    torch.testing.assert_close(ours, loss[:6].reshape(2, 3))
    arrays = [x.numpy() for x in deep]
    twin = reference.listwise_softmax_loss(*arrays[:2], mask=arrays[2], softmax_target=softmax_target)
    np.testing.assert_allclose(twin, ours, rtol=1e-12)


def test_a_list_whose_items_are_all_irrelevant_does_not_count_even_if_its_padding_holds_some():
    scores, amounts = torch.tensor([[1.0, 2.0, 3.0], [1.0, 0.0, 2.0]]), torch.tensor([[0.0, 0.0, 5.0], [1.0, 2.0, 0.0]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    ours = losses.listwise_softmax_loss(scores, amounts, mask=mask, softmax_target=False)
    torch.testing.assert_close(ours, losses.listwise_softmax_loss(scores[1:], amounts[1:], softmax_target=False))


# Shapes, dtypes and transformations


@pytest.mark.parametrize("case", CASES)
def test_a_batch_of_one_costs_what_its_row_costs_and_an_empty_batch_nan_or_zero(case):
    inputs, constants = random_arguments(case)
    loss, arguments = function_of(case), [*inputs, *constants]
    alone = [loss(*(x[i : i + 1] for x in arguments), **rows_of(CASES[case], slice(i, i + 1))) for i in range(7)]
    rows = loss(*arguments, **CASES[case], reduction="none")
    torch.testing.assert_close(torch.stack(alone), rows.mean(1) if rows.dim() == 2 else rows)
    torch.testing.assert_close(loss(*arguments, **CASES[case]), rows.mean())
    torch.testing.assert_close(loss(*arguments, **CASES[case], reduction="sum"), rows.sum())
    for dtype in DTYPES:
        empty, options = [x[:0].to(dtype) for x in arguments], rows_of(CASES[case], slice(0))
        assert loss(*empty, **options).isnan()
        assert loss(*empty, **options, reduction="sum") == 0
        assert loss(*empty, **options, reduction="none").shape == rows[:0].shape
        split = empty[: len(inputs)], empty[len(inputs) :]
        assert value_and_gradients(loss, *split, **options)[1][0].shape == empty[0].shape


@pytest.mark.parametrize("case", CASES)
def test_strided_input_costs_what_its_contiguous_copy_costs(case):
    inputs, constants = random_arguments(case)
    strided = [x.repeat_interleave(2, -1)[..., ::2] for x in inputs]
    assert not strided[0].is_contiguous()
    ours = value_and_gradients(function_of(case), strided, constants, **CASES[case])
    torch.testing.assert_close(ours, value_and_gradients(function_of(case), inputs, constants, **CASES[case]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("case", CASES)
def test_half_precision_is_computed_in_float32_and_rounded_once(case, dtype):
    inputs, constants = random_arguments(case)
    inputs = [(3 * x).to(dtype) for x in inputs]
    for reduction in ("none", "mean", "sum"):
        options = CASES[case] | {"reduction": reduction}
        ours = function_of(case)(*inputs, *constants, **options)
        exact = function_of(case)(*(x.float() for x in inputs), *constants, **options)
        assert ours.dtype == dtype
        torch.testing.assert_close(ours, exact.to(dtype), rtol=0, atol=0)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            autocast = function_of(case)(*inputs, *constants, **options)
        torch.testing.assert_close(autocast, exact, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["bpr_loss", "sampled_softmax_loss"])
def test_scores_of_two_dtypes_are_compared_in_the_one_they_promote_to(name):
    chosen, others = torch.tensor([1.5]).half(), torch.tensor([[1.3, 0.1]])
    assert function_of(name)(chosen, others).dtype == torch.float32
    assert function_of(name)(chosen, others) == function_of(name)(chosen.float(), others)
    assert function_of(name)(chosen.float(), others.half()).dtype == torch.float32


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["bpr_loss", "sampled_softmax_loss", "listwise_softmax_loss"])
def test_the_loss_can_be_mapped_over_batches(name, dtype):
    inputs, constants = random_arguments(name)
    batches = [torch.stack([factor * x.to(dtype) for factor in (1, 30)]) for x in (*inputs, *constants)]
    which = tuple(range(len(inputs)))
    mapped = torch.func.vmap(torch.func.grad(function_of(name), argnums=which))(*batches)
    for i in range(2):
        args = [b[i] for b in batches]
        expected = value_and_gradients(function_of(name), args[: len(inputs)], args[len(inputs) :])[1]
        torch.testing.assert_close(tuple(m[i] for m in mapped), expected)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own, while tracing
@pytest.mark.parametrize("case", CASES)
def test_the_loss_compiles_to_one_graph(case):
    inputs, constants = random_arguments(case)
    inputs, constants = [20 * x.float() for x in inputs], [x.float() for x in constants]
    compiled = torch.compile(function_of(case), backend="aot_eager", fullgraph=True)
    ours = value_and_gradients(compiled, inputs, constants, **CASES[case])
    torch.testing.assert_close(ours, value_and_gradients(function_of(case), inputs, constants, **CASES[case]))


# Refusals

X, ROWS, MASK = torch.zeros(2), torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool)
REFUSALS = [
    *(
        (name, *refusal)
        for name in ("bpr_loss", "sampled_softmax_loss")
        for refusal in [
            (([0.0], ROWS), {}, TypeError, "input must be a torch.Tensor, got list"),
            ((X.long(), ROWS), {}, TypeError, "input must be a floating-point tensor, got torch.int64"),
            ((X, [0.0]), {}, TypeError, "target must be a torch.Tensor, got list"),
            ((X, ROWS.long()), {}, TypeError, "target must be a floating-point tensor, got torch.int64"),
            ((X[:, None], ROWS), {}, ValueError, r"\(N,\) and .*, got \(2, 1\) and \(2, 3\)"),
            ((X[:1], ROWS), {}, ValueError, r"\(N, K\).*, got \(1,\) and \(2, 3\)"),
            ((X, ROWS[None]), {}, ValueError, r"got \(2,\) and \(1, 2, 3\)"),
            ((X, ROWS[..., None]), {}, ValueError, r"got \(2,\) and \(2, 3, 1\)"),
            ((X, ROWS[0, 0]), {}, ValueError, r"got \(2,\) and \(\)"),
            ((X, ROWS), {"reduction": "average"}, ValueError, "'sum', got 'average'"),
        ]
    ),
    *(
        ("sampled_softmax_loss", *refusal)
        for refusal in [
            ((X, X), {}, ValueError, r"\(N, K\) .*, got \(2,\) and \(2,\)"),
            ((X, ROWS[:, :0]), {}, ValueError, r"at least one sample, got \(2,\) and \(2, 0\)"),
            ((X, ROWS), {"input_log_q": 0.5}, TypeError, "input_log_q must be a torch.Tensor, got float"),
            ((X, ROWS), {"input_log_q": ROWS[0]}, ValueError, r"input_log_q must have shape \(2,\), got \(3,\)"),
            ((X, ROWS), {"target_log_q": X.long()}, TypeError, "target_log_q must be a floating-point tensor"),
            ((X, ROWS), {"target_log_q": X}, ValueError, r"must have shape \(3,\) or \(2, 3\), got \(2,\)"),
            ((X, ROWS), {"input_log_q": X.log()}, ValueError, "input_log_q must be finite, got -inf"),
            ((X, ROWS), {"target_log_q": ROWS / 0}, ValueError, "target_log_q must be finite, got nan"),
            ((X, ROWS), {"accidental_hits": ROWS}, TypeError, "accidental_hits must hold booleans, got torch.float32"),
            ((X, ROWS), {"accidental_hits": [True]}, TypeError, "accidental_hits must be a torch.Tensor, got list"),
            ((X, ROWS), {"accidental_hits": MASK[0]}, ValueError, r"must have shape \(2, 3\), got \(3,\)"),
        ]
    ),
    *(
        ("listwise_softmax_loss", *refusal)
        for refusal in [
            (([0.0], ROWS), {}, TypeError, "input must be a torch.Tensor, got list"),
            ((ROWS.long(), ROWS), {}, TypeError, "input must be a floating-point tensor, got torch.int64"),
            ((ROWS, [0.0]), {}, TypeError, "target must be a torch.Tensor, got list"),
            ((ROWS, MASK), {}, TypeError, "target must hold real numbers, got torch.bool"),
            ((ROWS, ROWS[:, :1]), {}, ValueError, r"same shape, got .*\(2, 3\) and .*\(2, 1\)"),
            ((ROWS[:, :0], ROWS[:, :0]), {}, ValueError, r"at least one place, got \(2, 0\)"),
            ((ROWS[0, 0], ROWS[0, 0]), {}, ValueError, r"\(..., L\) .*, got \(\)"),
            ((ROWS, ROWS), {"mask": ROWS}, TypeError, "mask must hold booleans, got torch.float32"),
            ((ROWS, ROWS), {"mask": MASK[:, :1]}, ValueError, r"mask must have shape \(2, 3\), got \(2, 1\)"),
            ((ROWS, ROWS), {"softmax_target": 1}, TypeError, "softmax_target must be True or False, got 1"),
            ((ROWS, ROWS - 1), {"softmax_target": False}, ValueError, "relevances must be at least 0, got -1.0"),
            ((ROWS, ROWS / 0), {"softmax_target": False}, ValueError, "relevances must be at least 0, got nan"),
            (
                (ROWS, ROWS - 1),
                {"softmax_target": False, "mask": MASK},
                ValueError,
                "relevances must be at least 0, got -1.0",
            ),
            ((ROWS, ROWS), {"reduction": "average"}, ValueError, "'sum', got 'average'"),
        ]
    ),
]


@pytest.mark.parametrize(("name", "arguments", "options", "error", "message"), REFUSALS)
def test_bad_input_is_refused_with_what_was_given_and_what_is_wanted(name, arguments, options, error, message):
    with pytest.raises(error, match=message):
        function_of(name)(*arguments, **options)
