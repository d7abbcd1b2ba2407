"""The records of the studies: each has its study, and says when and on what it was made."""

import datetime
import json
import pkgutil

import pytest

from lib import studies
from lib.studies.__main__ import main

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
