"""Whatever happens to network, mirror, disk or process: real data or the stand-in, never a half-file."""

import errno
import functools
import gzip
import hashlib
import multiprocessing
import os
import signal
import socket
import struct
import threading
from concurrent.futures import ProcessPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pooch
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from tqdm import tqdm

from lib.data import DataError, ImageSet, cache, load_fashion_mnist, load_mnist, mnist

LOADERS = [load_mnist, load_fashion_mnist]
SPLITS = ["train", "test"]


def idx(values: np.ndarray) -> bytes:
    """The idx file of an array of bytes, written from the format's description."""
    return bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


IMAGES = np.arange(6 * 28 * 28, dtype=np.uint8).reshape(6, 28, 28)
LABELS = np.array([5, 0, 4, 1, 9, 2], dtype=np.uint8)
BODIES = {"images.gz": gzip.compress(idx(IMAGES)), "labels.gz": gzip.compress(idx(LABELS))}


class Mirror(ThreadingHTTPServer):
    """A server on this machine with the two tiny files; `answer(handler, body)` says how it sends them."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.requests = []  # the names of the files asked for
        self.answer = whole

    def handle_error(self, request, client_address):
        """The client hung up: that is what some tests are about."""


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(200)
        self.end_headers()

    def do_GET(self):
        name = self.path.strip("/")
        self.server.requests.append(name)
        self.server.answer(self, BODIES[name])

    def log_message(self, *args):
        pass


def whole(handler, body):
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def half(handler, body):
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2])
    handler.wfile.flush()


def other_bytes(handler, body):
    whole(handler, body[:-1] + b"!")


def missing(handler, body):
    handler.send_error(404)


def files_at(*urls: str) -> dict[str, mnist.Split]:
    """The tiny data set, as served by these mirrors."""
    files = tuple(
        cache.File(f"tiny/{name}", hashlib.sha256(body).hexdigest(), tuple(f"{url}/{name}" for url in urls))
        for name, body in BODIES.items()
    )
    return {"train": files, "test": files}


@pytest.fixture(autouse=True)
def _as_in_a_new_process_without_internet(monkeypatch):
    resolve = socket.getaddrinfo

    def on_this_machine_only(host, *args, **kwargs):
        if host not in ("127.0.0.1", "localhost"):
            raise socket.gaierror(socket.EAI_NONAME, f"the tests asked for {host}")
        return resolve(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", on_this_machine_only)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(cache, "_hosts", {})
    monkeypatch.setattr(cache, "_told", set())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LOSSES_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def mirrors(folder, monkeypatch):
    """Two healthy mirrors of the tiny data set, which `load_mnist` takes for MNIST."""
    servers = [Mirror(), Mirror()]
    for server in servers:
        threading.Thread(target=functools.partial(server.serve_forever, poll_interval=0.01), daemon=True).start()
    monkeypatch.setattr(mnist, "MNIST", files_at(*(server.url for server in servers)))
    yield servers
    for server in servers:
        server.shutdown()
        server.server_close()


def closed_port() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def assert_tiny(data: ImageSet):
    assert data.is_real
    assert torch.equal(data.images, torch.from_numpy(IMAGES))
    assert torch.equal(data.labels, torch.from_numpy(LABELS).long())


def put(folder: Path, content: bytes, name: str = "images.gz"):
    """Write a file of the tiny data set into the cache."""
    (folder / "tiny").mkdir(parents=True, exist_ok=True)
    (folder / "tiny" / name).write_bytes(content)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file in the cache, hidden and temporary ones too."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_holds_nothing(folder: Path):
    assert contents(folder) == {}
    assert [path for path in folder.rglob("*") if path != folder / "tiny"] == []


def assert_holds_the_tiny_files_only(folder: Path):
    assert contents(folder) == {f"tiny/{name}": body for name, body in BODIES.items()}
    assert {path.name for path in folder.rglob("*")} == {"tiny", *BODIES}


# What a loader returns


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("split", ["validation", "Train", "", None, 0, ["train"]])
def test_a_wrong_split_is_refused_by_name(loader, split):
    with pytest.raises(ValueError, match='it must be "train" or "test"') as caught:
        loader(split)
    assert repr(split) in str(caught.value)


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("split", SPLITS)
def test_the_schema_is_the_same_for_the_real_data_and_the_stand_in(loader, split):
    data = loader(split)
    images, labels, source = data
    assert images.shape == (len(labels), 28, 28)
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64
    assert (images.min(), images.max()) == (0, 255)
    assert labels.unique().tolist() == list(range(10))
    assert f"{len(labels):,} images".replace(",", " ") in source
    assert "\n" not in source
    assert "/" not in source


@pytest.mark.parametrize("loader", LOADERS)
def test_every_load_returns_memory_of_its_own(loader):
    first, second = loader("test"), loader("test")
    first.images.fill_(7)
    first.labels.fill_(7)
    assert not torch.equal(first.images, second.images)
    assert not torch.equal(first.labels, second.labels)


@pytest.mark.parametrize(
    ("loader", "train_mean", "classes"),
    [
        (load_mnist, 33.3184, [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]),
        (load_fashion_mnist, 72.9404, [6000] * 10),
    ],
)
def test_the_real_data_are_the_published_ones(loader, train_mean, classes):
    train, test = loader("train"), loader("test")
    if not (train.is_real and test.is_real):
        pytest.skip(f"the real data are not in the cache: {train.source}")
    assert (len(train.labels), len(test.labels)) == (60_000, 10_000)
    assert train.images.double().mean().item() == pytest.approx(train_mean, abs=5e-5)
    assert train.labels.bincount().tolist() == classes


# The stand-ins


@pytest.fixture
def stand_ins(folder):
    """`stand_ins(loader)`: its training and test part, where there is neither cache nor network."""
    return lambda loader: [loader(split) for split in SPLITS]


@pytest.mark.parametrize("loader", LOADERS)
def test_a_stand_in_says_that_it_is_none_of_the_real_data(loader, stand_ins):
    for data in stand_ins(loader):
        assert not data.is_real
        assert "Stand-in" in data.source


@pytest.mark.parametrize("loader", LOADERS)
def test_a_stand_in_is_deterministic_and_leaves_the_random_generators_alone(loader, stand_ins):
    torch.manual_seed(1)
    np.random.seed(1)
    before = stand_ins(loader)
    drawn = torch.rand(1), np.random.rand()
    torch.manual_seed(1)
    np.random.seed(1)
    assert (torch.rand(1), np.random.rand()) == drawn
    for one, other in zip(before, stand_ins(loader), strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)
        assert one.source == other.source


@pytest.mark.parametrize("loader", LOADERS)
def test_no_image_of_a_stand_in_is_in_both_parts(loader, stand_ins):
    train, test = stand_ins(loader)
    seen = {image.numpy().tobytes() for image in train.images}
    assert not any(image.numpy().tobytes() in seen for image in test.images)


@pytest.mark.parametrize("loader", LOADERS)
def test_a_linear_model_learns_a_stand_in_but_not_perfectly(loader, stand_ins):
    train, test = ((data.images.flatten(1).numpy() / 255, data.labels.numpy()) for data in stand_ins(loader))
    assert 0.8 < LogisticRegression(max_iter=300).fit(*train).score(*test) < 0.97


def test_mnists_stand_in_is_all_of_scikit_learns_digits_in_mnists_layout(stand_ins):
    train, test = stand_ins(load_mnist)
    assert torch.equal(torch.cat([train.labels, test.labels]), torch.from_numpy(load_digits().target).long())
    for images in (train.images, test.images):
        margin = images.clone()
        margin[:, 4:24, 4:24] = 0
        assert margin.max() == 0
        assert (images[:, 4:24, 4:24].amax((1, 2)) > 0).all()


# The idx format


@pytest.mark.parametrize(("values", "item"), [(IMAGES, (28, 28)), (LABELS, ()), (IMAGES[:0], (28, 28))])
def test_parsing_undoes_writing(values, item):
    assert torch.equal(mnist.parse_idx(idx(values), item), torch.from_numpy(values))


def test_every_truncation_and_every_extension_of_an_idx_file_is_refused():
    content = idx(LABELS)
    for length in range(len(content)):
        with pytest.raises(ValueError, match="idx file"):
            mnist.parse_idx(content[:length], ())
    with pytest.raises(ValueError, match=r"announces 6 values .* holds 7"):
        mnist.parse_idx(content + b"\0", ())


@pytest.mark.parametrize("byte", range(4))
def test_every_wrong_byte_in_the_magic_number_is_refused(byte):
    content = bytearray(idx(LABELS))
    content[byte] ^= 1
    with pytest.raises(ValueError, match="starts with 00 00 08 01"):
        mnist.parse_idx(bytes(content), ())


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"shape \(27, 28\); \(28, 28\) is wanted"):
        mnist.parse_idx(idx(IMAGES[:, 1:]), (28, 28))


def test_images_without_a_label_each_are_refused(folder, monkeypatch):
    bodies = {**BODIES, "labels.gz": gzip.compress(idx(LABELS[1:]))}
    files = tuple(cache.File(f"tiny/{name}", hashlib.sha256(body).hexdigest(), ()) for name, body in bodies.items())
    monkeypatch.setattr(mnist, "MNIST", {"train": files})
    for name, body in bodies.items():
        put(folder, body, name)
    with pytest.raises(ValueError, match="MNIST, train: 6 images, but 5 labels"):
        load_mnist("train")


# The cache


def test_a_download_is_kept_and_the_cache_alone_serves_the_next_load(folder, mirrors, capsys):
    assert_tiny(load_mnist("train"))
    assert_holds_the_tiny_files_only(folder)
    assert [mirror.requests for mirror in mirrors] == [list(BODIES), []]
    capsys.readouterr()
    assert_tiny(load_mnist("train"))
    assert [mirror.requests for mirror in mirrors] == [list(BODIES), []]
    assert capsys.readouterr() == ("", "")


def test_a_read_only_cache_that_holds_the_files_needs_no_network(folder, mirrors, monkeypatch):
    load_mnist("train")
    monkeypatch.setattr(mnist, "MNIST", files_at(closed_port()))
    for name in ("mkdir", "write_bytes", "replace", "unlink"):
        monkeypatch.setattr(Path, name, refuse)
    assert_tiny(load_mnist("train", fallback=False))


def refuse(*args, **kwargs):
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


@pytest.mark.parametrize("damage", [b"", b"no such bytes", BODIES["images.gz"][:-1], BODIES["images.gz"] + b"\0"])
def test_a_damaged_file_in_the_cache_is_replaced(folder, mirrors, damage):
    put(folder, damage)
    assert_tiny(load_mnist("train"))
    assert_holds_the_tiny_files_only(folder)


def test_a_file_that_is_damaged_between_two_loads_is_replaced(folder, mirrors):
    load_mnist("train")
    put(folder, b"damaged later")
    assert_tiny(load_mnist("train"))
    assert_holds_the_tiny_files_only(folder)


def test_a_file_in_the_cache_is_as_readable_for_others_as_any_new_file(folder, mirrors, tmp_path):
    load_mnist("train")
    (tmp_path / "any").touch()
    assert (folder / "tiny" / "images.gz").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_the_cache_folder_is_the_one_named_else_the_users(monkeypatch):
    monkeypatch.setenv("LOSSES_DATA", str(Path("~", "course")))
    assert cache.cache_folder() == Path.home() / "course"
    for unset in (lambda: monkeypatch.setenv("LOSSES_DATA", ""), lambda: monkeypatch.delenv("LOSSES_DATA")):
        unset()
        assert cache.cache_folder() == pooch.os_cache("loss-functions-course")


def test_the_progress_bar_counts_the_bytes_of_a_download_and_only_of_a_download(mirrors, monkeypatch):
    bars = []
    monkeypatch.setattr(cache, "tqdm", lambda **options: bars.append(tqdm(**options)) or bars[-1])
    load_mnist("train")
    load_mnist("train")
    assert [(bar.n, bar.total) for bar in bars] == [(len(body), len(body)) for body in BODIES.values()]


# Mirrors


@pytest.mark.parametrize("fault", [half, other_bytes, missing])
def test_a_faulty_first_mirror_costs_nothing_but_time(folder, mirrors, fault):
    mirrors[0].answer = fault
    assert_tiny(load_mnist("train", fallback=False))
    assert_holds_the_tiny_files_only(folder)
    assert mirrors[1].requests == list(BODIES)


def test_a_mirror_that_nobody_can_reach_costs_nothing_but_time(folder, mirrors, monkeypatch):
    monkeypatch.setattr(mnist, "MNIST", files_at("http://mirror.invalid", closed_port(), mirrors[0].url))
    assert_tiny(load_mnist("train", fallback=False))


@pytest.mark.parametrize("fault", [half, other_bytes, missing])
def test_a_download_that_fails_once_is_tried_again(folder, mirrors, monkeypatch, fault):
    def once(handler, body):
        mirrors[0].answer = whole
        fault(handler, body)

    mirrors[0].answer = once
    monkeypatch.setattr(mnist, "MNIST", files_at(mirrors[0].url))
    assert_tiny(load_mnist("train", fallback=False))
    assert mirrors[0].requests == ["images.gz", *BODIES]


def test_after_one_file_that_cannot_be_had_no_other_is_asked_for(mirrors):
    for mirror in mirrors:
        mirror.answer = missing
    assert not load_mnist("train").is_real
    assert {name for mirror in mirrors for name in mirror.requests} == {"images.gz"}


# Faults that leave no way but the stand-in


def every_mirror(answer):
    def arrange(mirrors, patch):
        for mirror in mirrors:
            patch.setattr(mirror, "answer", answer)

    return arrange


def no_network(mirrors, patch):
    patch.setattr(mnist, "MNIST", files_at(closed_port()))


def no_names(mirrors, patch):
    patch.setattr(mnist, "MNIST", files_at("http://mirror.invalid"))


def disk_full_while_writing(mirrors, patch):
    def write_half(path, content):
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        disk_full()

    patch.setattr(Path, "write_bytes", write_half)


def disk_full_while_renaming(mirrors, patch):
    patch.setattr(Path, "replace", disk_full)


def disk_full(*args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_permission(mirrors, patch):
    patch.setattr(cache.tempfile, "mkdtemp", refuse)


def below_a_file(mirrors, patch):
    file = Path(os.environ["LOSSES_DATA"]).with_name("file")
    file.touch()
    patch.setenv("LOSSES_DATA", str(file / "cache"))


FAULTS = {
    "short read": (every_mirror(half), "the download broke off"),
    "wrong checksum": (every_mirror(other_bytes), "wrong checksum"),
    "not found": (every_mirror(missing), "status 404"),
    "no network": (no_network, "no connection"),
    "no name look-up": (no_names, "mirror.invalid: no connection"),
    "disk full while writing": (disk_full_while_writing, "cannot be stored"),
    "disk full while renaming": (disk_full_while_renaming, "cannot be stored"),
    "no permission to write": (no_permission, "cannot be stored"),
    "cache below a file": (below_a_file, "cannot be stored"),
}


@pytest.mark.parametrize("cached", [None, b"", BODIES["images.gz"][:100]], ids=["no file", "empty file", "half a file"])
@pytest.mark.parametrize(("arrange", "cause"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_ends_in_the_stand_in_and_leaves_nothing_behind(
    folder, mirrors, monkeypatch, capsys, arrange, cause, cached
):
    elsewhere = arrange is below_a_file  # then the loader never sees what lies in `folder`
    if cached is not None and not elsewhere:
        put(folder, cached)
    with monkeypatch.context() as patch:
        arrange(mirrors, patch)
        assert not load_mnist("train").is_real
        message = capsys.readouterr().err
        assert "MNIST is not available, so a small stand-in takes its place." in message
        assert cause in message
        assert "set LOSSES_DATA to a folder" in message
        with pytest.raises(DataError) as caught:
            load_mnist("train", fallback=False)
        assert str(caught.value) in message
    assert_holds_nothing(folder)
    assert_tiny(load_mnist("train"))
    assert_holds_the_tiny_files_only(folder)


def test_a_damaged_file_that_cannot_be_removed_is_not_trusted(folder, mirrors, monkeypatch):
    put(folder, b"damaged")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        patch.setattr(cache.tempfile, "mkdtemp", refuse)
        assert not load_mnist("train").is_real
    assert_tiny(load_mnist("train"))


def test_the_message_names_every_mirror_with_its_own_cause(mirrors):
    mirrors[0].answer, mirrors[1].answer = missing, other_bytes
    with pytest.raises(DataError) as caught:
        load_mnist("train", fallback=False)
    for mirror, cause in zip(mirrors, ["status 404", "wrong checksum"], strict=True):
        assert f"127.0.0.1:{mirror.server_port}: {cause}" in str(caught.value)


def test_the_message_comes_once_for_each_data_set(folder, capsys):
    for loader in LOADERS * 2:
        loader("train")
        loader("test")
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" is not")[0] for line in lines] == ["MNIST", "Fashion-MNIST"]


def test_a_host_that_does_not_answer_is_asked_once_in_a_process(folder, monkeypatch, capsys):
    monkeypatch.setattr(cache, "CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(mnist, "MNIST", files_at(f"http://127.0.0.1:{silent.getsockname()[1]}"))
        assert not load_mnist("train").is_real
        assert "no answer in time" in capsys.readouterr().err
        assert not load_mnist("test").is_real
        silent.settimeout(0)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()
    assert_holds_nothing(folder)


def test_a_name_look_up_that_hangs_is_not_waited_for(folder, monkeypatch):
    over, ended = threading.Event(), threading.Event()

    def hang(host, *args, **kwargs):
        over.wait(60)
        ended.set()
        raise socket.gaierror(socket.EAI_AGAIN, host)

    monkeypatch.setattr(cache, "CONNECT_SECONDS", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", hang)
    assert not load_mnist("train").is_real
    assert not ended.is_set()
    over.set()
    assert ended.wait(60)


# Processes


def test_an_interrupt_in_mid_download_leaves_nothing(folder, mirrors, monkeypatch):
    over = threading.Event()

    def interrupt(handler, body):
        half(handler, body)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        over.wait(60)

    mirrors[0].answer = interrupt
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            load_mnist("train")
    finally:
        signal.signal(signal.SIGINT, handler)
        over.set()
    assert_holds_nothing(folder)
    mirrors[0].answer = whole
    assert_tiny(load_mnist("train"))


def test_a_process_killed_in_mid_download_leaves_no_file(folder, mirrors):
    halfway, over = threading.Event(), threading.Event()

    def stop_halfway(handler, body):
        half(handler, body)
        halfway.set()
        over.wait(60)

    mirrors[0].answer = stop_halfway
    child = multiprocessing.get_context("spawn").Process(target=cache.fetch, args=mnist.MNIST["train"][:1])
    child.start()
    assert halfway.wait(60)
    child.kill()
    child.join()
    over.set()
    assert contents(folder) == {}
    mirrors[0].answer = whole
    assert_tiny(load_mnist("train"))


def test_two_processes_may_download_the_same_file_at_once(folder, mirrors):
    both = threading.Barrier(2)

    def together(handler, body):
        both.wait(60)
        whole(handler, body)

    mirrors[0].answer = together
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        fetched = list(pool.map(cache.fetch, mnist.MNIST["train"][:1] * 2))
    assert fetched == [BODIES["images.gz"]] * 2
    assert mirrors[0].requests == ["images.gz"] * 2
    assert contents(folder) == {"tiny/images.gz": BODIES["images.gz"]}
