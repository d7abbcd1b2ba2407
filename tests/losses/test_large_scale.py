"""The losses at scale: what is computed in chunks, or by several processes, equals what one computes at once."""

import datetime
import itertools
import math
import operator

import mpmath
import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import grad, gradcheck
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lib.losses import large_scale as losses
from lib.losses import metric
from lib.reference import large_scale as reference

TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-12}


def random_layer(rows=13, features=4, classes=9, *, dtype=torch.float64, seed=0):
    """Return hidden, weight, bias and a target of which one row in three is ignored."""
    generator = torch.Generator().manual_seed(seed)
    shapes = (rows, features), (classes, features), (classes,)
    layer = [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]
    target = torch.randint(0, classes, (rows,), generator=generator)
    target[::3] = -100
    return layer, target


def ours(hidden, weight, bias, target, **options):
    return losses.linear_cross_entropy(hidden, weight, target, bias=bias, **options)


def naive(hidden, weight, bias, target, **options):
    logits = F.linear(hidden, weight, bias)
    return F.cross_entropy(logits.flatten(0, -2), target.flatten(), **options)


def value_and_gradients(loss, layer, target, *, scale=1.0, **options):
    layer = [x.clone().requires_grad_() for x in layer]
    value = loss(*layer, target, **options)
    return value.detach(), grad((scale * value).sum(), layer)


# The same as the cross-entropy of the logits


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("scale", [1.0, -2.5])
def test_value_and_all_gradients_are_those_of_the_cross_entropy_of_the_logits(reduction, label_smoothing, scale):
    layer, target = random_layer()
    options = {"reduction": reduction, "label_smoothing": label_smoothing, "scale": scale}
    chunked = value_and_gradients(ours, layer, target, chunk_size=4, **options)
    torch.testing.assert_close(chunked, value_and_gradients(naive, layer, target, **options), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_without_a_bias_there_is_none(reduction):
    (hidden, weight, _), target = random_layer()
    chunked = value_and_gradients(lambda h, w, t, **o: ours(h, w, None, t, **o), [hidden, weight], target)
    expected = value_and_gradients(lambda h, w, t, **o: naive(h, w, None, t, **o), [hidden, weight], target)
    torch.testing.assert_close(chunked, expected, rtol=1e-12, atol=1e-13)


def test_the_defaults_are_torchs():
    layer, target = random_layer()
    chosen = ours(*layer, target, ignore_index=-100, label_smoothing=0.0, reduction="mean", chunk_size=None)
    assert ours(*layer, target) == chosen
    torch.testing.assert_close(chosen, F.linear_cross_entropy(*layer[:2], target, linear_bias=layer[2]))


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_each_row_of_its_own_weight_gets_the_gradient_of_its_own_weight(reduction):
    layer, target = random_layer()
    layer = [x.requires_grad_() for x in layer]
    weights = torch.arange(len(target), dtype=torch.float64) if reduction == "none" else torch.tensor(3.0).double()
    gradients = [grad((weights * loss(*layer, target, reduction=reduction)).sum(), layer) for loss in (ours, naive)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (2, 3, 2), (0,), (2, 0)])
