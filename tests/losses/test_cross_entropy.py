"""The losses against torch, against 50 digits of mpmath, and against what theory says of them."""

import math

import mpmath
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import grad, gradcheck

from lib import losses

LOGITS = torch.linspace(-4, 5, 2 * 5 * 3 * 2, dtype=torch.float64).sin().mul(6).reshape(2, 5, 3, 2)
SHAPES = {"(C,)": LOGITS[0, :, 0, 0], "(N, C)": LOGITS[:, :, 0, 0], "(N, C, d)": LOGITS[..., 0], "(N, C, d, e)": LOGITS}
WEIGHT = torch.tensor([0.2, 1.0, 3.0, 0.5, 2.0], dtype=torch.float64)


def class_indices(logits: torch.Tensor) -> torch.Tensor:
    shape = logits.shape[:1] + logits.shape[2:] if logits.dim() > 1 else ()
    return torch.arange(math.prod(shape)).reshape(shape).mul(7).remainder(5)


def class_probabilities(logits: torch.Tensor) -> torch.Tensor:
    return logits.flip(-1).softmax(0 if logits.dim() == 1 else 1)


def value_and_gradient(loss, logits, *args, **options):
    logits = logits.clone().requires_grad_()
    value = loss(logits, *args, **options)
    return value.detach(), grad(value.sum(), logits)[0]


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("target_kind", ["indices", "indices, some ignored", "probabilities"])
@pytest.mark.parametrize("shape", SHAPES)
def test_cross_entropy_equals_torch_for_every_kind_of_input(shape, target_kind, weight, label_smoothing, reduction):
    logits = SHAPES[shape]
    target = class_probabilities(logits) if target_kind == "probabilities" else class_indices(logits)
    options = {"weight": weight, "label_smoothing": label_smoothing, "reduction": reduction}
    if "ignored" in target_kind:
        options["ignore_index"] = 2
        target = (
            target.masked_fill(torch.ones_like(target, dtype=torch.bool).cumsum(-1) == 1, 2) if target.dim() else target
        )
    ours = value_and_gradient(losses.cross_entropy, logits, target, **options)
    torchs = value_and_gradient(F.cross_entropy, logits, target, **options)
    torch.testing.assert_close(ours, torchs, rtol=1e-12, atol=1e-14, equal_nan=True)


@pytest.mark.parametrize(
    "target", [torch.tensor([-100, -100]), torch.empty(0, dtype=torch.long)], ids=["ignored", "empty"]
)
def test_cross_entropy_of_no_targets_is_nan_with_zero_gradient_as_in_torch(target):
    value, gradient = value_and_gradient(losses.cross_entropy, torch.ones(len(target), 3), target)
    assert value.isnan()
    assert gradient.eq(0).all()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("scale", [1e-30, 1e-4, 1.0, 15.0, 40.0, 85.0, 1e4, 1e30])
@pytest.mark.parametrize("true_class", [0, 1, 2])
def test_cross_entropy_and_its_gradient_are_right_at_every_scale(dtype, tolerance, scale, true_class):
    logits = torch.tensor([[1.0, 0.25, -0.5]], dtype=dtype) * scale
    value, gradient = value_and_gradient(losses.cross_entropy, logits, torch.tensor([true_class]))
    with mpmath.workdps(50):
        z = [mpmath.mpf(v) for v in logits[0].tolist()]
        rivals = mpmath.fsum(mpmath.exp(z[j] - z[true_class]) for j in range(3) if j != true_class)
        total = mpmath.fsum(mpmath.exp(v) for v in z)
        true_value = mpmath.log1p(rivals)
        true_gradient = [mpmath.exp(v) / total for v in z]
        true_gradient[true_class] = -rivals / (1 + rivals)
        smallest = torch.finfo(dtype).tiny
        for ours, truth in [(value, true_value), *zip(gradient[0], true_gradient, strict=True)]:
            assert abs(ours.item() - truth) <= tolerance * abs(truth) + smallest


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("kind", ["index", "one-hot", "probabilities"])
@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 10.0, 40.0])
def test_cross_entropy_is_right_for_logits_whose_differences_are_rounded(kind, dtype, tolerance, scale):
    logits = scale * torch.randn(40, 4, generator=torch.Generator().manual_seed(3), dtype=dtype)
    index = torch.arange(40) % 4
    target = torch.eye(4, dtype=dtype)[index]
    target = 0.75 * target + 0.0625 if kind == "probabilities" else target
    options = {"reduction": "none"}
    value, gradient = value_and_gradient(losses.cross_entropy, logits, index if kind == "index" else target, **options)
    with mpmath.workdps(50):
        for row in range(40):
            z, t = ([mpmath.mpf(v) for v in tensor[row].tolist()] for tensor in (logits, target))
            total = mpmath.fsum(mpmath.exp(v) for v in z)
            log_losses = [mpmath.log1p(mpmath.fsum(mpmath.exp(v - z[j]) for v in z[:j] + z[j + 1 :])) for j in range(4)]
            truth = mpmath.fsum(t[j] * log_losses[j] for j in range(4))
            assert abs(value[row].item() - truth) <= tolerance * truth + torch.finfo(dtype).tiny
            for j in range(4):
                slope, terms = mpmath.exp(z[j]) / total - t[j], 0
                if kind == "probabilities":  # the difference is the definition's own: its terms are the measure
                    terms = mpmath.exp(z[j]) / total + t[j]
                error = abs(gradient[row, j].item() - slope)
                assert error <= tolerance * max(abs(slope), terms) + torch.finfo(dtype).tiny


