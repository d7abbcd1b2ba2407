"""Files with a known SHA-256: from the data cache, else from a mirror.

A loader describes its files (`File`) and hands them to `load` with two functions: one turns their bytes into the data
set, the other makes a stand-in where the files cannot be had. No byte reaches a loader, or a name in the cache, before
its checksum is right.
"""

import contextlib
import hashlib
import io
import os
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import requests
from tqdm import TqdmWarning, tqdm

with warnings.catch_warnings():
    # pooch imports tqdm.auto, which tells every reader of a notebook to install ipywidgets; we bring our own bar.
    warnings.simplefilter("ignore", TqdmWarning)
    import pooch

CONNECT_SECONDS = 5.0  # how long a mirror may take to answer
READ_SECONDS = 30.0  # how long it may pause within a file
ATTEMPTS = 2  # rounds over the mirrors

STAND_IN = "Stand-in for"  # how the source of every stand-in begins

_hosts: dict[str, str | None] = {}  # what `_ask` has learnt in this process
_told: set[str] = set()  # the data sets whose stand-in has been announced in this process

T = TypeVar("T")


class DataError(RuntimeError):
    """A file of a data set can neither be read nor downloaded; the message says why and what to do."""


@dataclass(frozen=True)
class File:
    """A file of a data set.

    Args:
        path: Where it lies within the cache folder, with forward slashes.
        sha256: Its SHA-256, in hexadecimal.
        mirrors: The addresses that serve it, best first.
    """

    path: str
    sha256: str
    mirrors: tuple[str, ...]

    def matches(self, content: bytes) -> bool:
        """Whether these are the bytes of the file."""
        return hashlib.sha256(content).hexdigest() == self.sha256


def load(
    name: str, files: Sequence[File], parse: Callable[..., T], stand_in: Callable[[], T], *, fallback: bool = True
) -> T:
    """Return a data set from its files, or its stand-in where they cannot be had.

    Args:
        name: The data set, as the message on stderr names it (once per process).
        files: What it consists of.
        parse: Called with the bytes of each file, in the order of ``files``.
        stand_in: Called instead of ``parse`` if any of the files is missing.
        fallback: Whether to use the stand-in, or to raise.

    Returns:
        What ``parse`` or ``stand_in`` returns.

    Raises:
        DataError: A file cannot be had and ``fallback`` is False.
    """
    try:
        contents = [fetch(file) for file in files]
    except DataError as error:
        if not fallback:
            raise
        if name not in _told:
            _told.add(name)
            print(f"{name} is not available, so a small stand-in takes its place. {error}", file=sys.stderr)
        return stand_in()
    return parse(*contents)


def fetch(file: File) -> bytes:
    """Return the bytes of a file from the cache, else from a mirror, which also puts it into the cache.

    Args:
        file: What to fetch.

    Returns:
        The whole content, its SHA-256 verified on every call.

    Raises:
        DataError: No mirror has it, or the cache cannot be written.
    """
    path = cache_folder() / file.path
    with contextlib.suppress(OSError):  # not there, or not readable: the same to us
        content = path.read_bytes()
        if file.matches(content):
            return content
        path.unlink()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Made before the download, so that a folder that cannot be written is found out before the wait. A process
        # that is killed leaves no half-file either: the download stays in memory until it is verified.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".download-") as folder:
            content = _download(file)
            temporary = Path(folder, path.name)
            temporary.write_bytes(content)
            temporary.replace(path)  # atomic: another process sees the whole file or none
    except OSError as error:
        raise DataError(
            f"{file.path} cannot be stored in {cache_folder()} ({error.strerror or error}). "
            "Make room there, or set LOSSES_DATA to a folder you can write to."
        ) from error
    return content


def cache_folder() -> Path:
    """Return the folder that ``LOSSES_DATA`` names, by default one in the user's cache."""
    named = os.environ.get("LOSSES_DATA")
    return Path(named).expanduser() if named else pooch.os_cache("loss-functions-course")


def _download(file: File) -> bytes:
    """The verified bytes from the first mirror that serves them."""
    reasons = _ask(file.mirrors)
    for url in [url for url in file.mirrors if not reasons[_host(url)]] * ATTEMPTS:
        try:
            content = _get(url)
        except requests.RequestException as error:
            reasons[_host(url)] = _in_plain_words(error)
            continue
        if file.matches(content):
            return content
        reasons[_host(url)] = "wrong checksum"
    listed = "; ".join(f"{host}: {reason}" for host, reason in reasons.items())
    raise DataError(
        f"{file.path} cannot be downloaded ({listed}). Check the internet connection and restart Python (in a "
        "notebook: the kernel), or set LOSSES_DATA to a folder that holds the file."
    )


def _get(url: str) -> bytes:
    """What a mirror serves, unverified; a progress bar on stderr while it does."""
    content = io.BytesIO()
    # pooch sets the total as soon as the mirror tells it; until then tqdm wants one, or it counts as false.
    with tqdm(desc=url.rpartition("/")[-1], total=1, unit="B", unit_scale=True, leave=False) as bar:
        download = pooch.HTTPDownloader(progressbar=bar, chunk_size=2**16, timeout=(CONNECT_SECONDS, READ_SECONDS))
        download(url, content, None)
    return content.getvalue()


def _ask(urls: Sequence[str]) -> dict[str, str | None]:
    """Why each host is of no use, or None where it answers.

    All are asked at once, each once per process, within CONNECT_SECONDS in all. A timeout of requests alone would not
    do: it counts anew for each of a host's addresses, a dozen or more for the big stores, and not at all for the name
    look-up; behind a firewall that drops packets this adds up to minutes.
    """

    def ask(host: str, url: str) -> None:
        try:
            requests.head(url, timeout=CONNECT_SECONDS)
            found[host] = None
        except requests.RequestException as error:
            found[host] = _in_plain_words(error)

    found: dict[str, str | None] = {}
    new = {host: url for url in urls if (host := _host(url)) not in _hosts}
    threads = [threading.Thread(target=ask, args=item, daemon=True) for item in new.items()]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + CONNECT_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    for host in new:
        _hosts[host] = found.get(host, "no answer in time")
    return {host: _hosts[host] for host in map(_host, urls)}


def _host(url: str) -> str:
    return urlsplit(url).netloc


def _in_plain_words(error: requests.RequestException) -> str:
    """Why a request failed, short enough for a list of mirrors."""
    if error.response is not None:
        return f"status {error.response.status_code}"
    kinds = {
        requests.exceptions.SSLError: "its certificate is not accepted",
        requests.exceptions.ProxyError: "the proxy refuses",
        requests.exceptions.Timeout: "no answer in time",
        requests.exceptions.ConnectionError: "no connection",
        requests.exceptions.ChunkedEncodingError: "the download broke off",
    }
    return next((words for kind, words in kinds.items() if isinstance(error, kind)), type(error).__name__)
