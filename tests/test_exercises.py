"""The checks of the exercises: right answers pass, wrong ones are caught and named, stubs are called unfinished."""

import importlib
import re
from functools import cache
from pathlib import Path

import nbformat
import pytest
import torch

from lib.exercises import check
from lib.exercises._engine import _EXERCISES, register

CHAPTERS = Path(__file__).parent.parent / "chapters"
WRONG_ANSWERS = Path(__file__).parent / "wrong_answers"


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


def wrong_answers() -> dict:
    """Collect from tests/wrong_answers, by exercise and mistake, an answer and words of the property that names it."""
    modules = [importlib.import_module(f"wrong_answers.{path.stem}") for path in sorted(WRONG_ANSWERS.glob("*.py"))]
    return {name: mistakes for module in modules for name, mistakes in module.WRONG.items()}


WRONG = wrong_answers()


@cache
def verdict_on(name: str, mistake: str):
    """Check a wrong answer, once for all tests."""
    answer, _ = WRONG[name][mistake]
    answer.__name__ = name
    return check(answer)


@pytest.mark.parametrize(("name", "mistake"), [(name, mistake) for name in WRONG for mistake in WRONG[name]])
def test_a_typical_wrong_answer_is_caught_and_named(name, mistake):
    verdict = verdict_on(name, mistake)
    assert not verdict.passed
    assert WRONG[name][mistake][1] in verdict.failed_property, verdict
    assert "Found:  " in str(verdict)


def test_every_exercise_is_tried_with_wrong_answers_of_several_kinds():
    for name in _EXERCISES:
        kinds = {kind for mistake in WRONG[name] for kind in ("sign", "factor", "axis") if mistake.startswith(kind)}
        assert len(kinds) >= 2, f"{name}: of sign, factor and axis, only {kinds} are tried"
        assert len(WRONG[name]) >= 3


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
    for mistake in WRONG[name]:
        assert not any(line in str(verdict_on(name, mistake)) for line in solution)