def test_the_rounding_of_a_large_difference_of_logits_does_not_reach_the_loss():
    logits = 20 * torch.randn(50_000, 4, generator=torch.Generator().manual_seed(0))
    target = logits.argmax(1)  # all right, many of them by far
    exact = losses.cross_entropy(logits.double(), target, reduction="none")
    naive = (logits - logits.amax(1, keepdim=True)).exp().scatter(1, target[:, None], 0.0).sum(1).log1p()
    usual = exact > 1e-37

    def worst_error(loss):
        return ((loss.double() - exact) / exact)[usual].abs().max().item()

    assert worst_error(losses.cross_entropy(logits, target, reduction="none")) < 5e-7
    assert worst_error(naive) > 2e-6


@pytest.mark.parametrize("input_dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("target_dtype", [torch.float16, torch.float32, torch.float64])
def test_with_probabilities_the_loss_has_the_dtype_to_which_both_promote_as_in_torch(input_dtype, target_dtype):
    logits, target = torch.zeros(2, 3, dtype=input_dtype), torch.eye(3, dtype=target_dtype)[:2]
    assert losses.cross_entropy(logits, target).dtype == F.cross_entropy(logits, target).dtype


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["unweighted", "weighted"])
def test_the_gradient_in_the_probabilities_equals_torchs(weight):
    logits, target = SHAPES["(N, C, d)"], class_probabilities(SHAPES["(N, C, d)"]).requires_grad_()
    options = {"weight": weight, "label_smoothing": 0.1}
    (ours,) = grad(losses.cross_entropy(logits, target, **options), target)
    (torchs,) = grad(F.cross_entropy(logits, target, **options), target)
    torch.testing.assert_close(ours, torchs, rtol=1e-12, atol=1e-14)
    assert gradcheck(lambda t: losses.cross_entropy(logits, t, **options), target)
    assert torch.autograd.gradgradcheck(lambda t: losses.cross_entropy(logits, t, **options), target)


def test_cross_entropy_keeps_the_small_loss_of_a_confident_right_answer_where_torch_rounds_it_to_zero():
    logits, target = torch.tensor([[30.0, 0.0, 0.0]]), torch.tensor([0])
    assert F.cross_entropy(logits, target).item() == 0
    assert losses.cross_entropy(logits, target).item() == pytest.approx(2 * math.exp(-30), rel=2e-6)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("kind", [class_indices, class_probabilities])
def test_cross_entropy_gradient_is_the_derivative_of_its_value(kind, weight, label_smoothing):
    logits = SHAPES["(N, C, d)"].clone().requires_grad_()
    target = kind(logits.detach())

    def loss(z):
        return losses.cross_entropy(z, target, weight=weight, label_smoothing=label_smoothing)

    assert gradcheck(loss, logits)
    assert torch.autograd.gradgradcheck(loss, logits)


