"""Fixtures of several tests."""

import pytest

from lib.data import cache


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """An empty cache of data sets, no network, and a loader that has not told anyone of its stand-in yet."""
    monkeypatch.setenv("LOSSES_DATA", str(tmp_path))
    monkeypatch.setattr(cache, "_ask", lambda urls: {cache._host(url): "no connection" for url in urls})
    monkeypatch.setattr(cache, "_told", set())
    return tmp_path
