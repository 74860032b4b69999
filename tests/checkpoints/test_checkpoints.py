"""Checkpoints: states in, the same states out, or one sentence that says what is wrong with the file."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from worker.checkpoints.columns import CHUNK_ROWS, checksum
from worker.checkpoints.folder import CheckpointStore, FileEntry
from worker.checkpoints.hdf5 import read_checkpoint, read_header, write_checkpoint
from worker.checkpoints.header import CheckpointIdentity
from worker.checkpoints.names import STALE_TEMPORARY_S, group_folder
from worker.checkpoints.sealed_file import seal_file
from worker.checkpoints.writer import CheckpointResult, CheckpointWriter
from worker.errors import CheckpointUnusableError, InputChangedError, ModelChangedError, WorkerError
from worker.records.events import Reset
from worker.records.ownership import Partition
from worker.records.states import PartitionState, StateSpec, Unfinished

PARTITION = Partition("readings", 2)
GROUP = "group"
INPUT = '{"features": ["ax", "ay"], "format": "json", "stream": "key"}'
RULES = '{"sequence.length": 7}'
IDENTITY = CheckpointIdentity("ab" * 32, "topic-id-1", GROUP, "0.1.0", 6, INPUT, RULES, "avx2")
SPECS = [StateSpec("outer/lstm 100%", "h", (3,)), StateSpec("outer/lstm 100%", "c", (3,)), StateSpec("..", "k", (2, 4))]
CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DEADLINE_S = 120.0


def make_state(keys: list[str], sequences: list[Any] | None = None, **changes: Any) -> PartitionState:
    rows = len(keys)
    random = np.random.default_rng(rows)
    state = PartitionState(
        partition=PARTITION,
        next_offset=1234,
        clock=17_000,
        keys=keys,
        steps=np.arange(rows) + 1,
        times=random.integers(0, 1 << 50, rows),
        clocks=random.integers(0, 1 << 50, rows),
        pending=(np.arange(rows) % len(Reset)).astype(np.uint8),
        sequences=sequences if sequences is not None else [None] * rows,
        states={(s.layer, s.name): random.standard_normal((rows, *s.shape)).astype(s.dtype) for s in SPECS},
        touched=random.permutation(rows),
    )
    return replace(state, **changes)


SMALL = make_state(
    ["watch-07", "Tür №5 🚪", "x" * 40],
    ["s42", None, 2.5],
    emitted=np.array([[0.25, 0.75], [np.nan, np.nan], [1, 0]], np.float32),
    forgotten={"gone": int(Reset.TOMBSTONE), "idle": int(Reset.IDLE)},
)


TWO: Any = 2
WRITING = replace(
    SMALL,
    read_to=1300,
    unfinished=[Unfinished(1234, "x" * 40, 0, True), Unfinished(1240, "Tür №5 🚪", Reset.LENGTH, False)],
    drawn=np.array([7, 0, 1 << 40]),
    records=np.array([1, 2, 3]),
    items=[[1, 2, 3], None, [[0.25, -1.5], [1e-300, 3.0]]],
)  # of a task that generates


def plain(state: PartitionState) -> dict[str, Any]:
    """Comparable by ==: arrays as (type, shape, bytes), values of sequences with their types."""
    flat = {name: getattr(state, name) for name in state.__slots__}
    flat["sequences"] = [(type(value), value) for value in state.sequences]
    flat["forgotten"] = list(state.forgotten.items())
    flat |= {f"states {name}": values for name, values in flat.pop("states").items()}
    return {k: (v.dtype.str, v.shape, v.tobytes()) if isinstance(v, np.ndarray) else v for k, v in flat.items()}


def written(folder: Path, state: PartitionState = SMALL, identity: CheckpointIdentity = IDENTITY) -> Path:
    return CheckpointStore(folder, GROUP).publish(state, identity, created=CREATED).path


def reason(path: Path, identity: CheckpointIdentity = IDENTITY, specs: list[StateSpec] = SPECS) -> str:
    """Why the file is refused, without its name at the beginning."""
    with pytest.raises(CheckpointUnusableError) as caught:
        read_checkpoint(path, identity, specs)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


# The file


@pytest.mark.parametrize(
    "state",
    [
        SMALL,
        WRITING,
        replace(WRITING, next_offset=1300, unfinished=[]),
        replace(WRITING, items=[None] * 3),
        replace(WRITING, items=[[*range(1000)], [], None]),
        make_state([]),
        make_state([""], [""]),
        make_state(["a", "b", "c", "d", "e", "f"], [None, 1, 1.0, "1", True, "é\0\ud800"]),
        make_state(["k" * 257, "short", ""], ["s" * 400, None, 3]),
        make_state(["n\0" + "k" * 300, "\ud800"]),
        make_state(["ä" * 128, "b" * 256]),
        make_state([f"watch-{i}" for i in range(CHUNK_ROWS + 3)], list(range(CHUNK_ROWS + 3))),
        make_state([f"{i}" * 70 for i in range(CHUNK_ROWS + 3)]),
        replace(make_state(["a"]), clock=-1, next_offset=0, partition=Partition("A.b-c_d", 0)),
    ],
    ids=[
        "small",
        "writing",
        "written",
        "nothing kept",
        "much kept",
        "empty",
        "empty text",
        "scalars",
        "long",
        "nul",
        "256 bytes",
        "pieces",
        "long pieces",
        "zero",
    ],
)
def test_what_is_written_is_read(tmp_path: Path, state: PartitionState) -> None:
    path = written(tmp_path, state)
    assert plain(read_checkpoint(path, IDENTITY, SPECS)) == plain(state)


def test_other_float_types_keep_every_bit(tmp_path: Path) -> None:
    for name in ("float16", "float64"):
        specs = [StateSpec("gru", "h", (5,), name)]
        values = np.random.default_rng(1).standard_normal((2, 5)).astype(name)
        state = replace(make_state(["a", "b"]), states={("gru", "h"): values}, next_offset=len(name))
        assert plain(read_checkpoint(written(tmp_path / name, state), IDENTITY, specs)) == plain(state)


def test_plain_h5py_reads_it_as_documented(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert path == tmp_path / "group" / "readings" / "2" / "00000000000000001234.h5"
    with h5py.File(path) as file:
        assert [key.decode() for key in file["keys"]] == SMALL.keys
        assert file["keys"].asstr()[1] == "Tür №5 🚪"
        assert [text.decode() for text in file["sequences"]] == ['"s42"', "", "2.5"]
        assert (file["steps"][()].tolist(), file["times"].dtype) == ([1, 2, 3], np.int64)
        assert file["states/outer%2Flstm 100%25/h"].shape == (3, 3)
        assert [key.decode() for key in file["forgotten/keys"]] == ["gone", "idle"]
        crcs: list[str] = []
        file.visititems(lambda name, item: crcs.append(name) if "crc32" in item.attrs else None)
        assert len(crcs) == 13
        attributes = dict(file.attrs)
    attributes.pop("crc32")
    assert attributes == {
        "format_version": 4,
        "model_sha256": "ab" * 32,
        "topic": "readings",
        "topic_id": "topic-id-1",
        "partition": 2,
        "next_offset": 1234,
        "read_to": 1234,
        "group_id": "group",
        "created": "2026-01-02T03:04:05+00:00",
        "worker_version": "0.1.0",
        "clock": 17_000,
        "partitions": 6,
        "input": INPUT,
        "rules": RULES,
        "cpu": "avx2",
    }
    header = read_header(path)
    assert (header.identity, header.partition) == (IDENTITY, PARTITION)
    assert (header.next_offset, header.read_to) == (1234, 1234)


def test_the_same_state_gives_the_same_checksums(tmp_path: Path) -> None:
    # Not the same bytes: HDF5 notes in each group when it was made, in seconds.
    found = []
    for name in ("a", "b"):
        with h5py.File(written(tmp_path / name)) as file:
            found.append((file.attrs["crc32"], [file[column].attrs["crc32"] for column in ("keys", "steps", "times")]))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "state", [SMALL, make_state(["k" * 300, "l" * 300]), WRITING], ids=["fixed", "long", "writing"]
)
def test_a_flipped_bit_anywhere_is_detected(tmp_path: Path, state: PartitionState) -> None:
    path = written(tmp_path, state)
    good = path.read_bytes()
    for position in range(0, len(good), 61):
        damaged = bytearray(good)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        assert "damaged" in reason(path) or "truncated" in reason(path)


def test_a_changed_value_in_any_dataset_is_detected_by_its_own_checksum(tmp_path: Path) -> None:
    path = written(tmp_path, WRITING)
    good = path.read_bytes()
    names: list[str] = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        places = {name: (file[name].id.get_offset(), file[name].nbytes) for name in names}
    assert len(places) == 13 + 7
    for name, (offset, size) in places.items():
        for position in (offset, offset + size - 1):
            damaged = bytearray(good)
            damaged[position] ^= 1
            path.write_bytes(damaged)
            seal_file(path)
            assert reason(path) == f"'{name}' is damaged (checksum)"


@pytest.mark.parametrize(("size", "why"), [(0, "it is empty"), (1, "beginning"), (600, "truncated"), (-1, "truncated")])
def test_truncated_files_are_refused(tmp_path: Path, size: int, why: str) -> None:
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[:size])
    assert why in reason(path)


def test_what_is_no_file_or_no_checkpoint_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert reason(path.with_name("00000000000000000001.h5")) == "there is no such file"
    assert reason(path.parent) == "it is not a file"
    path.write_bytes(b"something else" * 100)
    assert reason(path) == "it is not a checkpoint, or its beginning is damaged"
    path.write_bytes(b"\0" * 2000)
    seal_file(path)
    assert "signature" in reason(path)


def test_foreign_checkpoints_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    for topic, partition, offset in (("other", 2, 1234), ("readings", 3, 1234), ("readings", 2, 1235)):
        copy = CheckpointStore(tmp_path, GROUP).path_for(Partition(topic, partition), offset)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
        assert reason(copy).startswith(
            "it is the checkpoint of group/readings/2/00000000000000001234, but its name says "
        )
    assert "topic has since been deleted" in reason(path, IDENTITY.of_topic("topic-id-2"))
    assert read_checkpoint(path, IDENTITY.of_topic(""), SPECS).keys == SMALL.keys
    copied = CheckpointStore(tmp_path, "elsewhere").path_for(PARTITION, 1234)
    copied.parent.mkdir(parents=True)
    copied.write_bytes(path.read_bytes())
    said = "it is the checkpoint of group/readings/2/00000000000000001234, but its name says elsewhere/readings/2/"
    assert reason(copied).startswith(said)
    with pytest.raises(CheckpointUnusableError, match="its name says elsewhere"):
        read_header(copied)
    assert read_checkpoint(path, replace(IDENTITY, worker_version="9", rules="", cpu=""), SPECS).keys == SMALL.keys


def test_another_model_is_told_apart_and_can_be_accepted(tmp_path: Path) -> None:
    path = written(tmp_path)
    now = replace(IDENTITY, model_sha256="cd" * 32)
    with pytest.raises(ModelChangedError, match=r"another model \(abababababab, now cdcdcdcdcdcd\)") as caught:
        read_checkpoint(path, now, SPECS)
    assert caught.value.model_sha256 == "ab" * 32
    accepted = read_checkpoint(path, now.of_topic("topic-id-1", any_model=True), SPECS)
    assert plain(accepted) == plain(SMALL)


def test_states_fed_with_another_input_are_told_apart_and_can_be_accepted(tmp_path: Path) -> None:
    path = written(tmp_path)
    now = replace(IDENTITY, input=INPUT.replace("ay", "a" * 300))
    with pytest.raises(InputChangedError) as caught:
        read_checkpoint(path, now, SPECS)
    assert caught.value.input == INPUT
    assert str(caught.value).startswith(f"{path}: its states were fed with another input ({INPUT}, now {{")
    assert str(caught.value).endswith("aaa…)")
    for known in (replace(IDENTITY, input=""), now.of_topic("topic-id-1", any_model=True)):
        assert plain(read_checkpoint(path, known, SPECS)) == plain(SMALL)


def test_the_number_of_partitions_is_given_and_not_judged(tmp_path: Path) -> None:
    path = written(tmp_path, SMALL, IDENTITY.of_topic("topic-id-1", 4))
    assert read_header(path).identity.partitions == 4
    assert read_checkpoint(path, IDENTITY.of_topic("topic-id-1", 5), SPECS).keys == SMALL.keys


def test_an_input_of_many_fields_fits(tmp_path: Path) -> None:
    identity = replace(IDENTITY, input=str([f"feature {number}" for number in range(20_000)]))
    assert read_header(written(tmp_path, SMALL, identity)).identity == identity


def sign(file: h5py.File) -> None:
    """All checksums of a file, as its format says: what is wrong then is not that it is damaged."""
    listed: dict[str, Any] = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            item.attrs["crc32"] = np.uint32(checksum(item[()]))
            listed[name] = [item.shape, item.dtype.str, int(item.attrs["crc32"])]

    file.visititems(note)
    file.attrs.pop("crc32", None)
    values = {name: value if isinstance(value, str) else int(value) for name, value in file.attrs.items()}
    file.attrs["crc32"] = np.uint32(zlib.crc32(json.dumps([values, listed], sort_keys=True).encode()))


def test_files_of_an_older_version_are_refused_in_a_line(tmp_path: Path) -> None:
    path = written(tmp_path)
    with h5py.File(path, "r+") as file:
        for name in ("rules", "cpu"):
            del file.attrs[name]
        file.attrs["format_version"] = np.int64(2)
        sign(file)
    seal_file(path)
    assert reason(path) == "format_version 2 is not known (this version reads 4)"
    assert read_header(written(tmp_path)).identity == IDENTITY


def test_states_of_another_input_at_the_same_position_replace_the_file(tmp_path: Path) -> None:
    changed = (replace(IDENTITY, input="{}"), replace(IDENTITY, rules="{}"), replace(IDENTITY, cpu="avx512_core"))
    for identity in (IDENTITY, *changed, IDENTITY.of_topic("topic-id-1", 7)):
        assert read_header(written(tmp_path, SMALL, identity)).identity == identity


@pytest.mark.parametrize(
    ("specs", "why"),
    [
        (SPECS[:2], "'states/%2E%2E/k' is missing or not expected"),
        ([*SPECS, StateSpec("gru", "h", (3,))], "'states/gru/h' is missing or not expected"),
        ([StateSpec("outer/lstm 100%", "h", (4,)), *SPECS[1:]], "is float32 (3, 3), wanted float32 (3, 4)"),
        ([StateSpec("outer/lstm 100%", "h", (3,), "float64"), *SPECS[1:]], "is float32 (3, 3), wanted float64 (3, 3)"),
    ],
)
def test_states_of_other_layers_shapes_or_types_are_refused(tmp_path: Path, specs: list[StateSpec], why: str) -> None:
    assert reason(written(tmp_path), specs=specs).endswith(why)


def external_link(file: h5py.File, elsewhere: Path) -> None:
    del file["steps"]
    file["steps"] = h5py.ExternalLink(str(elsewhere), "steps")


def soft_link(file: h5py.File, elsewhere: Path) -> None:
    del file["steps"]
    file["steps"] = h5py.SoftLink("/times")


def linked_group(file: h5py.File, elsewhere: Path) -> None:
    del file["states"]
    file["states"] = h5py.ExternalLink(str(elsewhere), "states")


def virtual(file: h5py.File, elsewhere: Path) -> None:
    del file["steps"]
    layout = h5py.VirtualLayout((3,), "int64")
    layout[:] = h5py.VirtualSource(str(elsewhere), "steps", (3,))
    file.create_virtual_dataset("steps", layout)


def external_storage(file: h5py.File, elsewhere: Path) -> None:
    del file["steps"]
    file.create_dataset("steps", (3,), "int64", external=[(str(elsewhere), 0, 24)])


def shape_bomb(file: h5py.File, elsewhere: Path) -> None:
    del file["steps"]
    file.create_dataset("steps", (10**15,), "int64")


def compressed(file: h5py.File, elsewhere: Path) -> None:
    del file["steps"]
    file.create_dataset("steps", data=np.zeros(3, np.int64), compression="gzip")


def loop_of_groups(file: h5py.File, elsewhere: Path) -> None:
    file["states/loop"] = file["/"]


def link_to_nowhere(file: h5py.File, elsewhere: Path) -> None:
    file["states/x"] = h5py.SoftLink("/not there")


def named_type(file: h5py.File, elsewhere: Path) -> None:
    file["type"] = np.dtype("int64")


def deep_group(file: h5py.File, elsewhere: Path) -> None:
    file.create_group("states/a/b/c")


def future(file: h5py.File, elsewhere: Path) -> None:
    file.attrs["format_version"] = 5
    compressed(file, elsewhere)


def other_attribute(file: h5py.File, elsewhere: Path) -> None:
    file.attrs["clock"] = 5


def another_input(file: h5py.File, elsewhere: Path) -> None:
    file.attrs["input"] = "{}"


def version_without_number(file: h5py.File, elsewhere: Path) -> None:
    file.attrs["format_version"] = "4"


def missing_attribute(file: h5py.File, elsewhere: Path) -> None:
    del file.attrs["topic_id"]


def attribute_of_wrong_type(file: h5py.File, elsewhere: Path) -> None:
    file.attrs["next_offset"] = "1234"


def missing_dataset(file: h5py.File, elsewhere: Path) -> None:
    del file["emitted"]


def exchanged_datasets(file: h5py.File, elsewhere: Path) -> None:
    file.move("times", "kept")
    file.move("clocks", "times")
    file.move("kept", "clocks")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (external_link, "'steps' is a link, not data"),
        (soft_link, "'steps' is a link, not data"),
        (linked_group, "'states' is a link, not data"),
        (virtual, "'steps' is not stored in one piece in this file"),
        (external_storage, "'steps' is stored in another file"),
        (shape_bomb, "'steps' declares 8000000000000000 bytes that the file does not hold"),
        (compressed, "'steps' is not stored in one piece in this file"),
        (loop_of_groups, "should not be there"),
        (link_to_nowhere, "'states/x' is a link, not data"),
        (named_type, "'type' should not be there"),
        (deep_group, "'states/a/b' should not be there"),
        (future, "format_version 5 is not known (this version reads 4)"),
        (other_attribute, "its attributes are damaged (checksum)"),
        (missing_attribute, "attribute topic_id is missing"),
        (another_input, "its attributes are damaged (checksum)"),
        (version_without_number, "format_version 4 is not known"),
        (attribute_of_wrong_type, "attribute next_offset has the wrong type"),
        (missing_dataset, "its attributes are damaged (checksum)"),
        (exchanged_datasets, "its attributes are damaged (checksum)"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_crafted_files_are_refused(tmp_path: Path, change: Callable[[h5py.File, Path], None], why: str) -> None:
    elsewhere = written(tmp_path / "elsewhere")
    path = written(tmp_path)
    with h5py.File(path, "r+") as file:
        change(file, elsewhere)
    seal_file(path)
    assert why in reason(path)


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("steps", np.zeros(3, np.int32), "'steps' is int32 (3,), wanted int64 (3,)"),
        ("steps", np.zeros(3, ">i8"), "'steps' is >i8 (3,), wanted int64 (3,)"),
        ("steps", np.zeros((3, 1), np.int64), "'steps' is int64 (3, 1), wanted int64 (3,)"),
        ("steps", np.zeros(4, np.int64), "'steps' is int64 (4,), wanted int64 (3,)"),
        ("steps", np.int64(3), "'steps' is int64 (), wanted int64 (3,)"),
        ("keys", np.zeros(3, np.int64), "'keys' is int64 (3,), wanted text (3,)"),
        ("keys", np.zeros((3, 1), "S3"), "wanted"),
        ("pending", np.zeros(3, np.int8), "'pending' is int8 (3,), wanted uint8 (3,)"),
        ("emitted", np.zeros((3, 2), np.int32), "'emitted' is int32 (3, 2)"),
        ("states/outer%2Flstm 100%25/h", np.zeros((3, 3), np.float16), "is float16 (3, 3), wanted float32 (3, 3)"),
        ("states/outer%2Flstm 100%25/h", np.zeros((2, 3), np.float32), "is float32 (2, 3), wanted float32 (3, 3)"),
        ("sequences", np.array([b"{", b"", b""]), "Expecting"),
        ("forgotten/resets", np.zeros(1, np.uint8), "'forgotten/resets' is uint8 (1,), wanted uint8 (2,)"),
        ("more", np.zeros(3), "'more' is missing or not expected"),
    ],
)
def test_sound_files_of_another_form_are_refused(tmp_path: Path, name: str, data: Any, why: str) -> None:
    path = written(tmp_path)
    with h5py.File(path, "r+") as file:
        file.pop(name, None)
        file.create_dataset(name, data=data)
        sign(file)
    seal_file(path)
    assert why in reason(path)


def test_impossible_contents_are_refused(tmp_path: Path) -> None:
    keys = make_state(["a", "a"])
    unknown = make_state(["a", "b"], pending=np.array([0, 200], np.uint8))
    assert reason(written(tmp_path / "1", keys)) == "a stream occurs twice"
    assert reason(written(tmp_path / "2", unknown)) == "'pending' holds an unknown reason"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"next_offset": 1233}, "'unfinished/offsets' are not records in order, from 1233 to before 1300"),
        ({"read_to": 1240}, "'unfinished/offsets' are not records in order, from 1234 to before 1240"),
        ({"unfinished": []}, "'unfinished/offsets' are not records in order, from 1234 to before 1300"),
        ({"unfinished": [*WRITING.unfinished, *WRITING.unfinished]}, "'unfinished/offsets' are not records in order"),
        ({"unfinished": [Unfinished(1234, "", 99, True)]}, "'unfinished/resets' holds an unknown reason"),
        ({"unfinished": [Unfinished(1234, "", 0, TWO)]}, "'unfinished/finals' holds something other than 0 and 1"),
        ({"drawn": np.array([0, -1, 0])}, "'drawn' holds a number below 0"),
        ({"records": np.array([0, -1, 0])}, "'records' holds a number below 0"),
        ({"items": [{"a": 1}, None, None]}, "'items' holds something other than lists"),
        ({"items": None}, "it has read to 1300, and does not say what is unfinished"),
    ],
)
def test_impossible_contents_of_tasks_that_generate_are_refused(
    tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    assert reason(written(tmp_path, replace(WRITING, **changes))).startswith(why)


@pytest.mark.parametrize("name", ["drawn", "records", "items", "unfinished/offsets", "unfinished/keys"])
def test_what_a_task_that_generates_keeps_is_there_as_a_whole(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, WRITING)
    with h5py.File(path, "r+") as file:
        del file[name]
        sign(file)
    seal_file(path)
    assert "is missing or not expected" in reason(path)


def test_a_checkpoint_with_unfinished_records_is_replaced_by_a_later_one(tmp_path: Path) -> None:
    later = replace(WRITING, unfinished=WRITING.unfinished[:1])
    done = replace(WRITING, next_offset=1300, unfinished=[])
    for state in (WRITING, later, WRITING, done):
        assert plain(read_checkpoint(written(tmp_path, state), IDENTITY, SPECS)) == plain(state)


def test_columns_of_different_lengths_and_keys_that_end_in_nul_are_bugs(tmp_path: Path) -> None:
    for state in (make_state(["a", "b"], steps=np.arange(3)), make_state(["a\0", "a"])):
        with pytest.raises(AssertionError):
            write_checkpoint(tmp_path / f"{len(state.steps)}.h5", state, IDENTITY, created=CREATED)


# The store


def test_candidates_are_newest_first_and_nothing_else_in_the_folder_counts(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, GROUP)
    assert store.candidates(PARTITION, None) == []
    paths = {offset: written(tmp_path, replace(SMALL, next_offset=offset)) for offset in (9, 100, 30)}
    for name in ("31.h5", ".00000000000000000032.1.ab.tmp", "00000000000000000033.h5.bak", "notes"):
        (paths[9].parent / name).touch()
    cases: list[tuple[int | None, list[int]]] = [(None, [100, 30, 9]), (100, [100, 30, 9]), (99, [30, 9]), (8, [])]
    for at_most, wanted in cases:
        assert [entry.path for entry in store.candidates(PARTITION, at_most)] == [paths[offset] for offset in wanted]


def test_one_that_is_there_stays_and_one_that_is_unusable_or_foreign_is_replaced(tmp_path: Path) -> None:
    path = written(tmp_path)
    first = path.stat().st_ino
    assert written(tmp_path, make_state(["other"])) == path
    assert path.stat().st_ino == first
    path.write_bytes(path.read_bytes()[:-1])
    assert read_checkpoint(written(tmp_path), IDENTITY, SPECS).keys == SMALL.keys
    now = replace(IDENTITY, model_sha256="cd" * 32)
    assert read_checkpoint(written(tmp_path, SMALL, now), now, SPECS).keys == SMALL.keys


def test_prune_keeps_generations_and_deletes_what_the_dead_left(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, GROUP)
    paths = {offset: written(tmp_path, replace(SMALL, next_offset=offset)) for offset in (10, 20, 30, 40, 999)}
    old, young = (paths[10].parent / f".{name}.tmp" for name in ("old", "young"))
    for file, age_s in ((old, STALE_TEMPORARY_S + 1), (young, STALE_TEMPORARY_S - 1)):
        file.touch()
        os.utime(file, (1e9 - age_s, 1e9 - age_s))
    store.prune(PARTITION, 2, newest=40, now_s=1e9)
    assert store.candidates(PARTITION, None) == [FileEntry(paths[offset], offset) for offset in (999, 40, 30)]
    assert (old.exists(), young.exists()) == (False, True)
    store.prune(PARTITION, 1, newest=None, now_s=1e9)
    assert store.candidates(PARTITION, None) == [FileEntry(paths[999], 999)]
    store.prune(Partition("never", 0), 1, newest=None, now_s=1e9)


def test_topics_that_are_no_safe_folder_names_are_refused(tmp_path: Path) -> None:
    for topic in ("..", ".", "", "a/b", "a\0", "ü", "x" * 250):
        with pytest.raises(WorkerError, match="is not a topic name"):
            CheckpointStore(tmp_path, GROUP).path_for(Partition(topic, 0), 1)


GROUPS = [
    "group", "Group", "GROUP", "a/b", "a", "a/../b", "..", ".", "...", "../escaped", "/absolute", "a b", "a ",
    " a", "a.", ".a", "a\\b", "a:b", "ä", "a\u0308", "\u00e4b", "№5", "🚪", "a%2Fb", "%2E%2E", "a~b", "a\nb", "-",
    "readings", "*", "x" * 200, "x" * 201, "x" * 300, "X" * 300, "x" * 135 + "~", "ä" * 40, "ä" * 41, "~", "CON",
    "state?x=1#y",
]  # fmt: skip


def test_every_group_has_a_folder_of_its_own_below_the_directory(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    for group in GROUPS:
        for offset in (1, 2):
            state = replace(SMALL, next_offset=offset, forgotten={group: 1})
            store = CheckpointStore(folder, group)
            store.check_writable()
            path = store.publish(state, replace(IDENTITY, group_id=group), created=CREATED).path
            assert path.relative_to(folder).parts[1:] == ("readings", "2", f"{offset:020d}.h5")
        store.prune(PARTITION, 1, newest=None, now_s=1e9)
    assert len(list(folder.iterdir())) == len(GROUPS)
    assert len({path.name.lower() for path in folder.iterdir()}) == len(GROUPS) - 2  # three differ by case alone
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    for group in GROUPS:
        (entry,) = CheckpointStore(folder, group).candidates(PARTITION, None)
        identity = replace(IDENTITY, group_id=group)
        assert read_checkpoint(entry.path, identity, SPECS).forgotten == {group: 1}
        assert read_header(entry.path).identity == identity


def test_the_shadow_of_a_group_has_a_folder_that_no_group_has(tmp_path: Path) -> None:
    groups = [name for each in GROUPS for name in (each, f"{each}.shadow", f"{each}~shadow")]
    folders = {group_folder(group, shadow=shadow) for group in groups for shadow in (False, True)}
    assert len(folders) == 2 * len(set(groups))
    assert max(map(len, folders)) < 255
    shadow, group = CheckpointStore(tmp_path, "X", shadow=True), CheckpointStore(tmp_path, "X~shadow")
    path = shadow.publish(SMALL, replace(IDENTITY, group_id="X"), created=CREATED).path
    assert path.parts[-4] == "X~shadow"
    assert read_header(path).identity.group_id == "X"
    assert group.candidates(PARTITION, None) == CheckpointStore(tmp_path, "X.shadow").candidates(PARTITION, None) == []
    moved = tmp_path / "Y~shadow" / Path(*path.parts[-3:])
    moved.parent.mkdir(parents=True)
    path.rename(moved)
    with pytest.raises(CheckpointUnusableError, match="its name says Y~shadow"):
        read_header(moved)


def test_ordinary_names_of_groups_are_folders_as_they_are() -> None:
    names = ["rnn-stream-worker", "Team.A_1", "x" * 200]
    assert [group_folder(name) for name in names] == names
    assert [group_folder(name) for name in ("a/b", "..", "ä~")] == ["a%2Fb", "%2E%2E", "%C3%A4%7E"]
    assert re.fullmatch("x{135}~[0-9a-f]{64}", group_folder("x" * 201))


def test_a_file_system_that_does_not_tell_case_apart_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There the folder of one group is opened by the name of another; its listing tells."""
    CheckpointStore(tmp_path, "Pumps").check_writable()
    monkeypatch.setattr(os, "listdir", lambda folder: ["Pumps"])
    CheckpointStore(tmp_path, "Pumps").check_writable()
    with pytest.raises(
        WorkerError, match=r"does not distinguish capital from small letters.* differs from 'pumps' only"
    ):
        CheckpointStore(tmp_path, "pumps").check_writable()