@given(shift=st.floats(-50, 50), seed=st.integers(0, 2**31))
@settings(deadline=None)
def test_cross_entropy_ignores_a_constant_added_to_all_logits(shift, seed):
    logits = torch.randn(4, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    target = torch.tensor([0, 5, 2, 2])
    torch.testing.assert_close(losses.cross_entropy(logits + shift, target), losses.cross_entropy(logits, target))


@given(
    seed=st.integers(0, 2**31),
    ignored=st.lists(st.booleans(), min_size=6, max_size=6).filter(lambda rows: not all(rows)),
)
@settings(deadline=None)
def test_ignored_rows_count_no_more_than_removed_rows(seed, ignored):
    generator, ignored = torch.Generator().manual_seed(seed), torch.tensor(ignored)
    logits = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 4, (6,), generator=generator)
    options = {"weight": WEIGHT[:4], "label_smoothing": 0.2}
    kept = losses.cross_entropy(logits[~ignored], target[~ignored], **options)
    logits[ignored] = torch.inf  # even the worst logits of an ignored row must not matter
    value, gradient = value_and_gradient(losses.cross_entropy, logits, target.masked_fill(ignored, -100), **options)
    torch.testing.assert_close(value, kept)
    assert gradient[ignored].eq(0).all()
    assert gradient.isfinite().all()


def test_an_impossible_class_that_never_occurs_costs_nothing():
    logits = torch.tensor([[0.0, 0.0, -torch.inf]])
    for target in (torch.tensor([0]), torch.tensor([[1.0, 0.0, 0.0]])):
        value, gradient = value_and_gradient(losses.cross_entropy, logits, target)
        assert value.item() == pytest.approx(math.log(2))
        torch.testing.assert_close(gradient, torch.tensor([[-0.5, 0.5, 0.0]]))


INF = torch.inf


@pytest.mark.parametrize(
    ("logits", "target"),
    [([0, -INF, -INF], 0), ([-INF, 2, 1], 2), ([3e38, -3e38, 0], 0)],
)
def test_cross_entropy_and_gradient_equal_torch_where_classes_are_ruled_out(logits, target):
    logits, target = torch.tensor([logits], dtype=torch.float32), torch.tensor([target])
    ours = value_and_gradient(losses.cross_entropy, logits, target)
    torch.testing.assert_close(ours, value_and_gradient(F.cross_entropy, logits, target))


@pytest.mark.parametrize("logits", [[0, -INF, 1], [0, -INF, -INF]])
def test_the_gradient_of_a_true_class_that_is_ruled_out_equals_torchs(logits):
    logits, target = torch.tensor([logits], dtype=torch.float32), torch.tensor([1])
    ours = value_and_gradient(losses.cross_entropy, logits, target)
    torch.testing.assert_close(ours, value_and_gradient(F.cross_entropy, logits, target))


@pytest.mark.parametrize("logits", [[0, -INF, 1], [0, -INF, -INF], [-INF, -INF, -INF]])
def test_a_true_class_that_is_ruled_out_costs_infinity_and_leaves_no_nan_in_the_gradient(logits):
    value, gradient = value_and_gradient(losses.cross_entropy, torch.tensor([logits]), torch.tensor([1]))
    assert value.item() == math.inf
    assert gradient.isfinite().all()


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_probabilities_of_classes_that_are_all_ruled_out_cost_infinity_and_do_not_pull(dtype, create_graph):
    logits = torch.tensor([[-INF, -INF, -INF], [1.0, 2.0, -INF]], dtype=dtype, requires_grad=True)
    target = torch.tensor([[0.2, 0.3, 0.5], [0.5, 0.5, 0.0]], dtype=dtype, requires_grad=True)
    value = losses.cross_entropy(logits, target, reduction="none")
    of_logits, of_target = grad(value.sum(), (logits, target), create_graph=create_graph)
    assert value[0] == INF  # NaN in torch
    assert of_logits[0].eq(0).all()
    assert of_target[0].eq(INF).all()
    torch.testing.assert_close(
        (value[1:], of_logits[1:]), value_and_gradient(losses.cross_entropy, logits[1:], target[1:], reduction="none")
    )


@pytest.mark.parametrize("kind", [class_indices, class_probabilities])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["unweighted", "weighted"])
def test_cross_entropy_can_be_mapped_over_samples(weight, kind):
    logits, target = SHAPES["(N, C)"], kind(SHAPES["(N, C)"])

    def loss(logits, target):
        return losses.cross_entropy(logits, target, weight=weight, label_smoothing=0.1, reduction="sum")

    one_by_one = torch.func.vmap(torch.func.grad(loss))(logits, target)
    torch.testing.assert_close(one_by_one, value_and_gradient(loss, logits, target)[1])
    per_target = torch.func.vmap(loss, in_dims=(None, 0))(logits[0], target)
    torch.testing.assert_close(per_target, torch.stack([loss(logits[0], one) for one in target]))


