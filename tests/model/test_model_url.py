"""A model file at a URL: fetched once, checked before it is opened, and what each failure says in one line."""

from __future__ import annotations

import hashlib
import http.server
import itertools
import json
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import fsspec
import numpy as np
import pytest
from moto.server import ThreadedMotoServer

from tests.command_line import Command, written
from tests.models import L, sequential
from worker import StreamingModel
from worker.assembly.model_digest import model_sha256
from worker.config import load_config
from worker.errors import WorkerError
from worker.model.files import fetching
from worker.model.files.fetching import cache_folder, located
from worker.model.files.loading import load_model
from worker.records.names import joint_digest

DATA = b"the bytes of a model"
DIGEST, OTHER = hashlib.sha256(DATA).hexdigest(), "0" * 64


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one, of this test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "rnn-stream-worker" / "models"


def put(url: str, data: bytes = DATA) -> str:
    with fsspec.open(url, "wb") as file:
        file.write(data)
    return url


def delete(url: str) -> None:
    files, path = fsspec.core.url_to_fs(url)
    files.rm(path)


class Web(http.server.ThreadingHTTPServer):
    """``files``: what each path answers, as (status, body); None never answers. ``asked``: requests so far."""

    daemon_threads = True

    def __init__(self) -> None:
        self.files: dict[str, tuple[int, bytes] | None] = {}
        self.asked: list[str] = []
        self.over = threading.Event()
        super().__init__(("127.0.0.1", 0), Answering)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answering(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Web)
        self.server.asked.append(self.path)
        found = self.server.files.get(self.path.partition("?")[0], (404, b""))
        if found is None:
            self.server.over.wait()
            return
        self.send_response(found[0])
        if found[0] == 302:
            self.send_header("Location", found[1].decode())
        self.send_header("Content-Length", str(len(found[1])))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(found[1])

    do_HEAD = do_GET  # noqa: N815 (its name is the base class's)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is printed."""


@pytest.fixture
def web() -> Iterator[Web]:
    with Web() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket, which fsspec finds by the environment."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    boto3.client("s3").create_bucket(Bucket="models")
    yield "s3://models"
    server.stop()


def why(path: str, sha256: str | None = None, limit_s: float = 60.0) -> str:
    with pytest.raises(WorkerError) as refused:
        located(path, sha256, limit_s)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_with_its_digest_it_is_fetched_once(cache: Path, tmp_path: Path) -> None:
    url = put(f"memory://{tmp_path.name}/door.keras")
    for asked in ((f"{url}#{DIGEST}", None), (url, DIGEST), (f"{url}#{DIGEST.upper()}", f" {DIGEST} ")):
        found = located(*asked)
        assert (found.path, found.sha256, found.shown) == (cache / DIGEST, DIGEST, url)
        assert found.path.read_bytes() == DATA
    delete(url)
    assert located(f"{url}#{DIGEST}").path.read_bytes() == DATA
    (cache / DIGEST).write_bytes(b"damaged")
    assert why(f"{url}#{DIGEST}") == f"model {url}: there is no such file; check model.path"
    put(url)
    assert located(f"{url}#{DIGEST}").path.read_bytes() == DATA
    assert [each.name for each in cache.iterdir()] == [DIGEST]
    assert cache.stat().st_mode & 0o777 == 0o700


def test_without_a_digest_it_is_what_is_there_now(cache: Path, tmp_path: Path) -> None:
    url = put(f"memory://{tmp_path.name}/door.keras")
    assert located(url).sha256 == DIGEST
    put(url, b"another model")
    assert located(url).path.read_bytes() == b"another model"
    delete(url)
    assert why(url) == f"model {url}: there is no such file; check model.path"


def test_another_file_is_never_taken(cache: Path, tmp_path: Path) -> None:
    url = put(f"memory://{tmp_path.name}/door.keras")
    refused = f"model {url}: its SHA-256 is {DIGEST}, not {OTHER}; it was not opened"
    assert why(f"{url}#{OTHER}") == why(url, OTHER) == refused
    assert why(f"memory://{tmp_path.name}") == (
        f"model memory://{tmp_path.name}: this is a folder; name the model file in it"
    )
    assert list(cache.iterdir()) == []
    assert why(f"{url}#{OTHER}", DIGEST) == (
        f"model {url}: its URL names the SHA-256 {OTHER}, model.sha256 says {DIGEST}"
    )
    assert why(f"{url}#latest") == (
        f"model {url}: what follows # should be the file's SHA-256, 64 hex digits, not 'latest'"
    )


