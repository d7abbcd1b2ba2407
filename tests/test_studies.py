"""The records of the studies: each has its study, and says when and on what it was made."""

import datetime
import json
import pkgutil

import numpy as np
import pytest
from scipy import stats

from lib import studies
from lib.studies.__main__ import as_text, main

NAMES = [module.name for module in pkgutil.iter_modules(studies.__path__) if not module.name.startswith("_")]


@pytest.fixture
def tiny_study(tmp_path, monkeypatch):
    """A study of one line, in a package of studies of its own."""
    (tmp_path / "tiny.py").write_text("def run(workers):\n    return {'workers': workers}\n")
    monkeypatch.setattr(studies, "__path__", [str(tmp_path)])
    monkeypatch.setattr(studies, "RECORDS", tmp_path)
    return tmp_path / "tiny.json"


def test_every_study_has_its_record_and_every_record_its_study():
    assert {path.stem for path in studies.RECORDS.iterdir()} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_record_says_when_and_on_what_it_was_made_and_stays_small(name):
    record = studies.read(name)
    assert datetime.date.fromisoformat(record["date"]) <= datetime.date.today()
    assert "torch" in record["machine"]
    assert record["seconds"] > 0
    assert (studies.RECORDS / f"{name}.json").stat().st_size < 500_000


def test_the_command_runs_a_study_and_writes_what_it_found(tiny_study, capsys):
    main(["tiny", "--workers", "3"])
    record = json.loads(tiny_study.read_text())
    assert set(record) == {"date", "machine", "seconds", "workers"}
    assert record["workers"] == 3
    assert str(tiny_study) in capsys.readouterr().out
    assert studies.read("tiny") == record


def test_an_unknown_study_is_refused_with_the_names_of_the_others(tiny_study, capsys):
    main(["tiny"])
    with pytest.raises(ValueError, match="no record of a study called 'huge'; there are: tiny"):
        studies.read("huge")
    with pytest.raises(SystemExit):
        main(["huge"])
    assert "choose from" in capsys.readouterr().err


def test_a_record_is_written_in_full_and_a_list_of_numbers_on_one_line():
    record = {"a": [1.5, 2.0], "b": {"c": [[1, 2], [3, 4]], "d": [], "e": [{"f": ["x y", None]}]}, "g": "[ 1,  2 ]"}
    text = as_text(record)
    assert json.loads(text) == record
    assert ' "a": [1.5, 2.0],\n' in text
    assert "   [1, 2],\n" in text


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_an_interval_is_that_of_the_t_test(level):
    values = np.random.default_rng(0).normal(3, 2, size=6)
    mean, half = studies.interval(values, level)
    wanted = stats.ttest_1samp(values, 0).confidence_interval(level)
    np.testing.assert_allclose([mean - half, mean + half], wanted)


def test_intervals_hold_the_true_mean_as_often_as_they_say():
    draws = np.random.default_rng(1).normal(3, 2, size=(4000, 5))
    intervals = [studies.interval(values, 0.9) for values in draws]
    held = sum(abs(mean - 3) < half for mean, half in intervals)
    assert stats.binomtest(held, len(draws), 0.9).pvalue > 0.01


@pytest.mark.parametrize(
    ("values", "level", "words"),
    [
        ([1.0], 0.95, r"two values or more, got shape \(1,\)"),
        ([[1.0, 2.0]], 0.95, r"two values or more, got shape \(1, 2\)"),
        ([1.0, 2.0], 95, "level must be between 0 and 1, got 95"),
    ],
)
def test_an_interval_of_too_little_is_refused(values, level, words):
    with pytest.raises(ValueError, match=words):
        studies.interval(values, level)
