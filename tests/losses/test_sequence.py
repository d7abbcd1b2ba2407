"""The sequence losses against torch, against every alignment enumerated in mpmath, and under padding of any kind."""

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

from lib.losses import sequence as losses
from lib.reference import sequence as reference

TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-12}
DTYPES = list(TOLERANCE)


def value_and_gradient(loss, input, *arguments, **options):
    input = input.clone().requires_grad_()
    value = loss(input, *arguments, **options)
    return value.detach(), grad(value.sum(), input)[0]


def relative_error(ours, truth, dtype):
    """Return how far off a result is, 0 where it is too small for the dtype."""
    if math.isinf(truth):
        return 0.0 if ours == truth else math.inf
    error = abs(ours - truth)
    if not error <= torch.finfo(dtype).tiny:  # NaN too
        return float(error / abs(truth)) if truth else math.inf
    return 0.0


# Cross-entropy of tokens


def random_tokens(seed=0, samples=4, steps=6, classes=5):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(samples, steps, classes, generator=generator, dtype=torch.float64)
    target = torch.randint(0, classes, (samples, steps), generator=generator)
    return logits, target, torch.tensor([6, 3, 1, 4])[:samples]


def padded_by_index(target, lengths, index=-100):
    return target.masked_fill(torch.arange(target.shape[1]) >= lengths[:, None], index)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_it_is_torchs_cross_entropy_of_the_tokens_that_count(reduction, label_smoothing):
    logits, target, lengths = random_tokens()
    target = padded_by_index(target, lengths)

    def torchs(logits, **options):
        return F.cross_entropy(logits.transpose(1, 2), target, **options)

    options = {"reduction": reduction, "label_smoothing": label_smoothing}
    expected = value_and_gradient(torchs, logits, **options)
    ours = value_and_gradient(losses.sequence_cross_entropy, logits, target, **options)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("average", ["token", "sequence"])
def test_lengths_and_the_padding_index_say_the_same_and_so_do_both_together(average, reduction):
    logits, target, lengths = random_tokens()
    options = {"average": average, "reduction": reduction}
    expected = value_and_gradient(losses.sequence_cross_entropy, logits, target, lengths=lengths, **options)
    by_index = padded_by_index(target, lengths, -7)
    for arguments in [{"lengths": [6, 3, 1, 4]}, {"lengths": (6, 3, 1, 4)}, {"lengths": lengths.to(torch.uint8)}]:
        ours = value_and_gradient(losses.sequence_cross_entropy, logits, target, **arguments, **options)
        torch.testing.assert_close(ours, expected, rtol=0, atol=0)
    for chosen in (None, lengths):
        ours = value_and_gradient(
            losses.sequence_cross_entropy, logits, by_index, padding_index=-7, lengths=chosen, **options
        )
        torch.testing.assert_close(ours, expected, rtol=0, atol=0)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("average", ["token", "sequence"])
@pytest.mark.parametrize("filler", [0.0, math.nan, math.inf, -1e30])
def test_padding_never_changes_the_loss_nor_the_gradient(filler, average, reduction):
    logits, target, lengths = random_tokens()
    options = {"average": average, "reduction": reduction, "label_smoothing": 0.1, "lengths": lengths}
    value, slope = value_and_gradient(losses.sequence_cross_entropy, logits, target, **options)
    longer = torch.full((4, 9, 5), filler, dtype=torch.float64)
    longer[:, :6] = logits.masked_fill(torch.arange(6)[:, None] >= lengths[:, None, None], filler)
    garbage = torch.full((4, 9), 99)
    garbage[:, :6] = padded_by_index(target, lengths, 99)
    padded, padded_slope = value_and_gradient(losses.sequence_cross_entropy, longer, garbage, **options)
    torch.testing.assert_close((padded, padded_slope[:, :6]), (value, slope))
    assert padded_slope[:, 6:].eq(0).all()
    assert slope[1, 3:].eq(0).all()


@given(seed=st.integers(0, 2**31))
@settings(deadline=None)
def test_a_batch_equals_its_sequences_alone_weighted_by_their_lengths_or_evenly(seed):
    logits, target, lengths = random_tokens(seed)
    alone = torch.stack(
        [losses.sequence_cross_entropy(logits[i : i + 1, :n], target[i : i + 1, :n]) for i, n in enumerate(lengths)]
    )
    by_token = losses.sequence_cross_entropy(logits, target, lengths=lengths)
    torch.testing.assert_close(by_token, (alone * lengths).sum() / lengths.sum())
    by_sequence = losses.sequence_cross_entropy(logits, target, lengths=lengths, average="sequence")
    torch.testing.assert_close(by_sequence, alone.mean())


@pytest.mark.parametrize("average", ["token", "sequence"])
def test_a_sequence_without_tokens_does_not_count_and_of_none_the_mean_is_nan_without_gradient(average):
    logits, target, lengths = random_tokens()
    lengths = torch.tensor([6, 0, 1, 0])
    options = {"average": average}
    ours = losses.sequence_cross_entropy(logits, target, lengths=lengths, **options)
    kept = losses.sequence_cross_entropy(logits[::2], target[::2], lengths=lengths[::2], **options)
    torch.testing.assert_close(ours, kept)
    value, slope = value_and_gradient(losses.sequence_cross_entropy, logits, target, lengths=[0] * 4, **options)
    assert value.isnan()
    assert slope.eq(0).all()