def test_any_number_of_dimensions_may_hold_the_rows(shape):
    generator = torch.Generator().manual_seed(5)
    hidden = torch.randn(*shape, 4, generator=generator, dtype=torch.float64)
    layer = [hidden, *random_layer()[0][1:]]
    target = torch.randint(0, 9, shape, generator=generator)
    for reduction in ("none", "sum"):
        value, gradients = value_and_gradients(ours, layer, target, reduction=reduction)
        flat = [hidden.reshape(-1, 4), *layer[1:]]
        expected, expected_gradients = value_and_gradients(naive, flat, target, reduction=reduction)
        assert value.shape == (shape if reduction == "none" else ())
        torch.testing.assert_close(value.flatten(), expected.flatten(), rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(gradients[0].reshape(-1, 4), expected_gradients[0], rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(gradients[1:], expected_gradients[1:], rtol=1e-12, atol=1e-13)


def test_gradients_are_the_derivative_of_the_value():
    layer, target = random_layer(rows=5)
    for reduction in ("none", "mean"):
        options = {"reduction": reduction, "label_smoothing": 0.2, "chunk_size": 2}
        gradcheck(lambda *x, o=options: ours(*x, target, **o), [x.requires_grad_() for x in layer])


@pytest.mark.parametrize("label_smoothing", [0.0, 0.3])
@pytest.mark.parametrize("with_bias", [True, False])
def test_the_numpy_twin_has_the_same_value_and_its_hand_derived_gradients_are_ours(with_bias, label_smoothing):
    (hidden, weight, bias), target = random_layer()
    target = target.clamp(min=0)
    options = {"label_smoothing": label_smoothing, "reduction": "none"}
    value, gradients = value_and_gradients(ours, [hidden, weight, with_bias * bias], target, **options)
    arrays = [x.numpy() for x in (hidden, weight, target)]
    options = {"bias": bias.numpy()} if with_bias else {}
    options |= {"label_smoothing": label_smoothing} if label_smoothing else {}
    np.testing.assert_allclose(reference.linear_cross_entropy(*arrays, **options), value, rtol=1e-12, atol=1e-14)
    for twin, gradient in zip(reference.linear_cross_entropy_grad(*arrays, **options), gradients, strict=True):
        np.testing.assert_allclose(twin, gradient, rtol=1e-12, atol=1e-14)


# The chunks


@settings(deadline=None)
@given(st.integers(0, 20), st.integers(1, 25), st.sampled_from(["none", "mean", "sum"]), st.sampled_from([0.0, 0.2]))
def test_the_size_of_the_chunks_does_not_change_the_result(rows, chunk_size, reduction, label_smoothing):
    layer, target = random_layer(rows)
    options = {"reduction": reduction, "label_smoothing": label_smoothing}
    chunked = value_and_gradients(ours, layer, target, chunk_size=chunk_size, **options)
    whole = value_and_gradients(ours, layer, target, **options)
    torch.testing.assert_close(chunked, whole, rtol=1e-12, atol=1e-13, equal_nan=True)


class LargestTensor(TorchDispatchMode):
    """Records the largest number of elements that any operation returns."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        sizes = (x.untyped_storage().nbytes() // x.element_size() for x in tree_leaves(result) if torch.is_tensor(x))
        self.elements = max(self.elements, *sizes, 0)
        return result


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_the_logits_of_all_rows_are_never_held_together(reduction, label_smoothing):
    rows, features, classes, chunk_size = 300, 4, 100, 7
    layer, target = random_layer(rows, features, classes)
    largest = {}
    for loss, options in ((naive, {}), (ours, {"chunk_size": chunk_size})):
        with LargestTensor() as mode:
            value_and_gradients(loss, layer, target, reduction=reduction, label_smoothing=label_smoothing, **options)
        largest[loss] = mode.elements
    assert largest[naive] == rows * classes
    assert largest[ours] == max(rows * features, chunk_size * classes)


@pytest.mark.parametrize(
    ("rows", "features", "classes", "expected"),
    [(100, 2, 2**16, 2**5), (200, 800, 2**17, 100), (3, 2, 2**16, 3), (2, 1, 2**21 + 1, 1)],
)
def test_by_default_the_logits_take_two_million_numbers_or_an_eighth_of_the_weight(rows, features, classes, expected):
    with LargestTensor() as mode:
        hidden, weight = torch.zeros(rows, features), torch.zeros(1, 1).expand(classes, features)
        target = torch.zeros(rows, dtype=torch.long)
        losses.linear_cross_entropy(hidden, weight, target)
    assert mode.elements == max(expected * classes, rows * features)


@pytest.mark.parametrize("classes", [losses.CLASSES_AT_ONCE, 2 * losses.CLASSES_AT_ONCE + 3])
def test_products_of_some_of_the_classes_make_up_that_of_all(classes):
    layer, target = random_layer(5, 4, classes)
    target[1] = classes - 1
    chunked = value_and_gradients(ours, layer, target, chunk_size=3)
    torch.testing.assert_close(chunked, value_and_gradients(naive, layer, target), rtol=1e-12, atol=1e-13)


def test_ignored_rows_are_removed_before_any_work():
    class Products(TorchDispatchMode):
        rows = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.aten.mm.out:
                self.rows += len(args[0])
            return func(*args, **(kwargs or {}))

    (hidden, weight, _), target = random_layer()
    with Products() as products:
        losses.linear_cross_entropy(hidden, weight, target)
    assert products.rows == (target != -100).sum()


def test_without_a_wanted_gradient_none_is_computed():
    class Operations(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.shapes = []

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            given = {x.untyped_storage().data_ptr() for x in tree_leaves(args) if torch.is_tensor(x)}
            made = (x for x in tree_leaves(result) if torch.is_tensor(x))
            self.shapes += [tuple(x.shape) for x in made if x.untyped_storage().data_ptr() not in given]  # no views
            return result
            return result

    (hidden, weight, bias), target = random_layer(13, 4, 9)
    with torch.no_grad(), Operations() as without_grad:
        ours(*(x.clone().requires_grad_() for x in (hidden, weight, bias)), target)
    with Operations() as frozen:
        ours(hidden, weight, bias, target)
    with Operations() as last_layer_frozen:
        ours(hidden.requires_grad_(), weight, bias, target)
    counted = int((target != -100).sum())
    for operations in (without_grad, frozen):
        assert operations.shapes.count((counted, 4)) == 1  # the rows; not the gradient in them
    assert last_layer_frozen.shapes.count((counted, 4)) > 1
    assert [shape for shape in last_layer_frozen.shapes if shape == (9, 4)] == [], "no gradient of the weight"


# Autograd


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("wanted", [w for w in itertools.product([True, False], repeat=3) if any(w)], ids=str)
def test_each_of_hidden_weight_and_bias_may_do_without_a_gradient(wanted, reduction):
    layer, target = random_layer()
    expected = value_and_gradients(naive, layer, target, reduction=reduction)[1]
    layer = [x.requires_grad_(w) for x, w in zip(layer, wanted, strict=True)]
    ours(*layer, target, reduction=reduction).sum().backward()
    for x, gradient, w in zip(layer, expected, wanted, strict=True):
        if w:
            torch.testing.assert_close(x.grad, gradient, rtol=1e-12, atol=1e-13)
        else:
            assert x.grad is None


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_a_second_backward_pass_adds_the_same_gradients_whatever_became_of_the_first(reduction):
    layer, target = random_layer()
    layer = [x.requires_grad_() for x in layer]
    loss = (3 * ours(*layer, target, reduction=reduction)).sum()
    expected = grad((3 * naive(*layer, target, reduction=reduction)).sum(), layer)
    once = grad(loss, layer, retain_graph=True)
    for gradient in once:
        gradient.fill_(math.nan)  # the first gradients belong to the caller
    for _ in range(2):
        loss.backward(retain_graph=True)
    torch.testing.assert_close([x.grad / 2 for x in layer], list(expected), rtol=1e-12, atol=1e-13)


def test_gradients_accumulate_over_batches():
    layer, target = random_layer()
    other, other_target = random_layer(seed=1)
    expected = [
        a + b
        for a, b in zip(
            value_and_gradients(naive, layer, target)[1][1:],
            value_and_gradients(naive, [other[0], *layer[1:]], other_target)[1][1:],
            strict=True,
        )
    ]
    weight, bias = (x.requires_grad_() for x in layer[1:])
    for hidden, labels in ((layer[0], target), (other[0], other_target)):
        ours(hidden, weight, bias, labels).backward()
    torch.testing.assert_close([weight.grad, bias.grad], expected, rtol=1e-12, atol=1e-13)


def test_the_gradient_is_handed_over_without_a_copy():
    layer, target = random_layer(features=1000, classes=50)
    layer = [x.requires_grad_() for x in layer]
    loss = ours(*layer, target)
    buffers = {x.data_ptr() for x in loss.grad_fn.gradients}
    loss.backward()
    assert {x.grad.data_ptr() for x in layer} == buffers


def test_a_second_derivative_is_refused_and_not_silently_zero():
    layer, target = random_layer()
    layer = [x.requires_grad_() for x in layer]
    with pytest.raises(RuntimeError, match="no second derivative, got create_graph=True; cross_entropy"):
        grad(ours(*layer, target), layer, create_graph=True)


def test_a_weight_changed_before_the_gradients_are_made_anew_is_noticed():
    layer, target = random_layer()
    layer = [x.requires_grad_() for x in layer]
    loss = ours(*layer, target, reduction="none").sum()
    with torch.no_grad():
        layer[1].add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_mapping_it_is_refused():
    (hidden, weight, _), target = random_layer()
    with pytest.raises(RuntimeError, match="setup_context"):
        torch.func.vmap(lambda h: losses.linear_cross_entropy(h, weight, target))(hidden.expand(2, -1, -1))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # torch's, tracing
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_a_compiled_function_may_call_it_and_the_compiler_leaves_its_chunks_alone():
    compiled_operations = []

    def backend(module, inputs):
        compiled_operations.extend(str(node.target) for node in module.graph.nodes)
        return module.forward

    layer, target = random_layer()
    compiled = torch.compile(lambda *args: 2 * ours(*args), backend=backend)
    expected = value_and_gradients(lambda *args: 2 * ours(*args), layer, target)
    torch.testing.assert_close(value_and_gradients(compiled, layer, target), expected)
    assert any("mul" in operation for operation in compiled_operations)
    assert not any("mm" in operation for operation in compiled_operations)


# Precision


def worst_error(result, truth, dtype, sizes=None):
    """Return the largest error in relation to the truth, or to ``sizes``, where the dtype can hold the truth."""
    limits = torch.finfo(dtype)
    errors = [0.0]
    for ours, exact, size in zip(result.flatten().tolist(), truth, sizes or truth, strict=True):
        if abs(exact) > limits.max:
            errors.append(0.0 if ours == math.copysign(math.inf, exact) else math.inf)
        elif not abs(ours - exact) <= limits.tiny:  # NaN too
            errors.append(float(abs(ours - exact) / abs(size)) if size else math.inf)
    return max(errors)


CONTESTS = [
    [0.0, 0.0, 0.0],
    [1.0, -2.0, 0.3],
    [30.0, 1.0, -1.0],
    [-30.0, 1.0, -1.0],
    [80.0, 0.0, 3.0],
    [-80.0, 0.0, 3.0],
    [1e-30, -1e-30, 0.0],
    [1e4, 1e4 - 3, 1e4 - 20],
    [-1e4, 1e4, 1e4],
    [1e30, -1e30, 0.0],
    [-1e30, 1e30, 1e30],
]


def random_contests(scale):
    return (scale * torch.randn(40, 3, generator=torch.Generator().manual_seed(3))).tolist()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("contests", [CONTESTS, *map(random_contests, (1e-3, 1.0, 10.0, 100.0, 1e4))])
def test_value_and_gradient_are_right_at_all_logits_where_the_product_is_exact(contests, label_smoothing, dtype):
    logits = torch.tensor(contests, dtype=dtype)
    target, identity = torch.zeros(len(logits), dtype=torch.long), torch.eye(3, dtype=dtype)
    options = {"reduction": "none", "label_smoothing": label_smoothing}
    value, gradients = value_and_gradients(ours, [logits, identity, torch.zeros(3, dtype=dtype)], target, **options)
    costs, slopes, sizes = [], [], []
    with mpmath.workdps(100):
        smoothing = mpmath.mpf(label_smoothing)
        for row in logits.tolist():
            z = [mpmath.mpf(x) for x in row]
            total = sum(mpmath.exp(x - max(z)) for x in z)
            rivals = sum(mpmath.exp(x - z[0]) for x in z[1:])
            costs.append(mpmath.log1p(rivals) + smoothing * (z[0] - sum(z) / 3))
            away = [mpmath.exp(x - max(z)) / total for x in z]
            away[0] = -rivals / (1 + rivals)
            spread = [smoothing * ((j == 0) - mpmath.mpf(1) / 3) for j in range(3)]
            slopes += map(operator.add, away, spread)
            sizes += (abs(p) + abs(s) for p, s in zip(away, spread, strict=True))  # smoothing makes them cancel
        # The product of a real layer leaves an error of this size in each logit; so does the difference of two.
        rounding = torch.finfo(dtype).eps * logits.abs().max().item() if contests is not CONTESTS else 0
        assert worst_error(value, costs, dtype) <= max(TOLERANCE[dtype], rounding / 2)
        assert worst_error(gradients[0], slopes, dtype, sizes) <= max(TOLERANCE[dtype], rounding / 2)


def test_a_confident_right_answer_keeps_its_small_loss_where_torch_sees_none():
    hidden, weight, target = torch.tensor([[40.0]]), torch.tensor([[1.0], [0.0]]), torch.tensor([0])
    value, (gradient, _) = value_and_gradients(losses.linear_cross_entropy, [hidden, weight], target)
    assert F.linear_cross_entropy(hidden, weight, target) == 0
    assert value.item() == pytest.approx(math.exp(-40), rel=2e-6)
    assert gradient.item() == pytest.approx(-math.exp(-40), rel=2e-6)


def test_classes_that_a_bias_rules_out_get_no_gradient_and_leave_no_nan():
    (hidden, weight, bias), target = random_layer()
    target = target.clamp(min=0, max=6)
    bias[7:] = -torch.inf
    value, gradients = value_and_gradients(ours, [hidden, weight, bias], target)
    left, left_gradients = value_and_gradients(ours, [hidden, weight[:7], bias[:7]], target)
    torch.testing.assert_close(value, left)
    torch.testing.assert_close([gradients[0], *(g[:7] for g in gradients[1:])], list(left_gradients))
    assert gradients[1][7:].eq(0).all()
    assert gradients[2][7:].eq(0).all()


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_many_rivals_do_not_overflow_the_gradient_of_a_large_weight(label_smoothing):
    generator = torch.Generator().manual_seed(0)
    layer = [torch.full((1, 2), 1e-38), 1e36 * torch.randn(1000, 2, generator=generator)]
    for loss_layer in (layer, [1e36 * layer[0], 1e-36 * layer[1]], [1e74 * layer[0].double(), 1e-36 * layer[1]]):
        exact = [x.double() for x in loss_layer]
        options = {"label_smoothing": label_smoothing}
        value, gradients = value_and_gradients(losses.linear_cross_entropy, loss_layer, torch.tensor([3]), **options)
        truth, slopes = value_and_gradients(losses.linear_cross_entropy, exact, torch.tensor([3]), **options)
        torch.testing.assert_close(value.double(), truth, rtol=2e-6, atol=0)
        for gradient, slope in zip(gradients, slopes, strict=True):
            torch.testing.assert_close(gradient.double(), slope, rtol=1e-5, atol=2e-6 * slope.abs().max().item())


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_a_single_class_costs_nothing(label_smoothing):
    (hidden, weight, bias), target = random_layer(classes=1)
    value, gradients = value_and_gradients(ours, [hidden, weight, bias], target, label_smoothing=label_smoothing)
    assert value.item() == pytest.approx(0, abs=1e-15)
    assert all(gradient.abs().max() < 1e-15 for gradient in gradients)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_half_precision_is_summed_in_float32_and_its_gradients_are_rounded_once(dtype, reduction):
    layer, target = random_layer(200, 16, 50, dtype=torch.float32)
    halves = [x.to(dtype) for x in layer]
    value, gradients = value_and_gradients(ours, halves, target, reduction=reduction)
    exact, exact_gradients = value_and_gradients(ours, [x.float() for x in halves], target, reduction=reduction)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, exact, rtol=0, atol=0)
    torch.testing.assert_close(gradients, tuple(g.to(dtype) for g in exact_gradients), rtol=0, atol=0)


def test_in_bfloat16_the_loss_is_right_where_torchs_chunks_lose_it():
    (hidden, weight, _), target = random_layer(512, 64, 2048, dtype=torch.bfloat16)
    weight = weight / 8
    value, (_, gradient) = value_and_gradients(losses.linear_cross_entropy, [hidden, weight], target)
    exact, (_, slope) = value_and_gradients(losses.linear_cross_entropy, [hidden.double(), weight.double()], target)
    torchs = F.linear_cross_entropy(hidden, weight, target, options=torch.nn.LinearCrossEntropyOptions())
    assert abs(value.item() - exact.item()) < 1e-6 * exact.item()
    assert abs(torchs.item() - exact.item()) > 1e-4 * exact.item()
    epsilon = torch.finfo(torch.bfloat16).eps
    assert ((gradient - slope).abs() <= 0.51 * epsilon * slope.abs() + 1e-9).all()


def test_a_gradient_too_small_for_float16_is_not_lost_before_the_loss_scale_reaches_it():
    (hidden, weight, bias), target = random_layer(rows=4, dtype=torch.float32)
    layer = [hidden.half() / 2**12, weight.half(), bias.half()]
    scaled = value_and_gradients(ours, layer, target, scale=2.0**14)[1][1] / 2**14
    exact = value_and_gradients(ours, [x.float() for x in layer], target)[1][1]
    torch.testing.assert_close(scaled.float(), exact, rtol=1e-2, atol=1e-7)
    assert (exact.abs() > 0).sum() == (scaled.abs() > 0).sum()


def test_autocast_does_not_round_the_logits():
    layer, target = random_layer(dtype=torch.float32)
    expected = value_and_gradients(ours, layer, target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = value_and_gradients(ours, layer, target)
        again = value_and_gradients(ours, layer, target, reduction="none")[0]
    torch.testing.assert_close(inside, expected, rtol=0, atol=0)
    torch.testing.assert_close(again.sum() / (target != -100).sum(), expected[0])


@pytest.mark.parametrize(
    ("dtypes", "result"),
    [
        ((torch.bfloat16, torch.float32, torch.float32), torch.float32),  # what a layer gives under autocast
        ((torch.float16, torch.bfloat16, torch.float16), torch.float32),
        ((torch.float32, torch.float64, torch.float32), torch.float64),
        ((torch.float32, torch.float32, torch.float64), torch.float64),
    ],
)
def test_hidden_weight_and_bias_may_differ_in_dtype(dtypes, result):
    layer, target = random_layer()
    layer = [x.to(dtype) for x, dtype in zip(layer, dtypes, strict=True)]
    value, gradients = value_and_gradients(ours, layer, target)
    expected, expected_gradients = value_and_gradients(ours, [x.to(result) for x in layer], target)
    assert value.dtype == result
    torch.testing.assert_close(value, expected, rtol=0, atol=0)
    expected_gradients = tuple(g.to(dtype) for g, dtype in zip(expected_gradients, dtypes, strict=True))
    torch.testing.assert_close(gradients, expected_gradients, rtol=0, atol=0)


# Rows


@pytest.mark.parametrize("ignore_index", [-100, -1, 2, 300])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_ignored_rows_cost_what_removed_rows_cost_even_if_they_are_not_finite(ignore_index, reduction):
    (hidden, weight, bias), target = random_layer()
    target = target.clamp(min=0)
    target[::3] = ignore_index
    kept = target != ignore_index
    hidden[~kept] = math.nan
    options = {"ignore_index": ignore_index, "reduction": reduction}
    value, gradients = value_and_gradients(ours, [hidden, weight, bias], target, **options)
    left, left_gradients = value_and_gradients(ours, [hidden[kept], weight, bias], target[kept], reduction=reduction)
    torch.testing.assert_close(value, left)
    torch.testing.assert_close((gradients[0][kept], *gradients[1:]), left_gradients)
    assert gradients[0][~kept].eq(0).all()


@pytest.mark.parametrize("rows", [0, 3])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_the_mean_of_no_targets_is_nan_with_gradient_zero_as_in_torch(rows, label_smoothing):
    layer, target = random_layer(rows)
    target = torch.full_like(target, -100)
    options = {"label_smoothing": label_smoothing}
    value, gradients = value_and_gradients(ours, layer, target, **options)
    assert value.isnan()
    assert all(g.eq(0).all() for g in gradients)
    assert [g.shape for g in gradients] == [x.shape for x in layer]
    assert ours(*layer, target, reduction="sum") == 0
    assert ours(*layer, target, reduction="none").tolist() == [0] * rows
    layer = [x.requires_grad_() for x in layer]
    loss = ours(*layer, target)
    grad(loss, layer, retain_graph=True)
    assert all(g.eq(0).all() for g in grad(loss, layer)), "nor when made anew"


@settings(deadline=None)
@given(st.permutations(range(8)), st.permutations(range(9)), st.floats(-50, 50))
def test_neither_the_order_of_rows_and_classes_nor_a_bias_for_all_classes_matters(rows, classes, shift):
    (hidden, weight, bias), target = random_layer(8)
    expected = ours(hidden, weight, bias, target)
    place = torch.empty(9, dtype=torch.long)
    place[classes] = torch.arange(9)
    renamed = torch.where(target == -100, target, place[target.clamp(min=0)])
    shuffled = ours(hidden[rows], weight[classes], bias[classes] + shift, renamed[rows])
    torch.testing.assert_close(shuffled, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_class_indices_may_have_any_integer_dtype(dtype):
    layer, target = random_layer(classes=300)
    target = target.clamp(min=0, max=255)
    assert ours(*layer, target.to(dtype)) == ours(*layer, target)


def test_strided_input_costs_what_its_contiguous_copy_costs():
    (hidden, weight, bias), target = random_layer()
    strided = [hidden.T.contiguous().T, weight.repeat(1, 2)[:, :4], bias.repeat_interleave(2)[::2]]
    assert not any(x.is_contiguous() for x in strided)
    given = [x.detach().requires_grad_() for x in strided]
    result = ours(*given, target)
    torch.testing.assert_close(
        (result.detach(), grad(result, given)), value_and_gradients(ours, [hidden, weight, bias], target)
    )


# Two processes

SHARES = {"equal shares": (4, 4), "unequal shares": (2, 6), "an empty share": (0, 8)}
WAIT = datetime.timedelta(seconds=60)  # a process that waits longer waits in vain
DISTRIBUTED = {"nt_xent_loss": losses.distributed_nt_xent_loss, "clip_loss": losses.distributed_clip_loss}


class Encoder(torch.nn.Module):
    """One linear layer for both views, and a temperature that learns."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(5, 3, dtype=torch.float64)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            self.layer.weight.copy_(torch.randn(3, 5, generator=generator))
            self.layer.bias.copy_(torch.randn(3, generator=generator))
        self.log_temperature = torch.nn.Parameter(torch.tensor(-1.0, dtype=torch.float64))

    def forward(self, pairs):
        return self.layer(pairs[:, 0]), self.layer(pairs[:, 1]), self.log_temperature.exp()


def all_pairs(dtype=torch.float64):
    return torch.randn(8, 2, 5, generator=torch.Generator().manual_seed(0), dtype=dtype)


def share_of(pairs, rank, counts):
    return pairs[sum(counts[:rank]) :][: counts[rank]]


def gathered_without_gradient(input, target, **options):
    whole = [[torch.empty_like(x) for _ in range(2)] for x in (input, target)]
    for everyone, mine in zip(whole, (input, target), strict=True):
        dist.all_gather(everyone, mine.detach())
        everyone[dist.get_rank()] = mine
    return metric.nt_xent_loss(*(torch.cat(x) for x in whole), **options)


def train(encoder, loss, pairs, *, learn_temperature):
    """Return the loss, and the gradients of the pairs and of the parameters."""
    pairs = pairs.clone().requires_grad_()
    input, target, temperature = encoder(pairs)
    value = loss(input, target, temperature=temperature if learn_temperature else 0.4)
    (value if learn_temperature else value + 0 * temperature).backward()
    return value.detach(), pairs.grad, [x.grad.clone() for x in encoder.parameters()]


def slope_penalty_gradient(loss, pairs, processes):
    """Return the gradient of the squared length of the gradient of the loss in the pairs."""
    pairs = pairs.clone().requires_grad_()
    (slope,) = grad(loss(pairs[:, 0], pairs[:, 1], temperature=0.4), pairs, create_graph=True)
    return grad((slope / processes).square().sum(), pairs)[0]


def train_where_only_one_share_needs_a_gradient(rank):
    """Return the gradients of a share, and of a temperature that all processes have."""
    share = share_of(all_pairs(), rank, (8, 0)).requires_grad_(rank == 0)
    temperature = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    losses.distributed_clip_loss(*share.unbind(1), temperature=temperature).backward()
    losses.distributed_nt_xent_loss(*share.unbind(1)).backward()
    return share.grad, temperature.grad


def refusals(rank, alone):
    """Return calls that one process at least has to refuse, and with it the others."""
    nt_xent, clip = DISTRIBUTED.values()
    fine = torch.ones(4, 3)
    pairs = fine, fine
    lost = fine[rank:]  # on the second process, the target is one row shorter
    wide = torch.zeros(4, 3 + rank)
    precise = fine.double() if rank else fine
    return {
        "width": (nt_xent, (wide, wide), {}),
        "outsider": (nt_xent, pairs, {"group": alone[1 - rank]}),
        "dtype": (clip, (precise, fine), {}),
        "temperature": (nt_xent, pairs, {"temperature": 0.5 + 0.1 * rank}),
        "shape": (nt_xent, (fine, lost), {}),
        "no tensor": (clip, ([fine, None][rank], fine), {}),
        "one dimension": (clip, ([fine, fine[0]][rank],) * 2, {}),
        "chunk": (nt_xent, pairs, {"chunk_size": 1 - rank}),
        "cold": (clip, pairs, {"temperature": torch.tensor(1.0 - rank)}),
    }


def process(rank, folder):
    """Do what is to be done on one of the two processes, and write down what came out."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2, timeout=WAIT)
    found = {}
    for (name, loss), (shares, counts) in itertools.product(DISTRIBUTED.items(), SHARES.items()):
        mine = share_of(all_pairs(), rank, counts)
        encoder = DistributedDataParallel(Encoder())
        found[name, shares] = train(encoder, loss, mine, learn_temperature=name == "clip_loss")
    mine = share_of(all_pairs(), rank, (4, 4))
    for loss in (gathered_without_gradient, metric.nt_xent_loss):
        found[loss.__name__] = train(DistributedDataParallel(Encoder()), loss, mine, learn_temperature=False)
    found["penalty"] = slope_penalty_gradient(losses.distributed_clip_loss, mine, processes=2)
    found["half"] = losses.distributed_nt_xent_loss(*mine.bfloat16().unbind(1))
    found["two dtypes"] = losses.distributed_nt_xent_loss(mine[:, 0].half(), mine[:, 1].half().float())
    found["chunks"] = losses.distributed_nt_xent_loss(*mine.unbind(1), chunk_size=3)
    alone = [dist.new_group([0]), dist.new_group([1])]
    found["alone"] = losses.distributed_clip_loss(*mine.unbind(1), group=alone[rank])
    found["no gradient here"] = train_where_only_one_share_needs_a_gradient(rank)
    for case, (loss, arguments, options) in refusals(rank, alone).items():
        with pytest.raises((TypeError, ValueError)) as error:
            loss(*arguments, **options)
        found[case] = f"{error.type.__name__}: {error.value}"
    found["after all refusals"] = losses.distributed_clip_loss(*mine.unbind(1), temperature=0.07 * (1 + 1e-7 * rank))
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(process, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def one_process(name):
    return train(Encoder(), getattr(metric, name), all_pairs(), learn_temperature=name == "clip_loss")


@pytest.mark.parametrize("shares", SHARES)
@pytest.mark.parametrize("name", DISTRIBUTED)
def test_two_processes_get_the_loss_and_the_parameter_gradients_of_one_with_the_whole_batch(
    two_processes, name, shares
):
    value, _, gradients = one_process(name)
    for found in two_processes:
        torch.testing.assert_close(found[name, shares][0], value, rtol=1e-12, atol=0)
        torch.testing.assert_close(found[name, shares][2], gradients, rtol=1e-12, atol=1e-14)
    assert (name == "clip_loss") == (gradients[0].item() != 0), "the temperature learns where it may"


@pytest.mark.parametrize("shares", SHARES)
@pytest.mark.parametrize("name", DISTRIBUTED)
def test_the_gradient_of_a_share_is_that_of_the_sum_of_all_processes_losses(two_processes, name, shares):
    together = torch.cat([found[name, shares][1] for found in two_processes])
    torch.testing.assert_close(together, 2 * one_process(name)[1], rtol=1e-12, atol=1e-14)


def test_gathering_without_gradient_gets_the_loss_and_half_the_gradient(two_processes):
    value, _, gradients = one_process("nt_xent_loss")
    wrong_value, _, wrong_gradients = two_processes[0]["gathered_without_gradient"]
    torch.testing.assert_close(wrong_value, value)
    torch.testing.assert_close(wrong_gradients, [g / 2 for g in gradients])


def test_the_losses_of_the_shares_alone_are_too_small_and_their_gradient_points_elsewhere(two_processes):
    value, _, (_, gradient, _) = one_process("nt_xent_loss")
    wrong = [found["nt_xent_loss"] for found in two_processes]
    assert all(wrong_value < value for wrong_value, *_ in wrong)
    wrong_gradient = wrong[0][2][1]
    assert torch.cosine_similarity(wrong_gradient.flatten(), gradient.flatten(), dim=0) < 0.99


def test_second_derivatives_cross_processes_too(two_processes):
    together = torch.cat([found["penalty"] for found in two_processes])
    expected = slope_penalty_gradient(metric.clip_loss, all_pairs(), processes=1)
    torch.testing.assert_close(together, expected, rtol=1e-11, atol=1e-13)


def test_half_precision_is_computed_in_float32_across_processes_and_rounded_once(two_processes):
    pairs = all_pairs().bfloat16()
    expected = metric.nt_xent_loss(*pairs.float().unbind(1)).bfloat16()
    for found in two_processes:
        torch.testing.assert_close(found["half"], expected, rtol=0, atol=0)
    pairs = all_pairs().half().float()
    for found in two_processes:
        torch.testing.assert_close(found["two dtypes"], metric.nt_xent_loss(*pairs.unbind(1)), rtol=0, atol=0)


def test_the_default_temperatures_and_the_chunks_are_those_of_the_plain_losses(two_processes):
    pairs = all_pairs()
    torch.testing.assert_close(two_processes[0]["chunks"], metric.nt_xent_loss(*pairs.unbind(1)))
    torch.testing.assert_close(two_processes[0]["alone"], metric.clip_loss(*pairs[:4].unbind(1)))


def test_a_group_of_one_process_has_the_loss_of_its_share(two_processes):
    for rank, found in enumerate(two_processes):
        share = share_of(all_pairs(), rank, (4, 4))
        torch.testing.assert_close(found["alone"], metric.clip_loss(*share.unbind(1)))


def test_outsiders_are_told(two_processes):
    for found in two_processes:
        assert found["outsider"] == "ValueError: group must hold this process, got one that does not"


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("width", "ValueError: input must have the same number of components on all processes, got [3, 4]"),
        ("dtype", "ValueError: input must have the same dtype on all processes, got [torch.float32, torch.float64]"),
        ("temperature", "ValueError: temperature must be the same on all processes, got [0.5, 0.6]"),
    ],
)
def test_all_processes_refuse_what_they_disagree_on(two_processes, case, message):
    assert [found[case] for found in two_processes] == [message] * 2


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("shape", "ValueError: input and target must have the same shape, got (4, 3) and (3, 3)"),
        ("no tensor", "TypeError: input must be a torch.Tensor, got NoneType"),
        ("one dimension", "ValueError: input must have shape (N, D), got (3,)"),
        ("chunk", "ValueError: chunk_size must be at least 1, got 0"),
        ("cold", "ValueError: temperature must be finite and above 0, got 0.0"),
    ],
)
def test_what_one_process_refuses_the_others_refuse_too_and_do_not_wait_for_it(two_processes, case, message):
    others = "ValueError: the arguments must fit on all processes, got an error on those of rank [1]"
    assert [found[case] for found in two_processes] == [others, message]


def test_after_a_refusal_the_processes_still_work_together_and_the_rounding_of_a_temperature_is_no_disagreement(
    two_processes,
):
    expected = metric.clip_loss(*all_pairs().unbind(1))
    for found in two_processes:
        torch.testing.assert_close(found["after all refusals"], expected, rtol=1e-5, atol=0)


def test_a_process_whose_share_needs_no_gradient_takes_part_in_the_backward_pass_of_the_others(two_processes):
    pairs = all_pairs().requires_grad_()
    temperature = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    (metric.clip_loss(*pairs.unbind(1), temperature=temperature) + metric.nt_xent_loss(*pairs.unbind(1))).backward()
    (of_share, of_temperature), (nothing, same) = (found["no gradient here"] for found in two_processes)
    torch.testing.assert_close(of_share, 2 * pairs.grad)
    assert nothing is None
    torch.testing.assert_close([of_temperature, same], [temperature.grad] * 2)


@pytest.mark.parametrize("name", DISTRIBUTED)
def test_without_a_process_group_the_loss_is_the_plain_one(name):
    assert not dist.is_initialized()
    expected = one_process(name)
    alone = train(Encoder(), DISTRIBUTED[name], all_pairs(), learn_temperature=name == "clip_loss")
    torch.testing.assert_close(alone, expected)
    half = all_pairs().half()
    value, plain = DISTRIBUTED[name](*half.unbind(1)), getattr(metric, name)(*half.unbind(1))
    torch.testing.assert_close(value, plain, rtol=0, atol=0)


# Refusals

H, W, B, T = torch.zeros(3, 2), torch.zeros(5, 2), torch.zeros(5), torch.tensor([0, -100, 4])
REFUSALS = [
    (([[0.0] * 2] * 3, W, T), {}, TypeError, "hidden must be a torch.Tensor, got list"),
    ((H.long(), W, T), {}, TypeError, "hidden must be a floating-point tensor, got torch.int64"),
    ((H, [0.0], T), {}, TypeError, "weight must be a torch.Tensor, got list"),
    ((H, W.long(), T), {}, TypeError, "weight must be a floating-point tensor, got torch.int64"),
    ((H, W, [0, 1, 2]), {}, TypeError, "target must be a torch.Tensor, got list"),
    ((H, W, H @ W.T), {}, TypeError, r"target must hold class indices \(integers\), got torch.float32"),
    ((H, W, T), {"bias": 0.0}, TypeError, "bias must be a torch.Tensor, got float"),
    ((H, W, T), {"bias": B.long()}, TypeError, "bias must be a floating-point tensor, got torch.int64"),
    ((H, W, T), {"bias": B[:1]}, ValueError, r"one number for each of the 5 classes, got \(1,\)"),
    ((H, W, T), {"bias": B[:, None]}, ValueError, r"one number for each of the 5 classes, got \(5, 1\)"),
    ((H, W[0], T), {}, ValueError, r"shape \(V, D\) with at least one class, got \(2,\)"),
    ((H, W[:0], T), {}, ValueError, r"at least one class, got \(0, 2\)"),
    ((H, W[None], T), {}, ValueError, r"shape \(V, D\) .*, got \(1, 5, 2\)"),
    ((H, W.T, T), {}, ValueError, r"\(..., 5\) for weight of shape \(2, 5\), got \(3, 2\)"),
    ((H[0, 0], W, T[0]), {}, ValueError, r"\(..., 2\) for weight of shape \(5, 2\), got \(\)"),
    ((H, W, T[:2]), {}, ValueError, r"hidden of shape \(3, 2\) must have shape \(3,\), got \(2,\)"),
    ((H, W, T[:, None]), {}, ValueError, r"must have shape \(3,\), got \(3, 1\)"),
    ((H, W, T + 1), {}, ValueError, r"in \[0, 5\) or ignore_index \(-100\), got -99"),
    ((H, W, T), {"ignore_index": -1}, ValueError, r"ignore_index \(-1\), got -100"),
    ((H, W, T), {"ignore_index": None}, TypeError, "ignore_index must be an integer, got NoneType"),
    ((H, W, T), {"ignore_index": "a"}, TypeError, "ignore_index must be an integer, got str"),
    ((H, W, T), {"ignore_index": 1.5}, TypeError, "ignore_index must be an integer, got float"),
    ((H, W, T), {"ignore_index": True}, TypeError, "ignore_index must be an integer, got bool"),
    ((H, W.to("meta"), T), {}, ValueError, "on one device, got hidden on cpu, weight on meta, target on cpu, bias"),
    ((H, W, T), {"bias": B.to("meta")}, ValueError, "on one device, got .* target on cpu, bias on meta"),
    ((H, W, T.to("meta")), {}, ValueError, "on one device, got .* target on meta"),
    ((H, W, T), {"label_smoothing": 1.1}, ValueError, "label_smoothing must be between 0 and 1, got 1.1"),
    ((H, W, T), {"label_smoothing": -0.1}, ValueError, "label_smoothing must be between 0 and 1, got -0.1"),
    ((H, W, T), {"label_smoothing": None}, TypeError, "label_smoothing must be a number, got NoneType"),
    ((H, W, T), {"reduction": "average"}, ValueError, "'sum', got 'average'"),
    ((H, W, T), {"chunk_size": 0}, ValueError, "chunk_size must be at least 1, got 0"),
    ((H, W, T), {"chunk_size": 2.0}, TypeError, "chunk_size must be .*, got float"),
    ((H, W, T), {"chunk_size": True}, TypeError, "chunk_size must be .*, got bool"),
]


E = torch.ones(3, 2)
BAD_PAIRS = [
    (([[0.0] * 2] * 3, E), {}, TypeError, "input must be a torch.Tensor, got list"),
    ((E, E.long()), {}, TypeError, "target must be a floating-point tensor, got torch.int64"),
    ((E, E[:1]), {}, ValueError, r"same shape, got \(3, 2\) and \(1, 2\)"),
    ((E[0], E[0]), {}, ValueError, r"input must have shape \(N, D\), got \(2,\)"),
    ((E, E), {"temperature": 0.0}, ValueError, "temperature must be finite and above 0, got 0.0"),
]


@pytest.mark.parametrize(("arguments", "options", "error", "message"), BAD_PAIRS)
@pytest.mark.parametrize("loss", DISTRIBUTED.values())
def test_bad_pairs_are_refused_with_what_was_given_and_what_is_wanted(loss, arguments, options, error, message):
    with pytest.raises(error, match=message):
        loss(*arguments, **options)


@pytest.mark.parametrize(("arguments", "options", "error", "message"), REFUSALS)
def test_bad_input_is_refused_with_what_was_given_and_what_is_wanted(arguments, options, error, message):
    with pytest.raises(error, match=message):
        losses.linear_cross_entropy(*arguments, **options)