def test_a_file_of_this_machine_is_not_copied(cache: Path, tmp_path: Path) -> None:
    file = tmp_path / "a door.keras"
    for asked in (str(file), file, f"file://{tmp_path}/a%20door.keras", f"local://{tmp_path}/a door.keras"):
        assert located(asked, OTHER) == (file, OTHER, str(file))
    assert located(f"{file.as_uri()}#{DIGEST}") == (file, DIGEST, str(file))
    assert why("file://elsewhere/door.keras") == (
        "model file://elsewhere/door.keras: names another machine; a file is file:///path"
    )
    assert not cache.exists()
    file.write_bytes(DATA)
    with pytest.raises(WorkerError, match=rf"a door.keras: its SHA-256 is {DIGEST}, model.sha256 says {OTHER}"):
        load_model(f"{file.as_uri()}#{OTHER}")


def test_over_http(web: Web, cache: Path) -> None:
    web.files = {"/door.keras": (200, DATA), "/secret.keras": (403, b"no"), "/broken.keras": (500, b"")}
    found = located(f"{web.url}/door.keras?signature=abc#{DIGEST}")
    assert (found.path.read_bytes(), found.shown) == (DATA, f"{web.url}/door.keras")
    assert any("signature=abc" in each for each in web.asked)
    asked = len(web.asked)
    located(f"{web.url}/door.keras?signature=abc#{DIGEST}")
    assert len(web.asked) == asked
    assert why(f"{web.url}/gone.keras") == f"model {web.url}/gone.keras: there is no such file; check model.path"
    denied = why(f"{web.url}/secret.keras?signature=abc")
    assert re.fullmatch(
        rf"model {web.url}/secret.keras: access is denied \(403.*\); give this user the right to read it", denied
    )
    assert "abc" not in denied
    assert why(f"{web.url}/broken.keras").startswith(f"model {web.url}/broken.keras: can't be read (")
    assert why("http://127.0.0.1:1/door.keras").startswith("model http://127.0.0.1:1/door.keras: can't be read (")
    assert [each.name for each in cache.iterdir()] == [DIGEST]


SIGNATURES = (
    "?signature=SECRET",
    "?signature=%53ECRET%2f%7e&key=a%20SECRET",
    "?a=1?SECRET",
    "?to=u:SECRET@h",
    "?'SECRET'",
)


@pytest.mark.parametrize("query", SIGNATURES)
@pytest.mark.parametrize("user", ["", "me:SECRET@", "me:SEC%52ET@"])
@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_secrets_of_a_url_are_never_told(web: Web, status: int, user: str, query: str) -> None:
    web.files = {"/door.keras": (status, b"no"), "/moved.keras": (302, f"/door.keras{query}&SECRET".encode())}
    for path, host in itertools.product(("door", "moved"), ("127.0.0.1", "LocalHost")):
        told = why(f"http://{user}{host}:{web.server_port}/{path}.keras{query}")
        assert told.startswith(f"model http://{host}:{web.server_port}/{path}.keras: ")
        assert not re.search("(?i)secret|sec%52et|%53ecret|signature|me:|@", told)
    assert any("SECRET" in each for each in web.asked)


def test_neither_are_those_of_a_url_that_is_none() -> None:
    for url in (
        "http://127.0.0.1:1/x.keras?SECRET",
        "http://me:SE@CRET@127.0.0.1:1/x",
        "http://127.0.0.1:x/y?SECRET@1",
    ):
        assert not re.search("SECRET|CRET@", why(url))
    assert "SECRET" not in why("http://127.0.0.1/x.keras#latest?SECRET")


def test_copies_that_another_process_deletes_meanwhile(cache: Path, tmp_path: Path) -> None:
    """Workers that share a cache and start at once, each with a model of its own."""
    url = put(f"memory://{tmp_path.name}/door.keras")
    located(url)
    going = [cache / f"{number:064x}" for number in range(50)]
    stop = threading.Event()

    def disturb() -> None:
        while not stop.is_set():
            for each in going:
                each.write_bytes(b"")
            for each in going:
                each.unlink(missing_ok=True)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        for _ in range(50):
            assert located(url).path.exists()
    finally:
        stop.set()
        thread.join()


def test_one_that_never_answers_is_given_up(web: Web, cache: Path) -> None:
    web.files = {"/door.keras": None}
    assert why(f"{web.url}/door.keras", limit_s=0.5) == (
        f"model {web.url}/door.keras: it was not read within 0.5 s; put it nearer, or on this machine"
    )
    assert list(cache.iterdir()) == []


def test_in_a_bucket(s3: str, cache: Path) -> None:
    boto3.client("s3").put_object(Bucket="models", Key="doors/7.keras", Body=DATA)
    url = f"{s3}/doors/7.keras"
    assert located(f"{url}#{DIGEST}").path.read_bytes() == DATA
    assert located(url).sha256 == DIGEST
    assert why(f"{s3}/doors/8.keras") == f"model {s3}/doors/8.keras: there is no such file; check model.path"
    assert why(f"{s3}/doors") == f"model {s3}/doors: there is no such file; check model.path"