@pytest.mark.parametrize("lengths", [None, [1], [2]])
def test_in_a_narrow_dtype_the_padding_index_is_no_class_and_no_class_is_the_padding_index(lengths):
    logits, target = torch.randn(1, 2, 200, generator=torch.Generator().manual_seed(0)), torch.tensor([[156, 3]])
    ours = losses.sequence_cross_entropy(logits, target.to(torch.uint8), lengths=lengths)  # -100 is 156 there
    assert ours == losses.sequence_cross_entropy(logits, target, lengths=lengths)
    with pytest.raises(ValueError, match="got -1"):  # and 255 is -1 in int8
        losses.sequence_cross_entropy(logits, -torch.ones(1, 2, dtype=torch.int8), lengths=lengths, padding_index=255)


def test_by_default_the_mean_is_over_tokens_nothing_is_smoothed_and_minus_100_is_padding():
    logits, target, lengths = random_tokens()
    by_index = padded_by_index(target, lengths)
    defaults = {"lengths": None, "padding_index": -100, "label_smoothing": 0.0, "average": "token", "reduction": "mean"}
    default = losses.sequence_cross_entropy(logits, by_index)
    assert losses.sequence_cross_entropy(logits, by_index, **defaults) == default
    assert losses.sequence_cross_entropy(logits, by_index, average="sequence") != default


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_token_is_right_against_mpmath_from_a_sure_hit_to_a_sure_miss(dtype):
    logits = torch.tensor(
        [[[0.0, s, -s / 3] for s in (0, 1e-3, 1, 9.7, -9.7, -14.3, 30.7, 100, -1e4, 1e30)]], dtype=dtype
    )
    target = torch.zeros(1, 10, dtype=torch.long)
    value, slope = value_and_gradient(losses.sequence_cross_entropy, logits, target, reduction="none")
    errors = []
    with mpmath.workdps(50):
        for row, ours, our_slope in zip(logits[0].tolist(), value[0].tolist(), slope[0].tolist(), strict=True):
            odds = [mpmath.exp(mpmath.mpf(z) - row[0]) for z in row]
            rivals = odds[1] + odds[2]
            errors.append(relative_error(ours, mpmath.log1p(rivals), dtype))
            truths = [-rivals / (1 + rivals), odds[1] / (1 + rivals), odds[2] / (1 + rivals)]
            errors += [relative_error(our, truth, dtype) for our, truth in zip(our_slope, truths, strict=True)]
    assert max(errors) <= TOLERANCE[dtype]


def test_tokens_have_a_derivative_and_a_second_one_and_a_numpy_twin():
    logits, target, lengths = random_tokens()
    options = {"lengths": lengths, "label_smoothing": 0.3}
    for average in ("token", "sequence"):
        loss = lambda z: losses.sequence_cross_entropy(z, target, average=average, **options)  # noqa: B023, E731
        assert gradcheck(loss, logits.requires_grad_())
        assert gradgradcheck(loss, logits)
    options["lengths"] = lengths.tolist()
    for twin_options in [options, {}, {"padding_index": 2}, {"lengths": [6, 3, 1, 4], "padding_index": 2}]:
        ours = value_and_gradient(
            losses.sequence_cross_entropy, logits.detach(), target, reduction="none", **twin_options
        )
        arrays = logits.detach().numpy(), target.numpy()
        np.testing.assert_allclose(reference.sequence_cross_entropy(*arrays, **twin_options), ours[0], rtol=1e-12)
        twin_slope = reference.sequence_cross_entropy_grad(*arrays, **twin_options)
        np.testing.assert_allclose(twin_slope, ours[1], rtol=1e-12, atol=1e-14)
    padded = padded_by_index(target, lengths)
    np.testing.assert_array_equal(
        reference.sequence_cross_entropy(arrays[0], padded),
        reference.sequence_cross_entropy(*arrays, lengths=[6, 3, 1, 4]),
    )