def test_cross_entropy_compiles_to_one_graph():
    logits, target = SHAPES["(N, C)"], class_indices(SHAPES["(N, C)"])
    compiled = torch.compile(losses.cross_entropy, backend="aot_eager", fullgraph=True)
    ours = value_and_gradient(compiled, logits, target, ignore_index=2, label_smoothing=0.1)
    eager = value_and_gradient(losses.cross_entropy, logits, target, ignore_index=2, label_smoothing=0.1)
    torch.testing.assert_close(ours, eager)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32_and_rounded_once(dtype):
    logits = torch.linspace(-9, 9, 40).reshape(4, 10).to(dtype)
    target = torch.tensor([9, 0, 4, 4])
    for reduction in ("none", "mean", "sum"):
        ours = losses.cross_entropy(logits, target, reduction=reduction)
        exact = losses.cross_entropy(logits.float(), target, reduction=reduction)
        assert ours.dtype == dtype
        torch.testing.assert_close(ours, exact.to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("input", "target", "options", "error", "message"),
    [
        (torch.zeros(2, 3), [0, 1], {}, TypeError, "target must be a torch.Tensor, got list"),
        (
            torch.zeros(2, 3, dtype=torch.long),
            torch.tensor([0, 1]),
            {},
            TypeError,
            "floating-point tensor, got torch.int64",
        ),
        (torch.zeros(2, 3), torch.tensor([True, False]), {}, TypeError, "got torch.bool"),
        (torch.tensor(1.0), torch.tensor(0), {}, ValueError, "must have a class dimension"),
        (torch.zeros(2, 3), torch.tensor([[0], [1]]), {}, ValueError, r"must have shape \(2,\), got \(2, 1\)"),
        (torch.zeros(2, 3), torch.zeros(2, 1), {}, ValueError, r"shape of input, \(2, 3\), got \(2, 1\)"),
        (torch.zeros(2, 3), torch.tensor([0, 3]), {}, ValueError, r"in \[0, 3\) or ignore_index \(-100\), got 3"),
        (torch.zeros(2, 3), torch.tensor([0, -1]), {}, ValueError, r"got -1"),
        (torch.zeros(2, 3), torch.tensor([0, 156], dtype=torch.uint8), {}, ValueError, r"got 156"),
        (torch.zeros(2, 3), torch.ones(2, 3), {"ignore_index": 1}, ValueError, "target holds probabilities; got 1"),
        (torch.zeros(2, 3), torch.tensor([0, 1]), {"weight": [1.0, 1.0, 1.0]}, TypeError, "weight must be a torch.Ten"),
        (torch.zeros(2, 3), torch.tensor([0, 1]), {"weight": torch.ones(2)}, ValueError, "each of the 3 classes"),
        (torch.zeros(2, 3), torch.tensor([0, 1]), {"label_smoothing": 1.5}, ValueError, "between 0 and 1, got 1.5"),
        (torch.zeros(2, 3), torch.tensor([0, 1]), {"label_smoothing": "a"}, TypeError, "ing must be a number, got str"),
        (torch.zeros(2, 3), torch.tensor([0, 1]), {"label_smoothing": None}, TypeError, "must be a number, got None"),
        *(
            (torch.zeros(2, 3), target, {"ignore_index": value}, TypeError, "ignore_index must be an integer, got")
            for target in (torch.tensor([0, 1]), torch.ones(2, 3))
            for value in (1.5, True, 0.0, None, "a")
        ),
        (torch.zeros(2, 0), torch.zeros(2, 0), {}, ValueError, r"at least one class, got shape \(2, 0\)"),
        (torch.zeros(0, 0), torch.zeros(0).long(), {}, ValueError, r"at least one class, got shape \(0, 0\)"),
        (torch.zeros(2, 3), torch.tensor([0, 1]), {"reduction": "average"}, ValueError, "'sum', got 'average'"),
    ],
)
def test_bad_input_is_refused_with_what_was_given_and_what_is_wanted(input, target, options, error, message):
    with pytest.raises(error, match=message):
        losses.cross_entropy(input, target, **options)
