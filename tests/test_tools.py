"""The tool that executes a notebook: what it saves is clean, and what may not be committed is not saved."""

import runpy
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook

execute = runpy.run_path(str(Path(__file__).parent.parent / "tools" / "execute_notebook.py"))["execute"]


def save(folder: Path, source: str) -> Path:
    cell = new_code_cell(source, metadata={"tags": ["kept"], "collapsed": True})
    path = folder / "notebook.ipynb"
    nbformat.write(new_notebook(cells=[cell], metadata={"widgets": {}}), path)
    return path


def test_an_executed_notebook_has_its_outputs_and_clean_metadata(tmp_path):
    path = save(tmp_path, "print('one')\nprint('two')")
    execute(path)
    notebook = nbformat.read(path, as_version=4)
    assert [output.text for output in notebook.cells[0].outputs] == ["one\ntwo\n"]
    assert notebook.cells[0].execution_count == 1
    assert notebook.cells[0].metadata == {"tags": ["kept"]}
    assert set(notebook.metadata) == {"kernelspec", "language_info"}


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("import sys; print('a stand-in', file=sys.stderr)", SystemExit, "is not saved, as a cell wrote to stderr"),
        ("1 / 0", CellExecutionError, "ZeroDivisionError"),
    ],
)
def test_a_notebook_that_warns_or_fails_is_left_as_it_was(tmp_path, source, error, message):
    path = save(tmp_path, source)
    before = path.read_bytes()
    with pytest.raises(error, match=message):
        execute(path)
    assert path.read_bytes() == before