def test_how_large_it_may_be(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "FETCH_LIMIT_BYTES", len(DATA) - 1)
    web.files = {"/door.keras": (200, DATA)}
    for url in (put(f"memory://{tmp_path.name}/door.keras"), f"{web.url}/door.keras"):
        assert why(url) == f"model {url}: more than the limit of {len(DATA) - 1:,} bytes"


def test_a_protocol_that_is_unknown() -> None:
    assert why("nope://bucket/door.keras") == (
        "model nope://bucket/door.keras: nope:// can't be used (ValueError: Protocol not known: nope); "
        "use the path of a file, or a URL such as s3://bucket/model.keras"
    )


def test_only_the_last_copies_are_kept_and_no_parts(cache: Path, tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/door.keras"
    digests = []
    for number in range(fetching.CACHED_FILES + 2):
        digests.append(located(put(url, b"%d" % number)).path.name)
        os.utime(cache / digests[-1], (number, number))
    part = cache / "left.part"
    part.write_bytes(b"half")
    os.utime(part, (1, 1))
    (cache / "notes").write_bytes(b"not ours")
    located(put(url))
    kept = {each.name for each in cache.iterdir()}
    assert kept == {*digests[-fetching.CACHED_FILES + 1 :], DIGEST, "notes"}


def test_where_there_is_no_home_copies_are_with_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file where the folder would be")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert cache_folder() == tmp_path / f"rnn-stream-worker-{os.getuid()}" / "models"
    assert located(put(f"memory://{tmp_path.name}/door.keras")).path.parent == cache_folder()


def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 12345678)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    url = put(f"memory://{tmp_path.name}/door.keras")
    assert "no copy can be made on this machine" in why(url)
    assert "belongs to another user" in why(url)


def test_a_model_is_loaded_from_its_url(tmp_path: Path) -> None:
    file = tmp_path / "door.keras"
    sequential(L.LSTM(4), L.Dense(1)).save(file)
    url = put(f"memory://{tmp_path.name}/door.keras", file.read_bytes())
    model, same = StreamingModel.load(f"{url}#{sha256(file)}"), StreamingModel.load(file)
    assert model.sha256 == same.sha256 == sha256(file)
    x = np.ones((2, 3), np.float32)
    assert (model.step(x, model.zero_states(2))[0] == same.step(x, same.zero_states(2))[0]).all()
    put(url, b"<html>")
    with pytest.raises(WorkerError, match=f"^model {url}: this is not a Keras model file but a web page"):
        StreamingModel.load(url)


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_commands_take_it(command: Command, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "door.keras"
    sequential(L.LSTM(4), L.Dense(1)).save(file)
    url = put(f"memory://{tmp_path.name}/door.keras", file.read_bytes())
    unpinned = command("check", "-c", written(tmp_path, model__path=url), "--json")
    assert unpinned.status == 0, unpinned.err
    assert json.loads(unpinned.out)["sha256"] == sha256(file)
    assert f"model.path: {url} names no SHA-256, so another file there" in caplog.text
    caplog.clear()
    pinned = written(tmp_path, model__path=f"{url}#{sha256(file)}")
    (tmp_path / "in.jsonl").write_text('{"key": "a", "value": {"ax": 1, "ay": 2, "az": 3}}\n')
    replayed = command("replay", "-c", pinned, "--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out"))
    assert replayed.status == 0, replayed.err
    assert "names no SHA-256" not in caplog.text
    assert json.loads((tmp_path / "out").read_text())["value"]["model"] == sha256(file)[:12]
    exported = command("export", "-c", pinned, "--output", str(tmp_path / "step.keras"))
    assert exported.status == 0, exported.err
    wrong = command("check", "-c", written(tmp_path, model__path=f"{url}#{OTHER}"))
    assert (wrong.status, f"its SHA-256 is {sha256(file)}, not {OTHER}" in wrong.out + wrong.err) == (1, True)


def test_the_digest_of_a_configuration(tmp_path: Path) -> None:
    """As checkpoints name the model; what a URL pins is not fetched for it."""

    def digest(path: object, **keys: Any) -> str:
        return model_sha256(load_config(Path(written(tmp_path, model__path=path, **keys)), {}))

    url = put(f"memory://{tmp_path.name}/door.keras")
    assert digest(url) == DIGEST
    assert digest(f"memory://{tmp_path.name}/nowhere#{OTHER}") == OTHER
    pair = {"encoder": f"memory://x/e#{DIGEST}", "decoder": f"memory://x/d#{OTHER}"}
    more = {"model__task": "seq2seq", "model__start": 0, "model__stop": 1, "sequence__length": 1}
    assert digest(pair, **more) == joint_digest([DIGEST, OTHER])
