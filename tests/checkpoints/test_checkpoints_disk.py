"""Whatever the disk does, and wherever the process dies: afterwards there is the new checkpoint or an older one, never
a wrong one, and the next writer continues."""

from __future__ import annotations

import errno
import gc
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.checkpoints.test_checkpoints import (
    CREATED,
    DEADLINE_S,
    GROUP,
    IDENTITY,
    PARTITION,
    SMALL,
    SPECS,
    outcome,
    plain,
)
from worker.checkpoints.folder import CheckpointStore
from worker.checkpoints.names import STALE_TEMPORARY_S
from worker.checkpoints.sealed_file import SealedFile
from worker.checkpoints.writer import CheckpointWriter
from worker.errors import StoreUnavailableError, WorkerError

ROOT = Path(__file__).parents[2]
# Every call by which publishing and pruning change or read what is on the disk.
CALLS = (
    (os, "open"),
    (io, "open"),
    (os, "pwrite"),
    (os, "pread"),
    (os, "ftruncate"),
    (os, "fsync"),
    (os, "replace"),
    (os, "mkdir"),
    (os, "unlink"),
)
BEFORE = (1, 2, 3)  # generations that are there when a test begins
KEEP = 2
WRITES_PER_PLACE = 6


@contextmanager
def watched(see: Callable[[str, Callable[[], Any], tuple[Any, ...]], Any]) -> Iterator[None]:
    """Each of CALLS goes through ``see(name, call, arguments)`` instead."""
    real = [(module, name, getattr(module, name)) for module, name in CALLS]

    def seen(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: see(name, lambda: call(*args, **kwargs), args)

    for module, name, call in real:
        setattr(module, name, seen(name, call))
    try:
        yield
    finally:
        for module, name, call in real:
            setattr(module, name, call)


class FailsAt:
    """To watch with: call number ``at``, from 0, fails; with -1 none does. ``count``: of the calls since ``fail``."""

    def __init__(self, code: int) -> None:
        self.code, self.at, self.count = code, -1, 0

    def fail(self, at: int) -> None:
        self.at, self.count = at, 0

    def __call__(self, name: str, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        self.count += 1
        if self.count - 1 == self.at:
            raise OSError(self.code, os.strerror(self.code))
        return call()


def prepare(folder: Path) -> CheckpointStore:
    """A store with some generations, copied from a first one that is beside it."""
    first = folder.parent / "first"
    if not first.is_dir():
        for offset in BEFORE:
            CheckpointStore(first, GROUP).publish(replace(SMALL, next_offset=offset), IDENTITY, created=CREATED)
    shutil.copytree(first, folder)
    return CheckpointStore(folder, GROUP)


def work(store: CheckpointStore, offset: int) -> None:
    """What the writer's thread does with a snapshot."""
    store.publish(replace(SMALL, next_offset=offset), IDENTITY, created=CREATED)
    store.prune(PARTITION, KEEP, newest=offset, now_s=0.0)


def calls_of(folder: Path) -> list[str]:
    """The names of all calls, in order, when nothing goes wrong."""
    names: list[str] = []
    store = prepare(folder)

    def see(name: str, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        names.append(name)
        return call()

    with watched(see):
        work(store, 4)
    return names


def places(names: list[str]) -> list[int]:
    """Where to fail: at every call, but of the many writes in a row only at some, the first and the last among them."""
    writes = [at for at, name in enumerate(names) if name == "pwrite"]
    return sorted({*writes[::WRITES_PER_PLACE], writes[-1], *(at for at in range(len(names)) if at not in writes)})


def check(folder: Path) -> list[int]:
    """The offsets that are there, each one whole and right; then the next writer continues."""
    store = CheckpointStore(folder, GROUP)
    there = [entry.next_offset for entry in store.candidates(PARTITION, None)]
    for entry in store.candidates(PARTITION, None):
        state = store.read(entry, IDENTITY, SPECS)
        assert plain(state) == plain(replace(SMALL, next_offset=entry.next_offset))
    work(store, 5)
    assert store.candidates(PARTITION, None)[0].next_offset == 5
    store.prune(PARTITION, KEEP, newest=5, now_s=4e9 + STALE_TEMPORARY_S)
    left = sorted(path.name for path in (folder / "group" / "readings" / "2").iterdir())
    assert [name for name in left if name.endswith(".tmp")] == []
    assert len(left) == KEEP
    return there


def test_a_file_gets_its_name_after_the_disk_has_it_and_the_folder_is_synced_last(tmp_path: Path) -> None:
    names = calls_of(tmp_path / "state")
    end = names.index("replace")
    assert names[end - 1] == "fsync"
    assert names[end + 1 : end + 3] == ["open", "fsync"]
    assert set(names[end + 3 :]) == {"unlink"}
    assert "pwrite" not in names[end:]
    assert names.count("unlink") == len(BEFORE) + 1 - KEEP


def test_an_error_of_any_call_leaves_the_new_checkpoint_or_an_older_one(tmp_path: Path) -> None:
    names = calls_of(tmp_path / "count")
    for at in places(names):
        code = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT, errno.ESTALE)[at % 5]
        folder = tmp_path / str(at)
        store = prepare(folder)
        failing = FailsAt(code)
        failing.fail(at)
        raised = None
        with watched(failing):
            try:
                work(store, 4)
            except OSError as error:
                raised = error.errno
        # The first one looks whether the name is taken; where that can't be told it is taken anew.
        assert raised == (code if at > 0 else None), f"call {at} ({names[at]}) failed, and nobody heard of it"
        assert list(folder.rglob("*.tmp")) == [], f"call {at} ({names[at]})"
        there = check(folder)
        assert there[0] == (4 if at == 0 or at > names.index("replace") else 3), f"call {at} ({names[at]})"


# In a process of its own, which has one thread and can fork: a child dies at each call, before it, after it, and in
# the middle of each write.
DIES_ANYWHERE = """
import json, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import tests.checkpoints.test_checkpoints_disk as t
root = Path(sys.argv[1])
names = t.calls_of(root / "count")
found = []
for at in t.places(names):
    for when in ("before", "after", "half"):
        if when == "half" and names[at] != "pwrite":
            continue
        folder = root / f"{at}-{when}"
        store = t.prepare(folder)
        child = os.fork()
        if child == 0:
            t.die(store, at, when)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9, (at, when)
        found.append((names[at], at, when, t.check(folder)))
print(json.dumps(found))
"""


def die(store: CheckpointStore, at: int, when: str) -> None:
    """Ends the process at the given call."""
    count = 0

    def see(name: str, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        nonlocal count
        count += 1
        if count - 1 != at:
            return call()
        if when == "after":
            with suppress(FileNotFoundError):  # the first one looks for a file that is not there
                call()
        if when == "half":
            descriptor, data, position = args
            os.lseek(descriptor, position, os.SEEK_SET)
            os.write(descriptor, data[: len(data) // 2])
        os._exit(9)

    with watched(see):
        work(store, 4)
    os._exit(1)


def script(program: str, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*before, sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=5 * DEADLINE_S, check=False, cwd=ROOT)


def test_a_death_at_any_call_leaves_the_new_checkpoint_or_an_older_one(tmp_path: Path) -> None:
    ran = script(DIES_ANYWHERE, str(tmp_path), str(ROOT))
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    named = next(at for name, at, _, _ in found if name == "replace")
    assert {name for name, _, _, _ in found} >= {"pwrite", "fsync", "replace", "unlink"}
    assert sum(when == "half" for _, _, when, _ in found) > 5
    for name, at, when, there in found:
        new = at > named or (at == named and when == "after")
        assert there[0] == (4 if new else 3), (name, at, when)
        assert len(there) >= KEEP, (name, at, when)


# Real file systems, in a mount namespace of their own: nothing of it is left when the process ends.


def namespace() -> tuple[str, ...]:
    """The command before a command that lets it mount, or a skip."""
    for before in (("unshare", "--mount"), ("unshare", "--mount", "--map-root-user")):
        try:
            done = subprocess.run(
                [*before, "mount", "-t", "tmpfs", "tmpfs", tempfile.gettempdir()], capture_output=True, check=False
            )
        except FileNotFoundError:
            break
        if done.returncode == 0:
            return before
    pytest.skip("file systems can't be mounted here")


FULL_OR_READ_ONLY = """
import json, os, subprocess, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import tests.checkpoints.test_checkpoints_disk as t
disk = sys.argv[1]
def mount(*options): subprocess.run(["mount", *options, disk], check=True)
mount("-t", "tmpfs", "-o", "size=1m", "tmpfs")
store = t.CheckpointStore(Path(disk) / "state", t.GROUP)
writer = t.CheckpointWriter(store, keep=2, now=lambda: t.CREATED)
said = []
def save(offset):
    writer.submit(t.replace(t.SMALL, next_offset=offset), t.IDENTITY)
    (result,) = t.outcome(writer)
    newest = store.candidates(t.PARTITION, None)[0]
    said.append((result.ok, result.error, store.read(newest, t.IDENTITY, t.SPECS).next_offset))
save(1)
filler = open(Path(disk) / "filler", "wb", buffering=0)
for size in (4096, 512, 1):
    try:
        while True: filler.write(b"x" * size)
    except OSError:
        pass
save(2)
filler.truncate(filler.seek(0, 2) - 4096)
save(3)
filler.truncate(0)
filler.close()
save(4)
mount("-o", "remount,ro")
save(5)
try:
    store.check_writable()
except t.WorkerError as error:
    said.append(str(error))
mount("-o", "remount,rw")
store.check_writable()
save(6)
said.append(sorted(path.name for path in Path(disk).rglob("*") if path.is_file()))
print(json.dumps(said))
"""


def test_a_full_disk_and_a_read_only_one(tmp_path: Path) -> None:
    ran = script(FULL_OR_READ_ONLY, str(tmp_path), str(ROOT), before=namespace())
    assert ran.returncode == 0, ran.stderr
    *saved, refused, fine, files = json.loads(ran.stdout)
    full = "OSError: [Errno 28] No space left on device"
    first, second, third, fourth, read_only = saved
    assert (first, fourth, fine) == ([True, None, 1], [True, None, 4], [True, None, 6])
    assert (second[0], second[2], third[0], third[2], read_only[0], read_only[2]) == (False, 1, False, 1, False, 4)
    assert (second[1][: len(full)], third[1][: len(full)]) == (full, full)
    assert read_only[1].startswith("OSError: [Errno 30] Read-only file system")
    assert refused.startswith(f"state.directory: can't write to '{tmp_path}/state': Read-only file system; ")
    assert files == ["00000000000000000004.h5", "00000000000000000006.h5", "filler"]


NO_PERMISSION = """
import json, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import tests.checkpoints.test_checkpoints_disk as t
folder = Path(sys.argv[1])
store = t.prepare(folder)
partition = folder / "group" / "readings" / "2"
for path in (partition, partition.parent, folder): path.chmod(0o555)
(partition / "00000000000000000003.h5").chmod(0)
said = []
child = os.fork()
if child == 0:
    if os.getuid() == 0: os.setuid(65534)
    try:
        t.work(store, 4)
    except OSError as error:
        said.append(str(error))
    try:
        store.check_writable()
    except t.WorkerError as error:
        said.append(str(error))
    for path in store.candidates(t.PARTITION, None):
        try:
            said.append(store.read(path, t.IDENTITY, t.SPECS).next_offset)
        except Exception as error:
            said.append(f"{type(error).__name__}: {error}")
    print(json.dumps(said), flush=True)
    os._exit(0)
os.waitpid(child, 0)
for path in (folder, partition.parent, partition): path.chmod(0o755)
"""


def test_no_permission() -> None:
    with tempfile.TemporaryDirectory() as outer:  # pytest's own folders are closed to other users
        Path(outer).chmod(0o755)
        folder = Path(outer) / "state"
        ran = script(NO_PERMISSION, str(folder), str(ROOT))
        assert ran.returncode == 0, ran.stderr
        writing, refused, newest, *others = json.loads(ran.stdout)
    assert writing.startswith("[Errno 13] Permission denied: ")
    assert refused.startswith(f"state.directory: can't write to '{folder}': Permission denied; ")
    assert newest.startswith(f"StoreUnavailableError: can't read {folder}/group/readings/2/00000000000000000003.h5: ")
    assert "PermissionError: [Errno 13] Permission denied" in newest
    assert others == [2, 1]


UNREADABLE = (
    "EMFILE", "ENFILE", "EIO", "EACCES", "EPERM", "ESTALE", "ENOMEM", "EINTR", "ETIMEDOUT", "EAGAIN", "ENOTCONN",
    "EHOSTDOWN", "ENOLCK", "EREMOTEIO", "EBUSY",
)  # fmt: skip


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_now_is_neither_damaged_nor_missing(tmp_path: Path, name: str) -> None:
    """Wherever it happens: at opening the file, or at any of the reads behind it, which are the seal's and HDF5's."""
    store = prepare(tmp_path / "state")
    path, code = store.candidates(PARTITION, None)[0].path, getattr(errno, name)
    failing = FailsAt(code)
    with watched(failing):
        assert store.read(path, IDENTITY, SPECS).next_offset == BEFORE[-1]
        calls = failing.count
        assert calls > 10
        for at in {*range(8), *range(8, calls, 11), calls - 1}:
            for attempt in (store.header, lambda place: store.read(place, IDENTITY, SPECS))[at > 8 :]:
                failing.fail(at)
                with pytest.raises(StoreUnavailableError, match=os.strerror(code)) as caught:
                    attempt(path)
                assert str(caught.value).startswith(f"can't read {path}: ")


def test_a_file_that_could_not_be_read_is_let_go_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HDF5 still has of a Python file when the process ends is a segmentation fault."""
    store = prepare(tmp_path / "state")
    path = store.candidates(PARTITION, None)[0].path
    failing, files = FailsAt(errno.EIO), []

    def opened(path: Path) -> SealedFile:
        file = SealedFile(path)
        files.append(weakref.ref(file))
        return file

    monkeypatch.setattr("worker.checkpoints.hdf5.SealedFile", opened)
    with watched(failing):
        store.read(path, IDENTITY, SPECS)
        calls = failing.count
        for at in range(1, calls):
            failing.fail(at)
            with pytest.raises(StoreUnavailableError, match=os.strerror(errno.EIO)):
                store.read(path, IDENTITY, SPECS)
    gc.collect()
    assert [at for at, file in enumerate(files) if file() is not None] == []
    assert len(files) == calls


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_folder_that_cannot_be_listed_now_is_not_empty(tmp_path: Path, name: str) -> None:
    store, code = prepare(tmp_path / "state"), getattr(errno, name)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Path, "iterdir", refusing(code))
        patched.setattr(os, "listdir", refusing(code))
        with pytest.raises(StoreUnavailableError, match=os.strerror(code)):
            store.candidates(PARTITION, None)
    assert len(store.candidates(PARTITION, None)) == len(BEFORE)


def refusing(code: int) -> Callable[..., Any]:
    def refuse(*args: Any) -> Any:
        raise OSError(code, os.strerror(code))

    return refuse


def test_no_memory_to_read_a_file_is_not_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = prepare(tmp_path / "state")
    path = store.candidates(PARTITION, None)[0].path

    def no_memory(*args: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr("worker.checkpoints.hdf5.read_column", no_memory)
    with pytest.raises(StoreUnavailableError, match="MemoryError"):
        store.read(path, IDENTITY, SPECS)


def test_a_folder_below_a_file_fails_for_everybody(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = CheckpointStore(tmp_path / "file" / "state", GROUP)
    with pytest.raises(OSError, match=r"File exists|Not a directory"):
        store.publish(SMALL, IDENTITY, created=CREATED)
    with pytest.raises(WorkerError, match=r"^state.directory: can't write to '[^\n]*': Not a directory; "):
        store.check_writable()


def test_one_that_cannot_be_deleted_does_not_keep_the_others(tmp_path: Path) -> None:
    store = prepare(tmp_path / "state")
    (store.directory / "group" / "readings" / "2" / "00000000000000000000.h5").mkdir()
    writer = CheckpointWriter(store, keep=1, now=lambda: CREATED)
    writer.submit(replace(SMALL, next_offset=4), IDENTITY)
    (result,) = outcome(writer)
    assert writer.close(DEADLINE_S)
    assert result.error is not None
    assert result.ok
    assert "00000000000000000000.h5" in result.error
    assert [entry.next_offset for entry in store.candidates(PARTITION, None)] == [4, 0]


TWO_WRITERS = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import tests.checkpoints.test_checkpoints_disk as t
sys.stdin.readline()
for offset in range(10, 40):
    t.work(t.CheckpointStore(Path(sys.argv[1]), t.GROUP), offset)
"""


def test_two_processes_that_write_the_same_names_leave_complete_files(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TWO_WRITERS, str(tmp_path), str(ROOT)]
    writers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        _, said = writer.communicate(timeout=DEADLINE_S)
        assert (writer.returncode, said) == (0, "")
    assert sorted(path.name for path in (tmp_path / "group" / "readings" / "2").iterdir()) == [
        "00000000000000000038.h5",
        "00000000000000000039.h5",
    ]
    store = CheckpointStore(tmp_path, GROUP)
    for entry in store.candidates(PARTITION, None):
        assert plain(store.read(entry, IDENTITY, SPECS)) == plain(replace(SMALL, next_offset=entry.next_offset))
