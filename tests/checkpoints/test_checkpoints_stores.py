"""One contract, three stores: a folder, memory, and S3 as a real server of it speaks it; then what only a store far
away can do: be slow, answer nonsense, or not answer."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.checkpoints.test_checkpoints import (
    CREATED,
    DEADLINE_S,
    GROUP,
    IDENTITY,
    PARTITION,
    SMALL,
    SPECS,
    make_state,
    outcome,
    plain,
)
from tests.conftest import eventually
from worker.checkpoints import remote
from worker.checkpoints.contracts import Store
from worker.checkpoints.folder import CheckpointStore
from worker.checkpoints.names import STALE_TEMPORARY_S
from worker.checkpoints.objects import ObjectStore
from worker.checkpoints.opening import open_store
from worker.checkpoints.remote import MAX_HANGING_CALLS, StoreLimits
from worker.checkpoints.writer import CheckpointWriter
from worker.errors import (
    CheckpointUnusableError,
    ConfigError,
    InputChangedError,
    ModelChangedError,
    StoreUnavailableError,
    WorkerError,
)
from worker.records.ownership import Partition
from worker.records.states import PartitionState

SHORT = StoreLimits(call_s=1.0, transfer_s=1.0)  # for stores that never answer
NAME = "group/readings/2/00000000000000001234.h5"


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Says by the environment alone, as users do, where the store is and who asks."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    return lambda endpoint: monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)


@dataclass
class Stored:
    """A store, and the bytes behind it."""

    url: str
    names: Callable[[], list[str]]  # of all objects or files, below the URL
    get: Callable[[str], bytes]
    put: Callable[[str, bytes], None]

    def open(self) -> Store:
        return open_store(self.url, GROUP)


def folder(root: Path) -> Stored:
    def put(name: str, data: bytes) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)

    def names() -> list[str]:
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())

    return Stored(str(root), names, lambda name: (root / name).read_bytes(), put)


def memory() -> Stored:
    import fsspec

    root, files = f"/{uuid4().hex}/state", fsspec.filesystem("memory")
    return Stored(
        f"memory:/{root}",
        lambda: sorted(name.removeprefix(f"{root}/") for name in files.find(root)),
        lambda name: bytes(files.cat_file(f"{root}/{name}")),
        lambda name, data: files.pipe_file(f"{root}/{name}", data),
    )


def s3(bucket: str = "", prefix: str = "deep/state") -> Stored:
    client = boto3.client("s3")
    bucket = bucket or f"bucket-{uuid4().hex}"
    client.create_bucket(Bucket=bucket)

    def names() -> list[str]:
        listed = client.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/").get("Contents", [])
        return sorted(each["Key"].removeprefix(f"{prefix}/") for each in listed)

    return Stored(
        f"s3://{bucket}/{prefix}",
        names,
        lambda name: client.get_object(Bucket=bucket, Key=f"{prefix}/{name}")["Body"].read(),
        lambda name, data: client.put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=data),
    )


@pytest.fixture(params=["folder", "memory", "s3"])
def stored(request: pytest.FixtureRequest, tmp_path: Path, s3_server: str, s3_account: Callable[[str], None]) -> Stored:
    if request.param == "s3":
        s3_account(s3_server)
        return s3()
    return folder(tmp_path / "state") if request.param == "folder" else memory()


def at(offset: int, partition: Partition = PARTITION) -> PartitionState:
    return replace(SMALL, next_offset=offset, partition=partition)


def stems(store: Store, partition: Partition = PARTITION, at_most: int | None = None) -> list[int]:
    return [entry.next_offset for entry in store.candidates(partition, at_most)]


def publish(store: Store, *offsets: int) -> None:
    for offset in offsets:
        store.publish(at(offset), IDENTITY, created=CREATED)


# The contract


def test_what_is_published_is_listed_and_read(stored: Stored) -> None:
    store = stored.open()
    published = store.publish(SMALL, IDENTITY, created=CREATED)
    assert stored.names() == [NAME]
    assert store.size_bytes(published) == len(stored.get(NAME))
    (entry,) = stored.open().candidates(PARTITION, None)
    assert str(published) == str(entry)
    assert (str(entry), entry.next_offset) == (f"{stored.url}/{NAME}", 1234)
    header = store.header(entry)
    assert (header.identity, header.partition, header.next_offset, header.created) == (
        IDENTITY,
        PARTITION,
        1234,
        CREATED.isoformat(),
    )
    for _ in range(2):
        assert plain(store.read(entry, IDENTITY, SPECS)) == plain(SMALL)


def test_candidates_are_newest_first_and_foreign_names_do_not_count(stored: Stored) -> None:
    store = stored.open()
    assert stems(store) == []
    publish(store, 9, 100, 30)
    store.publish(at(50, Partition("readings", 20)), IDENTITY, created=CREATED)
    for name in ("31.h5", ".00000000000000000032.1.ab.tmp", "00000000000000000033.h5.bak", "deeper/" + NAME[-23:]):
        stored.put(f"readings/2/{name}", b"foreign")
    stored.put("readings/00000000000000000044.h5", b"foreign")
    for at_most, wanted in ((None, [100, 30, 9]), (100, [100, 30, 9]), (99, [30, 9]), (8, [])):
        assert stems(store, at_most=at_most) == wanted
    assert stems(store, Partition("readings", 20)) == [50]
    assert stems(store, Partition("readings", 0)) == []
    assert stems(store, Partition("reading", 2)) == []
    with pytest.raises(WorkerError, match="is not a topic name"):
        store.candidates(Partition("..", 0), None)


def test_another_process_sees_at_once_what_comes_and_goes(stored: Stored) -> None:
    ours, theirs = stored.open(), stored.open()
    for offset in (1, 2, 3):
        publish(ours, offset)
        assert stems(theirs) == stems(ours)
    ours.prune(PARTITION, 1, newest=None, now_s=0.0)
    assert stems(theirs) == [3]


def test_one_that_is_there_stays_and_one_that_is_unusable_or_foreign_is_replaced(stored: Stored) -> None:
    store = stored.open()
    publish(store, 1234)
    good = stored.get(NAME)
    later = datetime(2027, 1, 1, tzinfo=UTC)
    store.publish(SMALL, IDENTITY, created=later)
    assert stored.get(NAME) == good
    stored.put(NAME, good[:-1])
    publish(store, 1234)
    (entry,) = store.candidates(PARTITION, None)
    assert plain(store.read(entry, IDENTITY, SPECS)) == plain(SMALL)
    for identity in (replace(IDENTITY, model_sha256="cd" * 32), replace(IDENTITY, input="{}")):
        entry = store.publish(SMALL, identity, created=CREATED)
        assert store.header(entry).identity == identity


def test_damaged_and_foreign_files_are_refused_in_one_line_that_names_them(stored: Stored) -> None:
    store = stored.open()
    entry = store.publish(SMALL, IDENTITY, created=CREATED)
    good = stored.get(NAME)
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 8
    cases = [(good[:600], "truncated"), (b"", "empty"), (b"x" * 2000, "not a checkpoint"), (flipped, "damaged")]
    for data, why in cases:
        stored.put(NAME, bytes(data))
        (listed,) = store.candidates(PARTITION, None)
        for attempt in (store.header, lambda entry: store.read(entry, IDENTITY, SPECS)):
            with pytest.raises(CheckpointUnusableError, match=f"^{re.escape(str(entry))}: it is {why}[^\n]*$"):
                attempt(listed)
    stored.put(NAME.replace("1234", "1235"), good)
    (renamed,) = store.candidates(PARTITION, None)[:1]
    with pytest.raises(
        CheckpointUnusableError, match=r"1235\.h5: it is the checkpoint of group/readings/2/0*1234, but its name"
    ):
        store.read(renamed, IDENTITY, SPECS)


def test_other_models_and_inputs_are_told_apart(stored: Stored) -> None:
    store = stored.open()
    entry = store.publish(SMALL, IDENTITY, created=CREATED)
    for changed, error in (
        (replace(IDENTITY, model_sha256="cd" * 32), ModelChangedError),
        (replace(IDENTITY, input="{}"), InputChangedError),
    ):
        with pytest.raises(error, match=f"^{re.escape(str(entry))}: "):
            store.read(entry, changed, SPECS)


def test_prune_keeps_the_newest_generations_and_what_lies_above(stored: Stored) -> None:
    store = stored.open()
    publish(store, 10, 20, 30, 40, 999)
    stored.put("group/readings/2/notes", b"foreign")
    store.prune(PARTITION, 2, newest=40, now_s=0.0)
    assert stems(store) == [999, 40, 30]
    store.prune(PARTITION, 1, newest=None, now_s=0.0)
    assert stems(store) == [999]
    store.prune(Partition("never", 0), 1, newest=None, now_s=0.0)
    assert stored.names() == ["group/readings/2/00000000000000000999.h5", "group/readings/2/notes"]


@pytest.mark.parametrize("group", ["Group", "a/b", "..", "a b", "ä", "a%2Fb", "x" * 300, "a?b#c", "*"])
def test_groups_share_nothing(stored: Stored, group: str) -> None:
    """Neither listing nor pruning nor replacing nor deleting."""
    ours, theirs = stored.open(), open_store(stored.url, group)
    other = replace(IDENTITY, group_id=group, model_sha256="cd" * 32)
    publish(ours, 1, 2)
    for offset in (1, 2, 3):
        theirs.check_writable()
        theirs.publish(at(offset), other, created=CREATED)
    theirs.prune(PARTITION, 1, newest=None, now_s=0.0)
    assert (stems(ours), stems(theirs)) == ([2, 1], [3])
    theirs.delete(theirs.candidates(PARTITION, None)[0])
    assert (stems(ours), stems(theirs)) == ([2, 1], [])
    assert {name.split("/")[0] for name in stored.names()} == {"group"}
    assert [ours.read(entry, IDENTITY, SPECS).next_offset for entry in ours.candidates(PARTITION, None)] == [2, 1]


@pytest.mark.parametrize("group", ["a\0", "\ud800"])
def test_a_group_that_no_file_can_name_is_refused(group: str) -> None:
    with pytest.raises(ConfigError, match=r"^kafka.group_id: '.*' is not text that a file can hold"):
        open_store("state", group)


def test_one_that_is_to_be_replaced_is_whatever_it_says(stored: Stored) -> None:
    store = stored.open()
    publish(store, 1234)
    before = stored.get(NAME)
    publish(store, 1234)
    assert stored.get(NAME) == before
    store.publish(replace(SMALL, clock=18_000), IDENTITY, created=CREATED, replace=True)
    assert store.read(store.candidates(PARTITION, None)[0], IDENTITY, SPECS).clock == 18_000


def test_one_deleted_since_it_was_listed_is_skipped(stored: Stored) -> None:
    store = stored.open()
    publish(store, 1, 2)
    listed = store.candidates(PARTITION, None)
    store.prune(PARTITION, 1, newest=None, now_s=0.0)
    with pytest.raises(CheckpointUnusableError, match=r"1\.h5: there is no such (file|object)$"):
        store.read(listed[1], IDENTITY, SPECS)
    assert store.read(listed[0], IDENTITY, SPECS).next_offset == 2


def test_a_place_that_can_be_used_is_left_as_it_was(stored: Stored) -> None:
    store = stored.open()
    store.check_writable()
    publish(store, 1)
    store.check_writable()
    assert len(stored.names()) == 1


def test_many_writers_of_one_name_leave_one_complete_file(stored: Stored) -> None:
    rows = make_state([f"watch-{number}" for number in range(3000)])
    errors: list[Exception] = []
    seen: list[int] = []
    done = threading.Event()

    def write() -> None:
        store = stored.open()
        try:
            for offset in range(1, 6):
                store.publish(replace(rows, next_offset=offset), IDENTITY, created=CREATED)
        except Exception as error:  # noqa: BLE001 (it is shown by the test)
            errors.append(error)

    def read() -> None:
        store = stored.open()
        try:
            while not done.is_set():
                newest = store.candidates(PARTITION, None)[:1]
                seen.extend(store.read(entry, IDENTITY, SPECS).next_offset for entry in newest)
        except Exception as error:  # noqa: BLE001 (it is shown by the test)
            errors.append(error)

    writers = [threading.Thread(target=write) for _ in range(3)]
    reader = threading.Thread(target=read)
    for thread in (*writers, reader):
        thread.start()
    for thread in writers:
        thread.join(DEADLINE_S)
    done.set()
    reader.join(DEADLINE_S)
    assert errors == []
    assert seen == sorted(seen)
    assert len(stored.names()) == 5
    store = stored.open()
    assert [store.read(entry, IDENTITY, SPECS).next_offset for entry in store.candidates(PARTITION, None)] == [
        5, 4, 3, 2, 1,
    ]  # fmt: skip


def test_a_writer_publishes_prunes_and_tells_sizes(stored: Stored) -> None:
    writer = CheckpointWriter(stored.open(), keep=2, now=lambda: CREATED)
    results = []
    for offset in (10, 20, 30):
        writer.submit(at(offset), IDENTITY)
        results += outcome(writer)
    assert writer.close(DEADLINE_S)
    assert [(result.next_offset, result.ok, result.error) for result in results] == [
        (10, True, None),
        (20, True, None),
        (30, True, None),
    ]
    assert stems(stored.open()) == [30, 20]
    assert results[-1].size_bytes == len(stored.get("group/readings/2/00000000000000000030.h5"))


# Objects in particular


def test_large_files_go_and_come_in_parts(
    s3_server: str, s3_account: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_account(s3_server)
    stored = s3()
    monkeypatch.setattr(remote, "ONE_REQUEST_BYTES", 1000)
    for way in (stored, memory()):
        store = way.open()
        store.publish(SMALL, IDENTITY, created=CREATED)
        (entry,) = store.candidates(PARTITION, None)
        assert plain(store.read(entry, IDENTITY, SPECS)) == plain(SMALL)


def test_half_uploads_are_never_listed(s3_server: str, s3_account: Callable[[str], None]) -> None:
    s3_account(s3_server)
    stored = s3("half-uploads", "state")
    store = stored.open()
    publish(store, 5)
    client, key = boto3.client("s3"), f"state/{NAME}"
    upload = client.create_multipart_upload(Bucket="half-uploads", Key=key)["UploadId"]
    client.upload_part(Bucket="half-uploads", Key=key, UploadId=upload, PartNumber=1, Body=b"x" * (5 << 20))
    assert stems(store) == [5]
    publish(store, 1234)
    assert stems(store) == [1234, 5]


def test_a_bucket_that_is_gone_is_not_one_without_checkpoints(
    s3_server: str, s3_account: Callable[[str], None]
) -> None:
    s3_account(s3_server)
    store = open_store("s3://never-made/state", GROUP)
    with pytest.raises(StoreUnavailableError, match=r"there is no bucket 'never-made'|bucket does not exist"):
        store.candidates(PARTITION, None)
    with pytest.raises(WorkerError, match=r"^state.directory: can't write s3://never-made/state/.*: FileNotFoundError"):
        store.check_writable()


def test_a_bucket_without_a_prefix_is_a_store(s3_server: str, s3_account: Callable[[str], None]) -> None:
    s3_account(s3_server)
    boto3.client("s3").create_bucket(Bucket="only-a-bucket")
    store = open_store("s3://only-a-bucket/", GROUP)
    store.check_writable()
    assert stems(store) == []
    publish(store, 7)
    (entry,) = store.candidates(PARTITION, None)
    assert str(entry) == "s3://only-a-bucket/group/readings/2/00000000000000000007.h5"
    assert store.read(entry, IDENTITY, SPECS).next_offset == 7


def test_nothing_is_left_on_this_machine(
    s3_server: str, s3_account: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_account(s3_server)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store = s3().open()
    publish(store, 1, 2)
    newest, older = store.candidates(PARTITION, None)
    store.header(newest)
    store.header(older)
    with pytest.raises(ModelChangedError):
        store.read(older, replace(IDENTITY, model_sha256="0"), SPECS)
    assert list(tmp_path.iterdir()) == []


def test_what_the_dead_left_on_this_machine_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    store = memory().open()
    publish(store, 1, 2)
    (newest, _) = store.candidates(PARTITION, None)
    store.header(newest)
    (kept,) = tmp_path.iterdir()
    (tmp_path / "something-else").mkdir()
    elsewhere = ObjectStore("memory://elsewhere", "another group")
    written_s = kept.stat().st_mtime
    store.prune(PARTITION, 2, newest=None, now_s=written_s + STALE_TEMPORARY_S)
    elsewhere.prune(PARTITION, 2, newest=None, now_s=written_s + STALE_TEMPORARY_S + 1)
    assert kept.is_dir()
    store.prune(PARTITION, 2, newest=None, now_s=written_s + STALE_TEMPORARY_S + 1)
    assert [path.name for path in tmp_path.iterdir()] == ["something-else"]
    assert store.read(newest, IDENTITY, SPECS).next_offset == 2


def test_no_place_for_a_copy_on_this_machine_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    store = memory().open()
    publish(store, 1)
    (entry,) = store.candidates(PARTITION, None)

    def refuse(*args: object, **named: object) -> str:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr("tempfile.mkdtemp", refuse)
        for attempt in (store.header, lambda entry: store.read(entry, IDENTITY, SPECS)):
            with pytest.raises(
                StoreUnavailableError, match=r"can't read memory:.*: no copy can be made.*Too many open"
            ):
                attempt(entry)
    with monkeypatch.context() as patched:
        patched.setattr("os.pread", refuse)
        with pytest.raises(
            StoreUnavailableError, match=f"can't read {re.escape(str(entry))}: OSError: .*Too many open"
        ):
            store.read(entry, IDENTITY, SPECS)
    assert store.read(entry, IDENTITY, SPECS).next_offset == 1


def test_what_was_fetched_is_not_fetched_again(gate: Gate) -> None:
    stored = s3()
    store = ObjectStore(stored.url, GROUP)
    publish(store, 1, 1234)
    newest, older = store.candidates(PARTITION, None)
    headers = [store.header(older), store.header(newest)]
    gate.turn("hang up")
    assert [store.header(older), store.header(newest)] == headers
    assert store.read(newest, IDENTITY, SPECS).next_offset == 1234
    gate.turn("through")
    stored.put(NAME, b"replaced since")
    store = ObjectStore(stored.url, GROUP)
    with pytest.raises(CheckpointUnusableError, match="not a checkpoint"):
        store.header(store.candidates(PARTITION, None)[0])


def test_what_was_replaced_is_fetched_again(stored: Stored) -> None:
    store = stored.open()
    for identity in (IDENTITY, replace(IDENTITY, partitions=7), replace(IDENTITY, partitions=8)):
        store.publish(SMALL, identity, created=CREATED)
        (entry,) = store.candidates(PARTITION, None)
        assert store.header(entry).identity == identity
        assert store.header(entry).identity == identity


def test_urls_that_cannot_be_used_are_refused_in_one_line(tmp_path: Path) -> None:
    cases = [
        ("nowhere://bucket/x", "nowhere:// can't be used"),
        ("simplecache::s3://bucket/x", "is more than one URL"),
        ("file://elsewhere/x", "names another machine"),
    ]
    for url, why in cases:
        with pytest.raises(WorkerError, match=f"^state.directory: [^\n]*{why}"):
            open_store(url, GROUP)
    for url in (tmp_path.as_uri(), f"file://localhost{tmp_path}", str(tmp_path)):
        store = open_store(url, GROUP)
        assert isinstance(store, CheckpointStore)
        assert store.directory == tmp_path


@pytest.mark.parametrize(
    ("missing", "url", "command"),
    [
        ("fsspec", "s3://bucket/x", "'rnn-stream-worker[s3]'"),
        ("fsspec", "gs://bucket/x", "fsspec"),
        ("s3fs", "s3://bucket/x", "'rnn-stream-worker[s3]'"),
        ("gcsfs", "gs://bucket/x", "gcsfs"),
        ("paramiko", "sftp://host/x", "paramiko"),
    ],
)
def test_a_missing_package_is_one_line_with_the_command(missing: str, url: str, command: str) -> None:
    program = (
        f"import sys; sys.modules['{missing}'] = None\n"
        "from worker.checkpoints.opening import open_store; from worker.errors import WorkerError\n"
        f"try: open_store('{url}', 'group')\n"
        "except WorkerError as error: print(error)"
    )
    said = answer(program)
    assert re.fullmatch(f"state\\.directory: .*; pip install {re.escape(command)}\n", said)


def test_importing_the_stores_needs_no_fsspec() -> None:
    program = (
        "import sys; from worker.checkpoints.opening import open_store; open_store('/nowhere', 'group'); "
        "print(sorted({'fsspec', 's3fs', 'aiobotocore'} & set(sys.modules)))"
    )
    assert answer(program) == "[]\n"


def answer(program: str) -> str:
    """What a new process prints."""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=DEADLINE_S).stdout


def test_passwords_in_urls_are_not_shown() -> None:
    store = ObjectStore("memory://me:secret@host/state", GROUP)
    entry = store.publish(SMALL, IDENTITY, created=CREATED)
    assert "secret" not in f"{store} {entry} {entry!r}"


# A store that fails


class Gate:
    """Between a store and its client: lets everything through (at once, or when released), or answers nothing, or an
    error, or hangs up."""

    def __init__(self, endpoint: str) -> None:
        self.way = "through"
        self.released = threading.Event()
        host, _, port = endpoint.removeprefix("http://").partition(":")
        self._behind = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def turn(self, way: str) -> None:
        """From now on; connections that are open are cut."""
        self.way = way
        self._cut()

    def close(self) -> None:
        self._listener.close()
        self._cut()

    def _cut(self) -> None:
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(client)
            threading.Thread(target=self._serve, args=(client, self.way), daemon=True).start()

    def _serve(self, client: socket.socket, way: str) -> None:
        with closing(client), suppress(OSError):
            if way == "slow":
                self.released.wait(DEADLINE_S)
            if way in ("through", "slow"):
                behind = socket.create_connection(self._behind)
                self._open.append(behind)
                threading.Thread(target=self._pour, args=(client, behind), daemon=True).start()
                self._pour(behind, client)
            elif way == "500":
                while client.recv(1 << 16):
                    client.sendall(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")
            elif way == "silence":
                while client.recv(1 << 16):
                    pass

    def _pour(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@pytest.fixture
def gate(s3_server: str, s3_account: Callable[[str], None]) -> Iterator[Gate]:
    gate = Gate(s3_server)
    s3_account(gate.endpoint)
    yield gate
    gate.close()


@pytest.mark.parametrize("way", ["silence", "500", "hang up"])
def test_a_store_that_fails_is_away_and_never_empty(gate: Gate, way: str) -> None:
    url = s3().url
    publish(ObjectStore(url, GROUP), 1, 2)
    (entry, _) = ObjectStore(url, GROUP).candidates(PARTITION, None)
    gate.turn(way)
    store = ObjectStore(url, GROUP, None if way == "500" else SHORT)
    attempts: list[tuple[str, Callable[[], object]]] = [
        ("list", lambda: store.candidates(PARTITION, None)),
        ("list", lambda: store.candidates(Partition("never", 0), None)),
        ("read", lambda: store.header(entry)),
        ("read", lambda: store.read(entry, IDENTITY, SPECS)),
        ("list", lambda: publish(store, 3)),
    ]
    for doing, attempt in attempts:
        with pytest.raises(StoreUnavailableError, match=f"^can't {doing} {re.escape(url)}/[^\n]*$"):
            attempt()
    with pytest.raises(WorkerError, match=f"^state.directory: can't write {re.escape(url)}/[^\n]*$"):
        store.check_writable()
    gate.turn("through")
    store = ObjectStore(url, GROUP)
    assert stems(store) == [2, 1]
    assert store.read(entry, IDENTITY, SPECS).next_offset == 2


def test_calls_that_hang_are_bounded_in_number(gate: Gate) -> None:
    store = ObjectStore(s3().url, GROUP, replace(SHORT, call_s=0.01))
    gate.turn("silence")
    before, said = set(threading.enumerate()), []  # calls of other tests may still hang
    for _ in range(MAX_HANGING_CALLS + 1):
        with pytest.raises(StoreUnavailableError) as caught:
            store.candidates(PARTITION, None)
        said.append(str(caught.value).partition("TimeoutError: ")[2])
    assert said[0] == "no answer within 0.01 s"
    assert said[-1] == f"{MAX_HANGING_CALLS} earlier calls have not been answered yet"
    assert sum(thread.name == "store" for thread in set(threading.enumerate()) - before) <= 2 * MAX_HANGING_CALLS


def test_a_failing_store_delays_checkpoints_and_nothing_else(gate: Gate) -> None:
    url = s3().url
    writer = CheckpointWriter(ObjectStore(url, GROUP, SHORT), now=lambda: CREATED)
    gate.turn("500")
    writer.submit(at(1), IDENTITY)
    (failed,) = outcome(writer)
    assert failed.error is not None
    assert (failed.ok, failed.next_offset) == (False, 1)
    assert failed.error.startswith("StoreUnavailableError: can't list s3://")
    gate.turn("silence")
    for offset in range(2, 50):
        writer.submit(at(offset), IDENTITY)
        assert writer.waiting <= 1
    gate.turn("through")
    results = [failed]
    deadline = time.monotonic() + DEADLINE_S
    while not results[-1].ok:
        assert time.monotonic() < deadline
        results += outcome(writer)
        if not results[-1].ok:  # as the loop does: a position that was not saved is saved again
            writer.submit(at(results[-1].next_offset), IDENTITY)
    assert writer.close(DEADLINE_S)
    assert stems(ObjectStore(url, GROUP))[0] == 49
    assert writer.delay_s() == 0.0


def test_a_slow_store_makes_checkpoints_late_and_fewer(gate: Gate) -> None:
    stored, seconds = s3(), [100.0]
    writer = CheckpointWriter(ObjectStore(stored.url, GROUP), now=lambda: CREATED, clock=lambda: seconds[0])
    gate.turn("slow")
    writer.submit(at(1), IDENTITY)
    eventually(lambda: not writer.waiting, DEADLINE_S)
    seconds[0] = 101.0
    for offset in range(2, 50):
        writer.submit(at(offset), IDENTITY)
    assert writer.waiting == 1
    assert writer.poll_results() == []
    seconds[0] = 120.0
    gate.released.set()
    first, last = outcome(writer, 2)
    assert writer.close(DEADLINE_S)
    assert [(each.ok, each.next_offset, each.waited_s, each.duration_s) for each in (first, last)] == [
        (True, 1, 0.0, 20.0),
        (True, 49, 19.0, 0.0),
    ]
    assert stems(stored.open()) == [49, 1]


def test_a_writer_that_hangs_says_for_how_long(gate: Gate) -> None:
    seconds = [100.0]
    writer = CheckpointWriter(ObjectStore(s3().url, GROUP), now=lambda: CREATED, clock=lambda: seconds[0])
    assert writer.delay_s() == 0.0
    gate.turn("silence")
    writer.submit(at(1), IDENTITY)
    seconds[0] = 107.0
    writer.submit(at(1, Partition("readings", 3)), IDENTITY)
    writer.submit(at(2, Partition("readings", 3)), IDENTITY)
    seconds[0] = 130.0
    assert writer.delay_s() == 30.0
    assert not writer.close(0.0)
    gate.turn("500")
    assert [result.ok for result in outcome(writer, 2)] == [False, False]
    assert writer.close(DEADLINE_S)


def test_a_server_that_is_stopped_and_comes_back(s3_account: Callable[[str], None]) -> None:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    s3_account(f"http://{host}:{port}")
    store = s3().open()
    publish(store, 1)
    server.stop()
    with pytest.raises(StoreUnavailableError):
        store.candidates(PARTITION, None)
    with pytest.raises(StoreUnavailableError):
        publish(store, 2)
    server = ThreadedMotoServer("127.0.0.1", port=port, verbose=False)
    server.start()
    try:
        publish(store, 2)
        assert stems(store) == [2, 1]
    finally:
        server.stop()
