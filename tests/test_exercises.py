"""The checks of the exercises: right answers pass, wrong ones are caught and named, stubs are called unfinished."""

import re
from pathlib import Path

import nbformat
import pytest
import torch
from torch.nn.functional import one_hot

from lib.exercises import check
from lib.exercises._engine import _EXERCISES, register

CHAPTERS = Path(__file__).parent.parent / "chapters"


def answers_in(text: str) -> dict:
    """Run code that defines answers, and return its functions by name."""
    namespace = {"torch": torch, "check": lambda function: None}
    exec(text, namespace)
    return {name: value for name, value in namespace.items() if name in _EXERCISES}


def stubs_and_solutions() -> tuple[dict, dict, dict]:
    """Collect from all chapters the stub, the solution and its source of each exercise that has a check."""
    stubs, solutions, sources = {}, {}, {}
    for path in sorted(CHAPTERS.rglob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code" and re.search(r"^check\(", cell.source, re.MULTILINE):
                stubs |= answers_in(cell.source)
            for block in re.findall(r"<summary>Solution</summary>.*?```python\n(.*?)```", cell.source, re.DOTALL):
                solutions |= answers_in(block)
                sources |= dict.fromkeys(answers_in(block), block)
    return stubs, solutions, sources


STUBS, SOLUTIONS, SOURCES = stubs_and_solutions()


def test_every_exercise_has_one_stub_and_one_solution_in_the_chapters():
    assert set(STUBS) == set(SOLUTIONS) == set(_EXERCISES)


@pytest.mark.parametrize("name", _EXERCISES)
def test_the_solution_passes_on_several_hundred_inputs(name):
    verdict = check(SOLUTIONS[name])
    assert verdict.passed, verdict
    assert len(_EXERCISES[name].inputs()) >= 300


@pytest.mark.parametrize("name", _EXERCISES)
def test_the_stub_is_called_unfinished(name):
    verdict = check(STUBS[name])
    assert not verdict.passed
    assert str(verdict).startswith(f"Not yet: {name}")


@pytest.mark.parametrize("name", _EXERCISES)
def test_the_inputs_of_an_exercise_are_the_same_at_every_check(name):
    for first, second in zip(_EXERCISES[name].inputs(), _EXERCISES[name].inputs(), strict=True):
        for a, b in zip(first, second, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)


def smoothed_target(logits, labels, smoothing):
    return (1 - smoothing) * one_hot(labels, logits.shape[1]) + smoothing / logits.shape[1]


def over_the_others(logits, labels, smoothing):
    truth, classes = one_hot(labels, logits.shape[1]), logits.shape[1]
    return (logits.softmax(1) - (1 - smoothing) * truth - smoothing / (classes - 1) * (1 - truth)) / len(logits)


def binned(probabilities, labels, gap, bins=10):
    confidence, guess = probabilities.max(1)
    right, bin_of = (guess == labels).float(), (confidence * bins).long().clamp(max=bins - 1)
    filled = [bin_of == b for b in range(bins) if (bin_of == b).any()]
    return sum(gap(inside, confidence[inside].mean(), right[inside].mean()) for inside in filled)


def filled_bins(probabilities):
    return (probabilities.max(1).values * 10).long().clamp(max=9).unique().numel()


WRONG = {
    "smoothed_cross_entropy_gradient": {
        "sign": (lambda z, y, s: (smoothed_target(z, y, s) - z.softmax(1)) / len(z), "true class"),
        "factor: no mean": (lambda z, y, s: z.softmax(1) - smoothed_target(z, y, s), "mean over the rows"),
        "factor: divided by the classes, too": (
            lambda z, y, s: (z.softmax(1) - smoothed_target(z, y, s)) / z.numel(),
            "small step",
        ),
        "axis": (lambda z, y, s: (z.softmax(0) - smoothed_target(z, y, s)) / len(z), "row sums to zero"),
        "smoothing forgotten": (lambda z, y, s: (z.softmax(1) - one_hot(y, z.shape[1])) / len(z), "smoothed target"),
        "smoothing over the others only": (over_the_others, "smoothed target"),
        "overflow, patched": (
            lambda z, y, s: ((z.exp() / z.exp().sum(1, keepdim=True)).nan_to_num() - smoothed_target(z, y, s)) / len(z),
            "thousands",
        ),
        "logits cut off": (
            lambda z, y, s: (z.clamp(-60, 60).softmax(1) - smoothed_target(z, y, s)) / len(z),
            "thousands",
        ),
        "wrong for much smoothing": (
            lambda z, y, s: (z.softmax(1) - smoothed_target(z, y, min(s, 0.5))) / len(z),
            "small step",
        ),
        "overflow": (
            lambda z, y, s: (z.exp() / z.exp().sum(1, keepdim=True) - smoothed_target(z, y, s)) / len(z),
            "thousands",
        ),
        "shape": (lambda z, y, s: (z.softmax(1) - smoothed_target(z, y, s)).mean(0), "shape of the logits"),
    },
    "cross_entropy_from_logits": {
        "sign": (lambda z, y: z.log_softmax(1).gather(1, y[:, None]).mean(), "Never negative"),
        "factor: sum for mean": (lambda z, y: -z.log_softmax(1).gather(1, y[:, None]).sum(), "natural log of C"),
        "factor: bits for nats": (
            lambda z, y: -z.log_softmax(1).gather(1, y[:, None]).mean() / 0.6931472,
            "natural log of C",
        ),
        "axis": (lambda z, y: -z.log_softmax(0).gather(1, y[:, None]).mean(), "natural log of C"),
        "no reduction": (lambda z, y: -z.log_softmax(1).gather(1, y[:, None]), "One number"),
        "overflow": (
            lambda z, y: -(z.exp() / z.exp().sum(1, keepdim=True)).gather(1, y[:, None]).log().mean(),
            "the same number is added",
        ),
        "log of a probability that rounds to 0": (
            lambda z, y: -z.softmax(1).gather(1, y[:, None]).log().mean(),
            "the label is wrong",
        ),
        "another loss": (lambda z, y: torch.relu(z - z.gather(1, y[:, None])).sum(1).mean(), "natural log of C"),
    },
    "calibration_error": {
        "sign: gaps cancel": (
            lambda p, y: binned(p, y, lambda inside, sure, right: inside.float().mean() * (sure - right)),
            "between 0 and 1",
        ),
        "factor: bins weigh alike": (
            lambda p, y: binned(p, y, lambda inside, sure, right: (sure - right).abs() / 10),
            "certain and wrong",
        ),
        "factor: mean over the filled bins": (
            lambda p, y: binned(p, y, lambda inside, sure, right: (sure - right).abs()) / filled_bins(p),
            "ten copies",
        ),
        "factor: not divided by N": (
            lambda p, y: binned(p, y, lambda inside, sure, right: inside.sum() * (sure - right).abs()),
            "between 0 and 1",
        ),
        "axis": (
            lambda p, y: (p.max(0).values.mean() - (p.argmax(0) == y[: p.shape[1]]).float().mean()).abs(),
            "certain and wrong",
        ),
        "five bins": (
            lambda p, y: binned(p, y, lambda inside, sure, right: inside.float().mean() * (sure - right).abs(), bins=5),
            "makes up for",
        ),
        **{
            f"{count} bins": (
                lambda p, y, count=count: binned(
                    p, y, lambda inside, sure, right: inside.float().mean() * (sure - right).abs(), bins=count
                ),
                "each 0.1 wide",
            )
            for count in (8, 9, 11, 12, 15, 20)
        },
        "rounded to the nearest tenth": (
            lambda p, y: binned(
                (p + 0.05).clamp(max=1),
                y,
                lambda inside, sure, right: inside.float().mean() * (sure - 0.05 - right).abs(),
            ),
            "certain and wrong",
        ),
        "certainty has no bin": (
            lambda p, y: binned(
                p * (p < 1), y, lambda inside, sure, right: inside.float().mean() * (sure - right).abs()
            ),
            "certain and wrong",
        ),
        "no bins": (lambda p, y: (p.max(1).values.mean() - (p.argmax(1) == y).float().mean()).abs(), "makes up for"),
        "loss in place of calibration": (lambda p, y: 1 - p.gather(1, y[:, None]).mean(), "makes up for"),
    },
}


@pytest.mark.parametrize(("name", "mistake"), [(name, mistake) for name in WRONG for mistake in WRONG[name]])
def test_a_typical_wrong_answer_is_caught_and_named(name, mistake):
    answer, named = WRONG[name][mistake]
    answer.__name__ = name
    verdict = check(answer)
    assert not verdict.passed
    assert named in verdict.failed_property, verdict
    assert "Found:  " in str(verdict)


def test_every_exercise_is_tried_with_wrong_sign_factor_and_axis():
    for name in _EXERCISES:
        for kind in ("sign", "factor", "axis"):
            assert any(mistake.startswith(kind) for mistake in WRONG[name]), f"{name} lacks a wrong answer: {kind}"


def test_an_answer_that_stops_with_an_error_is_told_where():
    def calibration_error(probabilities, labels):
        right = probabilities.argmax(1) == labels
        return right.mean()

    verdict = check(calibration_error)
    assert not verdict.passed
    assert "RuntimeError" in str(verdict)
    assert "(line 3 of the function)" in str(verdict)


def test_an_answer_that_changes_its_arguments_cannot_spoil_the_check():
    def cross_entropy_from_logits(logits, labels):
        logits -= logits.max(dim=1, keepdim=True).values
        value = (logits.exp().sum(dim=1).log() - logits[torch.arange(len(labels)), labels]).mean()
        logits.zero_()
        return value

    assert check(cross_entropy_from_logits).passed


def test_a_renamed_answer_is_told_the_nearest_exercise():
    def cross_entropy_of_logits(logits, labels): ...

    with pytest.raises(
        ValueError, match="no exercise is called 'cross_entropy_of_logits'; is it 'cross_entropy_from_logits'"
    ):
        check(cross_entropy_of_logits)


def test_checking_a_value_in_place_of_a_function_is_refused():
    with pytest.raises(TypeError, match=r"takes the function itself, as in check\(my_function\), got float"):
        check(0.5)


def test_a_name_can_be_taken_by_one_exercise_only():
    with pytest.raises(ValueError, match="two exercises are called 'calibration_error'"):
        register([_EXERCISES["calibration_error"]])


@pytest.mark.parametrize("name", _EXERCISES)
def test_no_verdict_quotes_the_solution(name):
    solution = [line.strip() for line in SOURCES[name].splitlines()[1:]]
    for answer, _ in WRONG[name].values():
        answer.__name__ = name
        assert not any(line in str(check(answer)) for line in solution)