def test_a_folder_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "new" / "state", GROUP)
    store.check_writable()
    assert [path.name for path in store.directory.rglob("*")] == ["group"]
    (tmp_path / "file").touch()
    broken = CheckpointStore(tmp_path / "file", GROUP)
    for attempt in (broken.check_writable, lambda: broken.candidates(PARTITION, None)):
        with pytest.raises(WorkerError, match=r"^state.directory: can't (write to|list) '[^\n]*$"):
            attempt()


KILLED_BEFORE_RENAME = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import tests.checkpoints.test_checkpoints as t
os.replace = lambda source, target: os.kill(os.getpid(), signal.SIGKILL)
t.written(Path(sys.argv[1]))
"""


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, str(folder), str(Path(__file__).parents[2])]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def test_a_kill_before_the_rename_leaves_only_what_readers_ignore(tmp_path: Path) -> None:
    older = written(tmp_path, replace(SMALL, next_offset=5))
    assert run(KILLED_BEFORE_RENAME, tmp_path).returncode == -signal.SIGKILL
    left = [path.name for path in older.parent.iterdir() if path != older]
    assert len(left) == 1
    assert left[0].startswith(".00000000000000001234.")
    assert [entry.path for entry in CheckpointStore(tmp_path, GROUP).candidates(PARTITION, None)] == [older]


# The writer


def outcome(writer: CheckpointWriter, count: int = 1) -> list[CheckpointResult]:
    """The next results; polls, as the loop does."""
    results: list[CheckpointResult] = []
    deadline = time.monotonic() + DEADLINE_S
    while len(results) < count:
        assert time.monotonic() < deadline, f"{len(results)} of {count} results"
        results += writer.poll_results()
        time.sleep(0.001)
    return results


def test_writer_publishes_in_the_background_and_keeps_generations(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, GROUP)
    writer = CheckpointWriter(store, keep=2, now=lambda: CREATED)
    results = []
    for offset in (10, 20, 30):
        writer.submit(replace(SMALL, next_offset=offset), IDENTITY)
        results += outcome(writer)
    assert writer.close(DEADLINE_S)
    assert writer.close(0)
    assert [(r.partition, r.next_offset, r.ok, r.error) for r in results] == [
        (PARTITION, offset, True, None) for offset in (10, 20, 30)
    ]
    newest, second = store.candidates(PARTITION, None)
    assert results[-1].size_bytes == newest.path.stat().st_size
    assert (newest.next_offset, second.next_offset) == (30, 20)
    assert read_header(newest.path).created == CREATED.isoformat()


def test_a_newer_snapshot_replaces_the_one_that_waits(tmp_path: Path) -> None:
    # The clock is asked when a write begins: holding the pipe's answer back holds the thread there.
    reader, gate = os.pipe()
    begun = []

    def now() -> datetime:
        begun.append(1)
        os.read(reader, 1)
        return CREATED

    writer = CheckpointWriter(CheckpointStore(tmp_path, GROUP), now=now)
    writer.submit(replace(SMALL, next_offset=1), IDENTITY)
    deadline = time.monotonic() + DEADLINE_S
    while not begun:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    other = Partition("readings", 7)
    for state in (
        replace(SMALL, next_offset=2),
        replace(SMALL, next_offset=3, partition=other),
        replace(SMALL, next_offset=4),
    ):
        writer.submit(state, IDENTITY)
    os.write(gate, b"123")
    assert [(r.partition, r.next_offset) for r in outcome(writer, 3)] == [(PARTITION, 1), (PARTITION, 4), (other, 3)]
    assert writer.close(DEADLINE_S)
    os.close(gate)
    os.close(reader)


def test_a_failed_write_is_a_result_and_the_next_one_works(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.touch()
    writer = CheckpointWriter(CheckpointStore(folder, GROUP), now=lambda: CREATED)
    writer.submit(SMALL, IDENTITY)
    (failed,) = outcome(writer)
    folder.unlink()
    writer.submit(make_state(["a\0"]), IDENTITY)
    (refused,) = outcome(writer)
    writer.submit(SMALL, IDENTITY)
    (fine,) = outcome(writer)
    assert writer.close(DEADLINE_S)
    assert failed.error is not None
    assert refused.error is not None
    assert (failed.ok, failed.size_bytes, failed.error.split(":")[0]) == (False, 0, "FileExistsError")
    assert (refused.ok, refused.error.split(",")[0]) == (False, r"AssertionError: key 'a\x00' ends in NUL")
    assert (fine.ok, fine.error) == (True, None)
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["00000000000000001234.h5"]


DISK_FULL = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import tests.checkpoints.test_checkpoints as t
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = t.CheckpointWriter(t.CheckpointStore(Path(sys.argv[1]), t.GROUP))
big = t.make_state([f"watch-{i}" for i in range(20_000)])
for limit in (100_000, 100_000, resource.RLIM_INFINITY):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    writer.submit(big, t.IDENTITY)
    (result,) = t.outcome(writer)
    print(result.ok, result.error)
"""


def test_a_disk_that_is_full_is_a_result_and_leaves_nothing_behind(tmp_path: Path) -> None:
    ended = run(DISK_FULL, tmp_path)
    too_large = "False OSError: [Errno 27] File too large"
    assert (ended.returncode, ended.stdout.splitlines(), ended.stderr) == (0, [too_large, too_large, "True None"], "")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["00000000000000001234.h5"]