@pytest.mark.parametrize("average", ["token", "sequence"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_tokens_are_computed_in_float32_and_rounded_once(dtype, average):
    logits, target, lengths = random_tokens()
    logits = (3 * logits).to(dtype)
    for reduction in ("none", "mean", "sum"):
        options = {"lengths": lengths, "average": average, "reduction": reduction}
        ours = losses.sequence_cross_entropy(logits, target, **options)
        exact = losses.sequence_cross_entropy(logits.float(), target, **options)
        assert ours.dtype == dtype
        torch.testing.assert_close(ours, exact.to(dtype), rtol=0, atol=0)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            autocast = losses.sequence_cross_entropy(logits, target, **options)
        torch.testing.assert_close(autocast, exact, rtol=0, atol=0)


def test_strided_empty_mapped_and_single_tokens():
    logits, target, _ = random_tokens()
    loss = losses.sequence_cross_entropy
    strided = logits.transpose(0, 2).contiguous().transpose(0, 2)
    assert not strided.is_contiguous()
    torch.testing.assert_close(value_and_gradient(loss, strided, target), value_and_gradient(loss, logits, target))
    assert loss(logits[:0], target[:0]).isnan()
    assert loss(logits[:0], target[:0], average="sequence").isnan()
    assert loss(logits[:, :0], target[:, :0], reduction="sum", lengths=[0] * 4) == 0
    assert loss(logits[:0], target[:0], reduction="none").shape == (0, 6)
    torch.testing.assert_close(
        loss(logits[:1, :1], target[:1, :1]), loss(logits, target, reduction="none")[0, 0], rtol=0, atol=0
    )
    mapped = torch.func.vmap(torch.func.grad(loss))(logits.unsqueeze(1), target.unsqueeze(1))
    each = [value_and_gradient(loss, logits[i : i + 1], target[i : i + 1])[1] for i in range(4)]
    torch.testing.assert_close(mapped, torch.stack(each))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own, while tracing
@pytest.mark.parametrize("average", ["token", "sequence"])
def test_the_loss_of_tokens_compiles_to_one_graph(average):
    logits, target, lengths = random_tokens()
    compiled = torch.compile(losses.sequence_cross_entropy, backend="aot_eager", fullgraph=True)
    options = {"lengths": lengths, "average": average}
    expected = value_and_gradient(losses.sequence_cross_entropy, logits, target, **options)
    torch.testing.assert_close(value_and_gradient(compiled, logits, target, **options), expected)


# CTC

FRAMES, CLASSES = 4, 3


def random_frames(seed=0, steps=12, samples=4, classes=5, blank=0):
    """Return log-probabilities, targets with a repeated label and an empty one, and lengths, all of them different."""
    generator = torch.Generator().manual_seed(seed)
    log_probs = torch.randn(steps, samples, classes, generator=generator, dtype=torch.float64).log_softmax(2)
    targets = torch.randint(1, classes, (samples, 4), generator=generator)
    targets[0, 1] = targets[0, 0]
    targets = torch.where(targets == blank, 0, targets)
    return log_probs, targets, torch.tensor([12, 9, 5, 10][:samples]), torch.tensor([4, 3, 0, 1][:samples])


def spelled(alignment, blank):
    merged = [label for label, _ in itertools.groupby(alignment)]
    return tuple(label for label in merged if label != blank)


def by_enumeration(log_probs, target, blank):
    """Return the exact loss and gradient of one sequence, from every alignment one by one."""
    steps, classes = log_probs.shape
    through, total = [[mpmath.mpf(0)] * classes for _ in range(steps)], mpmath.mpf(0)
    for alignment in itertools.product(range(classes), repeat=steps):
        if spelled(alignment, blank) == tuple(target):
            chance = mpmath.exp(mpmath.fsum(mpmath.mpf(log_probs[t, k].item()) for t, k in enumerate(alignment)))
            total += chance
            for t, k in enumerate(alignment):
                through[t][k] += chance
    if not total:
        return mpmath.inf, [[0] * classes] * steps
    return -mpmath.log(total), [[-x / total for x in row] for row in through]


TARGETS = [target for size in range(4) for target in itertools.product((0, 1), repeat=size)]


@pytest.mark.parametrize("scale", [0.1, 1, 30, 1000])
@pytest.mark.parametrize("dtype", DTYPES)
def test_ctc_is_the_sum_over_every_alignment_for_every_target(dtype, scale):
    # Scores, no probabilities: the gradient is the derivative of the value for any input. At scale 1000 a loss of
    # thousands is the sum of terms as large: in float64 their rounding stands in the gradient, times their size.
    generator = torch.Generator().manual_seed(int(scale))
    frames = (scale * torch.randn(FRAMES, CLASSES, generator=generator, dtype=torch.float64)).to(dtype)
    batch = frames[:, None].expand(-1, len(TARGETS), -1).contiguous()
    padded = torch.tensor([[*target, *[0] * (3 - len(target))] for target in TARGETS])
    lengths = [len(target) for target in TARGETS]
    for steps in range(FRAMES + 1):
        value, slope = value_and_gradient(
            losses.ctc_loss, batch, padded, [steps] * len(TARGETS), lengths, blank=2, reduction="none"
        )
        assert slope[steps:].eq(0).all()
        errors = []
        with mpmath.workdps(50):
            for n, target in enumerate(TARGETS):
                truth, slopes = by_enumeration(frames[:steps], target, 2)
                largest = max(1, abs(truth)) if mpmath.isfinite(truth) else 1
                errors.append(relative_error(value[n].item(), truth, dtype))
                for t, k in itertools.product(range(steps), range(CLASSES)):
                    error = relative_error(slope[t, n, k].item(), slopes[t][k], dtype)
                    errors.append(error if dtype == torch.float32 else error / largest)
        assert max(errors) <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
def test_ctc_of_many_frames_keeps_its_digits_where_torchs_float32_gradient_loses_them(dtype):
    log_probs, targets, _, target_lengths = random_frames(steps=400)
    lengths = torch.tensor([400, 390, 200, 300])
    log_probs = (3 * log_probs).log_softmax(2).to(dtype)
    exact = value_and_gradient(losses.ctc_loss, log_probs.double(), targets, lengths, target_lengths)
    ours = value_and_gradient(losses.ctc_loss, log_probs, targets, lengths, target_lengths)
    torch.testing.assert_close(ours[0].double(), exact[0], rtol=TOLERANCE[dtype], atol=0)
    torch.testing.assert_close(ours[1].double(), exact[1], rtol=TOLERANCE[dtype], atol=1e-30)


def log_softmax_first(loss):
    return lambda logits, *arguments, **options: loss(logits.log_softmax(-1), *arguments, **options)


@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("kind", ["tensors", "lists", "tuples", "arrays", "one row", "int32", "column"])
def test_ctc_equals_torch_for_every_kind_of_input_and_behind_log_softmax_in_its_gradient(kind, reduction, blank):
    logits, targets, input_lengths, target_lengths = random_frames(seed=3, blank=blank)
    if kind == "one row":
        targets = torch.cat([row[:n] for row, n in zip(targets, target_lengths, strict=True)])
    if kind in ("lists", "tuples"):
        sequence = list if kind == "lists" else tuple
        input_lengths, target_lengths = sequence(input_lengths.tolist()), sequence(target_lengths.tolist())
    if kind == "arrays":
        input_lengths, target_lengths = (x.flip(0).numpy()[::-1] for x in (input_lengths, target_lengths))
    if kind == "int32":
        targets, input_lengths, target_lengths = targets.int(), input_lengths.int(), target_lengths.int()
    if kind == "column":
        input_lengths, target_lengths = input_lengths[:, None], target_lengths[:, None]
    arguments, options = (targets, input_lengths, target_lengths), {"blank": blank, "reduction": reduction}
    ours = value_and_gradient(log_softmax_first(losses.ctc_loss), logits, *arguments, **options)
    if kind == "arrays":
        arguments = targets, input_lengths.tolist(), target_lengths.tolist()
    expected = value_and_gradient(log_softmax_first(F.ctc_loss), logits, *arguments, **options)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize(
    "lengths", [(7, 3), (torch.tensor(7), torch.tensor(3)), (torch.tensor([7]), torch.tensor([3]))]
)
def test_ctc_of_one_sequence_without_a_batch_equals_torch(lengths, reduction):
    log_probs, targets, _, _ = random_frames(steps=7)
    lengths = lengths if isinstance(lengths[0], torch.Tensor) else ([lengths[0]], (lengths[1],))
    tensor_lengths = [torch.as_tensor(x) for x in lengths]
    for target in (targets[0, :3], targets[:1, :3]):
        ours = value_and_gradient(
            log_softmax_first(losses.ctc_loss), log_probs[:, 0], target, *lengths, reduction=reduction
        )
        expected = value_and_gradient(
            log_softmax_first(F.ctc_loss), log_probs[:, 0], target, *tensor_lengths, reduction=reduction
        )
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-14)


def test_torchs_gradient_is_the_derivative_only_behind_log_softmax_and_exceeds_it_by_the_probability():
    log_probs, *arguments = random_frames()
    log_probs, arguments[1] = log_probs[:8], torch.tensor([8, 8, 8, 8])
    _, ours = value_and_gradient(losses.ctc_loss, log_probs, *arguments, reduction="sum")
    _, torchs = value_and_gradient(F.ctc_loss, log_probs, *arguments, reduction="sum")
    torch.testing.assert_close(torchs - log_probs.exp(), ours, rtol=1e-10, atol=1e-12)
    assert gradcheck(lambda x: losses.ctc_loss(x, *arguments), log_probs.requires_grad_())
    assert not gradcheck(lambda x: F.ctc_loss(x, *arguments), log_probs, raise_exception=False)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_ctc_can_be_derived_twice_where_torchs_cannot(reduction):
    log_probs, *arguments = random_frames(steps=5)
    arguments[1] = torch.tensor([5, 4, 3, 0])
    arguments[2] = torch.tensor([2, 3, 0, 1])  # the last has no alignment

    def loss(x):
        return losses.ctc_loss(x, *arguments, reduction=reduction, zero_infinity=True)

    assert gradcheck(loss, log_probs.requires_grad_())
    assert gradgradcheck(loss, log_probs)


def test_the_mean_divides_by_the_target_length_then_by_the_number_of_sequences():
    log_probs, *arguments = random_frames()
    each = losses.ctc_loss(log_probs, *arguments, reduction="none")
    torch.testing.assert_close(losses.ctc_loss(log_probs, *arguments), (each / torch.tensor([4, 3, 1, 1])).mean())
    torch.testing.assert_close(losses.ctc_loss(log_probs, *arguments, reduction="sum"), each.sum())
    defaults = {"blank": 0, "reduction": "mean", "zero_infinity": False}
    assert losses.ctc_loss(log_probs, *arguments, **defaults) == losses.ctc_loss(log_probs, *arguments)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_a_target_without_alignment_costs_infinity_or_zero_and_has_no_gradient_and_no_nan(reduction):
    log_probs = random_frames(steps=3)[0].float()
    targets, frames = torch.tensor([[1, 1, 2], [1, 1, 0], [3, 2, 1], [2, 2, 0]]), [3, 2, 3, 3]
    lengths = [3, 2, 3, 2]  # a repeated label needs a frame more: the first two do not fit
    value, slope = value_and_gradient(losses.ctc_loss, log_probs, targets, frames, lengths, reduction=reduction)
    zeroed, zeroed_slope = value_and_gradient(
        losses.ctc_loss, log_probs, targets, frames, lengths, reduction=reduction, zero_infinity=True
    )
    torchs = F.ctc_loss(log_probs, targets, frames, lengths, reduction=reduction, zero_infinity=True)
    torch.testing.assert_close(zeroed, torchs)
    assert value.isinf().any()
    torch.testing.assert_close(slope, zeroed_slope)
    assert slope[:, :2].eq(0).all()
    assert slope[:, 2:].ne(0).any()
    if reduction == "none":
        assert value.isinf().tolist() == [True, True, False, False]
        assert zeroed[:2].tolist() == [0, 0]


def test_ruled_out_classes_leave_the_alignments_without_them():
    log_probs = torch.zeros(3, 3, dtype=torch.float64)
    log_probs[1, 0] = log_probs[2, 1] = -math.inf  # no blank in the second frame, no label 1 in the third
    value, slope = value_and_gradient(losses.ctc_loss, log_probs, torch.tensor([1]), [3], [1])
    assert value.item() == pytest.approx(-math.log(2))  # blank 1 blank, 1 1 blank
    torch.testing.assert_close(slope, -torch.tensor([[0.5, 0.5, 0], [0, 1, 0], [1, 0, 0]], dtype=torch.float64))
    log_probs[1, 1] = -math.inf
    value, slope = value_and_gradient(losses.ctc_loss, log_probs, torch.tensor([1]), [3], [1])
    assert value.item() == math.inf
    assert slope.eq(0).all()
    assert losses.ctc_loss(log_probs, torch.tensor([1]), [3], [1], zero_infinity=True) == 0


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_a_loss_too_large_for_its_dtype_is_infinite_but_not_without_alignment(reduction):
    log_probs = torch.full((5, 1, 2), -3e38)
    arguments, options = (torch.tensor([[1]]), [5], [1]), {"reduction": reduction, "zero_infinity": True}
    value, slope = value_and_gradient(losses.ctc_loss, log_probs, *arguments, **options)
    expected = value_and_gradient(losses.ctc_loss, log_probs.double(), *arguments, **options)
    assert value.item() == math.inf
    assert expected[0].item() == pytest.approx(1.5e39)
    torch.testing.assert_close(slope, expected[1].float())
    torch.testing.assert_close(slope.sum(2), -torch.ones(5, 1))


def test_no_frames_spell_only_the_empty_target_and_an_empty_target_is_all_blanks():
    log_probs = random_frames(steps=6)[0]
    value = losses.ctc_loss(log_probs[:0], torch.ones(4, 2).long(), [0] * 4, [0, 1, 2, 0], reduction="none")
    assert value.tolist() == [0, math.inf, math.inf, 0]
    value, slope = value_and_gradient(
        losses.ctc_loss, log_probs, torch.zeros(4, 0).long(), [6, 4, 0, 1], [0] * 4, reduction="none"
    )
    expected = torch.stack([-log_probs[:n, i, 0].sum() for i, n in enumerate([6, 4, 0, 1])])
    torch.testing.assert_close(value, expected)
    assert (slope.sum((0, 2)) == -torch.tensor([6, 4, 0, 1])).all()
    torch.testing.assert_close(
        losses.ctc_loss(log_probs, torch.zeros(0).long(), [6] * 4, [0] * 4, blank=4), -log_probs[..., 4].sum() / 4
    )


def test_as_many_frames_as_different_labels_leave_one_alignment():
    log_probs = random_frames(steps=3)[0]
    value, slope = value_and_gradient(
        losses.ctc_loss, log_probs[:, 0], torch.tensor([2, 1, 3]), [3], [3], reduction="sum"
    )
    torch.testing.assert_close(value, -(log_probs[0, 0, 2] + log_probs[1, 0, 1] + log_probs[2, 0, 3]))
    torch.testing.assert_close(slope, -F.one_hot(torch.tensor([2, 1, 3]), 5).double())


@given(seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=25)
def test_the_chances_of_all_targets_add_up_to_one(seed):
    log_probs = torch.randn(3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).log_softmax(1)
    batch = log_probs[:, None].expand(-1, len(TARGETS), -1)
    padded = torch.tensor([[*target, *[0] * (3 - len(target))] for target in TARGETS])
    lengths = [len(target) for target in TARGETS]
    loss = losses.ctc_loss(batch, padded, [3] * len(TARGETS), lengths, blank=2, reduction="none")
    torch.testing.assert_close((-loss).exp().sum(), torch.tensor(1.0, dtype=torch.float64))


@given(seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=25)
def test_every_frame_of_a_sequence_gives_its_gradient_one_posterior(seed):
    log_probs, targets, input_lengths, target_lengths = random_frames(seed)
    _, slope = value_and_gradient(losses.ctc_loss, log_probs, targets, input_lengths, target_lengths, reduction="sum")
    inside = torch.arange(12)[:, None] < input_lengths
    torch.testing.assert_close(slope.sum(2), -inside.double())
    assert (slope <= 0).all()


@given(order=st.permutations(range(4)), seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=25)
def test_a_batch_is_its_sequences_alone_in_any_order_and_what_is_beyond_their_lengths_does_not_matter(order, seed):
    log_probs, targets, frames, labels = random_frames(seed)
    garbage, anything = log_probs.clone(), targets.clone()
    for n in range(4):
        garbage[frames[n] :, n], anything[n, labels[n] :] = math.nan, 99
    value, slope = value_and_gradient(
        losses.ctc_loss, garbage[:, order], anything[order], frames[order], labels[order], reduction="none"
    )
    for place, n in enumerate(order):
        alone = log_probs[: frames[n], n], targets[n, : labels[n]], frames[n], labels[n]
        expected = value_and_gradient(losses.ctc_loss, *alone, reduction="none")
        torch.testing.assert_close((value[place], slope[: frames[n], place]), expected)
        assert slope[frames[n] :, place].eq(0).all()


@given(seed=st.integers(0, 2**31))
@settings(deadline=None, max_examples=25)
def test_read_backwards_target_and_frames_cost_the_same(seed):
    log_probs, targets, _, _ = random_frames(seed, samples=1)
    forward = value_and_gradient(losses.ctc_loss, log_probs, targets, [12], [4])
    value, slope = value_and_gradient(losses.ctc_loss, log_probs.flip(0), targets.flip(1), [12], [4])
    torch.testing.assert_close((value, slope.flip(0)), forward)


@pytest.mark.parametrize("zero_infinity", [False, True])
@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize("seed", range(3))
def test_the_numpy_twin_of_ctc_has_the_same_value_and_gradient(seed, blank, zero_infinity):
    log_probs, targets, frames, labels = random_frames(seed, blank=blank)
    frames[3], labels[3] = 2, 4  # no alignment
    options = {"blank": blank, "zero_infinity": zero_infinity}
    value, slope = value_and_gradient(losses.ctc_loss, log_probs, targets, frames, labels, reduction="none", **options)
    arrays = log_probs.numpy(), targets.numpy(), frames.numpy(), labels.numpy()
    np.testing.assert_allclose(reference.ctc_loss(*arrays, **options), value, rtol=1e-12)
    np.testing.assert_allclose(reference.ctc_loss_grad(*arrays, **options), slope, rtol=1e-12, atol=1e-14)
    with np.errstate(all="raise"):
        assert reference.ctc_loss(np.full((2, 1, 3), -1e30), [[1]], [2], [1]) == 2e30


def test_lengths_may_be_any_sequence_of_integers():
    logits, target, _ = random_tokens()
    expected = losses.sequence_cross_entropy(logits, target, lengths=torch.tensor([2, 3, 4, 5]))
    for lengths in (range(2, 6), np.arange(2, 6), np.arange(2, 6, dtype=np.uint8), list(np.arange(2, 6))):
        assert losses.sequence_cross_entropy(logits, target, lengths=lengths) == expected


@pytest.mark.parametrize("kind", [np.int64, np.int16])
def test_the_blank_and_the_padding_index_may_be_integers_of_numpy(kind):
    log_probs, logits = torch.randn(5, 2, 4).log_softmax(2), torch.randn(2, 3, 4)
    target = torch.tensor([[2, 1, 2], [2, 3, 1]])
    by_numpy, by_python = (losses.ctc_loss(log_probs, target[:, :2], [5, 5], [2, 2], blank=b) for b in (kind(0), 0))
    assert by_numpy.equal(by_python)
    by_numpy, by_python = (losses.sequence_cross_entropy(logits, target, padding_index=p) for p in (kind(3), 3))
    assert by_numpy.equal(by_python)


def test_ctc_of_no_sequences_and_of_strided_ones():
    log_probs, *arguments = random_frames()
    for targets in (torch.zeros(0, 4).long(), torch.zeros(0).long()):
        none = log_probs[:, :0], targets, [], np.array([])
        assert losses.ctc_loss(*none).isnan()
        assert losses.ctc_loss(*none, reduction="sum") == 0
        assert losses.ctc_loss(*none, reduction="none").shape == (0,)
        assert value_and_gradient(losses.ctc_loss, *none)[1].shape == (12, 0, 5)
    strided = log_probs.transpose(0, 1).contiguous().transpose(0, 1)
    assert not strided.is_contiguous()
    expected = value_and_gradient(losses.ctc_loss, log_probs, *arguments)
    torch.testing.assert_close(value_and_gradient(losses.ctc_loss, strided, *arguments), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_frames_are_summed_in_full_and_rounded_once(dtype):
    log_probs, *arguments = random_frames()
    half = log_probs.to(dtype)
    for reduction in ("none", "mean", "sum"):
        ours = losses.ctc_loss(half, *arguments, reduction=reduction)
        exact = losses.ctc_loss(half.float(), *arguments, reduction=reduction)
        assert ours.dtype == dtype
        torch.testing.assert_close(ours, exact.to(dtype), rtol=0, atol=0)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            autocast = losses.ctc_loss(half, *arguments, reduction=reduction)
        torch.testing.assert_close(autocast, exact, rtol=0, atol=0)
    assert value_and_gradient(losses.ctc_loss, half, *arguments)[1].dtype == dtype


def test_ctc_can_be_mapped_over_batches():
    log_probs, *arguments = random_frames()
    batches = torch.stack([log_probs, (2 * log_probs).log_softmax(2)])
    mapped = torch.func.vmap(torch.func.grad(lambda x: losses.ctc_loss(x, *arguments)))(batches)
    each = torch.stack([value_and_gradient(losses.ctc_loss, batch, *arguments)[1] for batch in batches])
    torch.testing.assert_close(mapped, each)


@pytest.mark.parametrize("row", [False, True], ids=["padded", "one row"])
@pytest.mark.parametrize("lengths", [[4, 3, 0, 1], None], ids=["one length", "a length each"])
def test_ctc_can_be_mapped_over_targets(lengths, row):
    log_probs, targets, frames, _ = random_frames()
    both = torch.stack([targets[:, :2] if row else targets, targets.flip(0)[:, :2] if row else targets.flip(0)])
    both = both.flatten(1) if row else both
    each = torch.tensor([lengths, lengths] if lengths else [[4, 3, 0, 1], [2, 2, 3, 1]])

    def slope(target, length):
        return torch.func.grad(losses.ctc_loss)(log_probs, target, frames, length if lengths is None else lengths)

    mapped = torch.func.vmap(slope)(both, each)
    alone = [value_and_gradient(losses.ctc_loss, log_probs, both[i], frames, each[i])[1] for i in range(2)]
    torch.testing.assert_close(mapped, torch.stack(alone))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own, while tracing
@pytest.mark.parametrize("row", [False, True], ids=["padded", "one row"])
def test_ctc_compiles_to_one_graph(row):
    log_probs, *arguments = random_frames()
    if row:
        arguments[0] = torch.cat([labels[:n] for labels, n in zip(arguments[0], arguments[2], strict=True)])
    compiled = torch.compile(losses.ctc_loss, backend="aot_eager", fullgraph=True)
    expected = value_and_gradient(losses.ctc_loss, log_probs, *arguments, zero_infinity=True)
    ours = value_and_gradient(compiled, log_probs, *arguments, zero_infinity=True)
    torch.testing.assert_close(ours, expected)


# Refusals

LOGITS, TOKENS = torch.zeros(2, 3, 4), torch.tensor([[0, 1, 2], [3, 0, 0]])
LOG_PROBS, LABELS = torch.zeros(5, 2, 4), torch.tensor([[1, 2, 3], [3, 1, 0]])
CTC = (LOG_PROBS, LABELS, [5, 5], [3, 2])
REFUSALS = [
    *(
        (losses.sequence_cross_entropy, *refusal)
        for refusal in [
            (([0.0], TOKENS), {}, TypeError, "input must be a torch.Tensor, got list"),
            ((LOGITS.long(), TOKENS), {}, TypeError, "input must be a floating-point tensor, got torch.int64"),
            ((LOGITS, [0]), {}, TypeError, "target must be a torch.Tensor, got list"),
            (
                (LOGITS, TOKENS.float()),
                {},
                TypeError,
                r"target must hold class indices \(integers\), got torch.float32",
            ),
            ((LOGITS, TOKENS[:, :2]), {}, ValueError, r"target \(N, T\), got \(2, 3, 4\) and \(2, 2\)"),
            ((LOGITS[0], TOKENS[0]), {}, ValueError, r"shape \(N, T, C\) .*, got \(3, 4\) and \(3,\)"),
            ((LOGITS, TOKENS + 1), {}, ValueError, r"in \[0, 4\) or .*, got 4"),
            ((LOGITS, TOKENS), {"padding_index": None}, TypeError, "padding_index must be an integer, got NoneType"),
            ((LOGITS, TOKENS), {"padding_index": True}, TypeError, "padding_index must be an integer, got bool"),
            (
                (LOGITS, TOKENS),
                {"lengths": 3},
                TypeError,
                "lengths must be a tensor, an array or a list of integers, got 3",
            ),
            ((LOGITS, TOKENS), {"lengths": ["a", "b"]}, TypeError, r"a list of integers, got \['a', 'b'\]"),
            ((LOGITS, TOKENS), {"lengths": [[1], [2, 3]]}, TypeError, r"a list of integers, got \[\[1\], \[2, 3\]\]"),
            ((LOGITS, TOKENS), {"lengths": [3, None]}, TypeError, r"a list of integers, got \[3, None\]"),
            ((LOGITS, TOKENS), {"lengths": {2, 3}}, TypeError, r"a list of integers, got \{2, 3\}"),
            ((LOGITS, TOKENS), {"lengths": np.array([1.5, 2])}, TypeError, r"lengths \(integers\), got torch.float32"),
            ((LOGITS, TOKENS), {"padding_index": -100.0}, TypeError, "padding_index must be an integer, got float"),
            ((LOGITS[..., :0], TOKENS), {}, ValueError, r"at least one class .*, got \(2, 3, 0\) and \(2, 3\)"),
            ((LOGITS, TOKENS), {"lengths": [1.5, 2]}, TypeError, r"lengths \(integers\), got torch.float32"),
            ((LOGITS, TOKENS), {"lengths": [3]}, ValueError, "lengths must hold 2 lengths, one .*, got 1"),
            ((LOGITS, TOKENS), {"lengths": [3, 4]}, ValueError, r"lengths must be in \[0, 3\], got 4"),
            ((LOGITS, TOKENS), {"lengths": [3, -1]}, ValueError, r"lengths must be in \[0, 3\], got -1"),
            (
                (LOGITS, TOKENS),
                {"label_smoothing": 1.5},
                ValueError,
                "label_smoothing must be between 0 and 1, got 1.5",
            ),
            ((LOGITS, TOKENS), {"average": "batch"}, ValueError, "average must be 'token' or 'sequence', got 'batch'"),
            ((LOGITS, TOKENS), {"reduction": "average"}, ValueError, "'sum', got 'average'"),
        ]
    ),
    *(
        (losses.ctc_loss, *refusal)
        for refusal in [
            (([0.0], *CTC[1:]), {}, TypeError, "log_probs must be a torch.Tensor, got list"),
            ((LOG_PROBS.long(), *CTC[1:]), {}, TypeError, "log_probs must be a floating-point tensor, got torch.int64"),
            ((LOG_PROBS[None], *CTC[1:]), {}, ValueError, r"\(T, N, C\) or \(T, C\) .*, got \(1, 5, 2, 4\)"),
            ((LOG_PROBS, [[1]], [5, 5], [3, 2]), {}, TypeError, "targets must be a torch.Tensor, got list"),
            ((LOG_PROBS, LABELS.float(), [5, 5], [3, 2]), {}, TypeError, r"indices \(integers\), got torch.float32"),
            ((LOG_PROBS, LABELS[:1], [5, 5], [3, 2]), {}, ValueError, r"shape \(2, S\) or .*, got \(1, 3\)"),
            ((LOG_PROBS, LABELS[None], [5, 5], [3, 2]), {}, ValueError, r"for 2 sequences .*, got \(1, 2, 3\)"),
            ((LOG_PROBS[:, 0], LABELS, [5], [3]), {}, ValueError, r"for 1 sequences .* \(1, S\) or .*, got \(2, 3\)"),
            ((LOG_PROBS, LABELS, [5], [3, 2]), {}, ValueError, "input_lengths must hold 2 lengths, .*, got 1"),
            ((LOG_PROBS, LABELS, [5, 5], [3]), {}, ValueError, "target_lengths must hold 2 lengths, .*, got 1"),
            ((LOG_PROBS, LABELS, [5, 6], [3, 2]), {}, ValueError, r"input_lengths must be in \[0, 5\], got 6"),
            ((LOG_PROBS, LABELS, [5, -1], [3, 2]), {}, ValueError, r"input_lengths must be in \[0, 5\], got -1"),
            ((LOG_PROBS, LABELS, [5, 5], [3, 4]), {}, ValueError, r"target_lengths must be in \[0, 3\], got 4"),
            ((LOG_PROBS, LABELS, 5.0, [3, 2]), {}, TypeError, "input_lengths must be .* a list of integers, got 5.0"),
            (
                (LOG_PROBS, LABELS, [5, 5], torch.tensor([3.0, 2.0])),
                {},
                TypeError,
                r"target_lengths must .* \(integers\)",
            ),
            ((LOG_PROBS, LABELS[0], [5, 5], [3, 1]), {}, ValueError, r"sum of target_lengths \(4\) labels, got 3"),
            ((LOG_PROBS, LABELS + 1, [5, 5], [3, 2]), {}, ValueError, r"in \[0, 4\), got 4"),
            ((LOG_PROBS, LABELS - 4, [5, 5], [3, 2]), {}, ValueError, r"in \[0, 4\), got -3"),
            ((LOG_PROBS, LABELS, [5, 5], [3, 3]), {}, ValueError, r"must not hold the blank \(0\)"),
            (CTC, {"blank": 1}, ValueError, r"must not hold the blank \(1\)"),
            (CTC, {"blank": 4}, ValueError, r"blank must be a class index in \[0, 4\), got 4"),
            (CTC, {"blank": -1}, ValueError, r"blank must be a class index in \[0, 4\), got -1"),
            (CTC, {"blank": 0.0}, TypeError, "blank must be an integer, got float"),
            (CTC, {"blank": None}, TypeError, "blank must be an integer, got NoneType"),
            (CTC, {"zero_infinity": "no"}, TypeError, "zero_infinity must be True or False, got 'no'"),
            (CTC, {"zero_infinity": 0}, TypeError, "zero_infinity must be True or False, got 0"),
            ((LOG_PROBS[..., :0], *CTC[1:]), {}, ValueError, r"at least one class, got \(5, 2, 0\)"),
            (CTC, {"blank": False}, TypeError, "blank must be an integer, got bool"),
            (CTC, {"reduction": "average"}, ValueError, "'sum', got 'average'"),
        ]
    ),
]


@pytest.mark.parametrize(("loss", "arguments", "options", "error", "message"), REFUSALS)
def test_bad_input_is_refused_with_what_was_given_and_what_is_wanted(loss, arguments, options, error, message):
    with pytest.raises(error, match=message):
        loss(*arguments, **options)
