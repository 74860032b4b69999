"""Snapshots of the table of streams: what the table does later never shows in one that anybody still holds."""

from __future__ import annotations

import copy
import random
import sys
from typing import Any

import numpy as np
import pytest

from tests.depth import deep, examples
from tests.one_member import meaning
from worker.records.events import Reset
from worker.records.ownership import Partition
from worker.records.states import UNKNOWN_ID, PartitionState, StateLayout, StateSpec
from worker.streams.copies import READY_BYTES
from worker.streams.idle import forget_idle
from worker.streams.partition_streams import FORGOTTEN_STREAMS_LIMIT, FORGOTTEN_STREAMS_SHARE
from worker.streams.table import StreamTable

PARTITIONS = [Partition("in", number) for number in range(3)]
INITIAL = np.arange(8, dtype=np.float32)
LAYOUT = StateLayout.of([StateSpec("lstm", "h", (2,)), StateSpec("conv", "window", (3, 2))], INITIAL)
CAPACITY = 40
IDLE_MS = 50
ACTS = 400


class Streams:
    """A table, and beside it what each stream should hold."""

    def __init__(self, seed: int, units: int) -> None:
        self.random = random.Random(seed)
        self.table = StreamTable(LAYOUT, CAPACITY, units, IDLE_MS)
        self.units = units
        self.wanted: dict[Partition, dict[str, Any]] = {}
        self.now = 0
        self.held: list[tuple[PartitionState, PartitionState]] = []  # (as given, as it was then)
        for partition in PARTITIONS:
            self.table.open(partition)

    def event(self) -> None:
        """One stream, new or known, has an event; the table may have to forget another."""
        partition, name = self.random.choice(PARTITIONS), f"stream-{self.random.randrange(60)}"
        self.now += self.random.choice((0, 1, 9))
        self.table.partitions[partition].clock = self.now
        forget_idle(self.table, partition, self.now)
        row = self.table.row(partition, name)
        table, value = self.table, self.random.random()
        table.states[row], table.steps[row], table.pending[row] = value, table.steps[row] + 1, Reset.NONE
        table.times[row] = table.clocks[row] = self.now
        table.sequences[row] = self.random.choice((UNKNOWN_ID, None, "s", 1, 2.5, True))
        if table.emitted is not None:
            table.emitted[row] = value
        table.touch(np.array([row]))

    def arrive(self) -> None:
        """New streams come together, if there is room for all."""
        partition = self.random.choice(PARTITIONS)
        known = self.table.partitions[partition].rows
        names = [name for name in (f"stream-{n}" for n in self.random.sample(range(60), 3)) if name not in known]
        if len(names) <= self.table.room(partition):
            self.table.add(partition, names)
            self.table.touch(np.array([known[name] for name in names], np.int64))

    def forget(self) -> None:
        partition = self.random.choice(PARTITIONS)
        if names := list(self.table.partitions[partition].rows):
            self.table.forget(partition, self.random.choice(names), Reset.TOMBSTONE)

    def forget_idle(self) -> None:
        partition = self.random.choice(PARTITIONS)
        forget_idle(self.table, partition, self.table.partitions[partition].clock)

    def snapshot(self) -> None:
        state = self.table.snapshot(self.random.choice(PARTITIONS), self.now)
        self.held.append((state, copy.deepcopy(state)))

    def release(self) -> None:
        if self.held:
            self.held.pop(self.random.randrange(len(self.held)))

    def load(self) -> None:
        """A partition leaves and comes back as it was."""
        partition = self.random.choice(PARTITIONS)
        state = self.table.snapshot(partition, self.now)
        before = meaning(state, IDLE_MS)
        self.table.drop(partition)
        self.table.open(partition, state)
        assert meaning(self.table.snapshot(partition, self.now), IDLE_MS) == before


def columns(state: PartitionState) -> dict[str, Any]:
    """Comparable by ==, to the bit."""
    flat = {name: getattr(state, name) for name in state.__slots__}
    flat |= {f"states {name}": values for name, values in flat.pop("states").items()}
    flat["keys"], flat["sequences"] = list(state.keys), [(type(value), value) for value in state.sequences]
    return {
        name: (value.dtype, value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value
        for name, value in flat.items()
    }


@pytest.mark.parametrize("units", [0, 3], ids=["plain", "emitted"])
@deep
@pytest.mark.parametrize("seed", range(examples(20)))
def test_a_snapshot_stays_as_it_was(seed: int, units: int) -> None:
    streams = Streams(seed, units)
    acts = (
        [streams.event] * 30
        + [streams.arrive, streams.forget, streams.forget_idle, streams.load]
        + [streams.snapshot, streams.release] * 3
    )
    for _ in range(ACTS):
        streams.random.choice(acts)()
        for given, then in streams.held:
            assert columns(given) == columns(then)
    assert streams.table.evicted + streams.table.idle > 0


@pytest.mark.parametrize("units", [0, 3], ids=["plain", "emitted"])
@pytest.mark.parametrize("count", [0, 1, 5, 70])
def test_streams_added_together_are_as_if_they_came_one_by_one(count: int, units: int) -> None:
    together, singly = (StreamTable(LAYOUT, 80, units) for _ in range(2))
    partition, names = PARTITIONS[0], [f"s{number}" for number in range(2, count + 2)]
    for table in (together, singly):
        table.open(partition)
        for name in ("s0", "s1", "s2", "s3"):  # two of them come again
            row = table.row(partition, name)
            table.states[row], table.steps[row], table.sequences[row] = 7, 9, "q"
        table.snapshot(partition, 0)
        for name in ("s3", "s1", "s2"):
            table.forget(partition, name, Reset.COMMAND)
    together.add(partition, names)
    for name in names:
        singly.row(partition, name)
    assert together.partitions[partition].rows == singly.partitions[partition].rows
    assert columns(together.snapshot(partition, 1)) == columns(singly.snapshot(partition, 1))
    assert len(together) == count + 1
    assert together.room(partition) == 80 - count - 1


def test_a_snapshot_holds_what_the_table_holds() -> None:
    table = StreamTable(LAYOUT, 10, 1)
    one, other, _ = PARTITIONS
    table.open(one)
    table.open(other)
    for number, partition in enumerate((one, other, one, other, one)):
        row = table.row(partition, f"s{number}")
        table.states[row] = np.arange(8) * number
        table.steps[row], table.times[row], table.clocks[row] = number, 10 + number, 20 + number
        table.pending[row], table.sequences[row] = number, f"q{number}"
        assert table.emitted is not None
        table.emitted[row] = number / 8
        table.touch(np.array([row]))
    table.forget(one, "s0", Reset.COMMAND)
    table.partitions[one].clock = 24
    state = table.snapshot(one, 77)
    order = sorted(range(2), key=lambda index: state.keys[index])
    assert [state.keys[index] for index in order] == ["s2", "s4"]
    assert [state.sequences[index] for index in order] == ["q2", "q4"]
    numbers = (state.steps, state.times, state.clocks, state.pending, state.touched)
    assert [column[order].tolist() for column in numbers] == [[2, 4], [12, 14], [22, 24], [2, 4], [2, 4]]
    assert state.states["lstm", "h"][order].tolist() == [[0, 2], [0, 4]]
    assert state.states["conv", "window"][order].tolist() == [
        [[4, 6], [8, 10], [12, 14]],
        [[8, 12], [16, 20], [24, 28]],
    ]
    assert state.emitted is not None
    assert state.emitted[order].tolist() == [[0.25], [0.5]]
    assert (state.partition, state.next_offset, state.clock) == (one, 77, 24)
    assert state.forgotten == {"s0": Reset.COMMAND}


def test_a_snapshot_has_the_streams_of_now() -> None:
    table, partition = StreamTable(LAYOUT, 10), PARTITIONS[0]
    table.open(partition)
    seen = []
    for act in ("a", "b", "", "-a", "c", "-c", "a"):
        if act.startswith("-"):
            table.forget(partition, act[1:], Reset.TOMBSTONE)
        elif act:
            table.row(partition, act)
        seen.append("".join(sorted(table.snapshot(partition, 0).keys)))
    assert seen == ["a", "ab", "ab", "b", "bc", "b", "ab"]


def test_the_oldest_reasons_are_forgotten_together() -> None:
    table, partition = StreamTable(LAYOUT, 10), PARTITIONS[0]
    table.open(partition)
    known = table.partitions[partition].forgotten
    known.update({f"old{number}": int(Reset.IDLE) for number in range(FORGOTTEN_STREAMS_LIMIT)})
    table.row(partition, "s")
    table.forget(partition, "s", Reset.COMMAND)
    dropped = 1 + FORGOTTEN_STREAMS_LIMIT // FORGOTTEN_STREAMS_SHARE
    assert len(known) == FORGOTTEN_STREAMS_LIMIT + 1 - dropped
    assert next(iter(known)) == f"old{dropped}"
    assert known["s"] == Reset.NEW  # it was pending, and outlives the stream


def test_the_memory_of_reasons_has_its_size_once_they_are_as_many_as_there_may_be() -> None:
    limit = FORGOTTEN_STREAMS_LIMIT // 16  # a power of two: a dict of so many is as full as one of all
    table, partition = StreamTable(LAYOUT, 10, forgotten_limit=limit), PARTITIONS[0]
    table.open(partition)
    sizes = set()
    for number in range(4 * limit):
        table.row(partition, f"s{number}")
        table.forget(partition, f"s{number}", Reset.IDLE)
        if number >= 1.1 * limit:
            sizes.add(sys.getsizeof(table.partitions[partition].forgotten))
    assert len(sizes) == 1, sizes


def test_memory_for_copies_is_that_of_one_part() -> None:
    table = StreamTable(LAYOUT, 1_000_000)
    table.copied_at_once = 8
    for partition in PARTITIONS:
        table.open(partition)
    ahead = READY_BYTES // table._values.itemsize
    streams = 2 * ahead  # of each of two partitions
    for number in range(2 * streams):
        table.row(PARTITIONS[number % 2], f"s{number}")
    assert streams <= table._arena._ready <= streams + ahead
    assert all(len(table.snapshot(partition, 0).keys) == streams for partition in PARTITIONS[:2])


def test_each_partition_has_its_own_limit_and_rows_for_as_many_as_come() -> None:
    table = StreamTable(LAYOUT, 2)
    numbers = [Partition("in", number) for number in range(20)]
    for partition in numbers:
        table.open(partition)
        for name in ("a", "b", "c"):
            row = table.row(partition, f"{name}{partition.number}")
            table.states[row], table.sequences[row] = partition.number, name
            table.touch(np.array([row]))
    for partition in numbers:
        state = table.snapshot(partition, 0)
        assert sorted(state.keys) == [f"b{partition.number}", f"c{partition.number}"]
        assert (state.states["lstm", "h"] == partition.number).all()
        assert sorted(state.sequences) == ["b", "c"]
    assert (table.evicted, len(table)) == (20, 40)
    assert table.capacity <= 2 * 2 * 20


def test_memory_for_rows_is_taken_where_they_are_touched() -> None:
    terabytes = StreamTable(StateLayout({}, np.zeros(1_000_000, np.float32)), 1_000)
    for partition in PARTITIONS * 100:
        terabytes.open(partition._replace(topic=f"in-{len(terabytes.partitions)}"))
    assert terabytes._values.nbytes > 1e12
    assert (terabytes.states[-1] == 0).all()


def test_one_name_in_two_partitions_of_a_topic_is_noticed() -> None:
    table, other = StreamTable(LAYOUT, 10), Partition("other", 0)
    for partition in (*PARTITIONS[:2], other):
        table.open(partition)
    table.row(PARTITIONS[0], "pump-1")
    table.add(PARTITIONS[1], ["pump-2", "pump-3"])
    table.row(other, "pump-1")  # another topic: another kind of record
    doubles = table.doubles
    assert (doubles.count, doubles.last) == (0, None)
    table.row(PARTITIONS[1], "pump-1")
    assert (doubles.count, doubles.last) == (1, ("pump-1", PARTITIONS[0], PARTITIONS[1]))
    table.row(PARTITIONS[1], "pump-1")
    assert doubles.count == 1


@pytest.mark.parametrize("together", [True, False])
def test_a_stream_in_several_partitions_counts_once_however_often_it_is_found(
    monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    table = StreamTable(LAYOUT, 10)
    for partition in PARTITIONS:
        table.open(partition)

    def begin(partition: Partition, name: str) -> int:
        if together:
            table.add(partition, [name])
        else:
            table.row(partition, name)
        return table.doubles.count

    assert [begin(partition, "pump-1") for partition in PARTITIONS] == [0, 1, 1]
    for _ in range(3):
        table.forget(PARTITIONS[1], "pump-1", Reset.TOMBSTONE)
        assert begin(PARTITIONS[1], "pump-1") == 1
        state = table.snapshot(PARTITIONS[1], 0)
        table.drop(PARTITIONS[1])
        table.open(PARTITIONS[1], state)
        assert table.doubles.count == 1
    others = [Partition("other", number) for number in range(2)]
    for partition in others:
        table.open(partition)
    assert [begin(partition, "pump-1") for partition in others] == [1, 2]  # a stream of its own
    assert [begin(partition, "pump-2") for partition in PARTITIONS] == [2, 3, 3]
    monkeypatch.setattr("worker.streams.doubles.DOUBLES_REMEMBERED", 1)
    assert [begin(partition, "pump-3") for partition in others] == [3, 4]
    table.forget(PARTITIONS[1], "pump-1", Reset.TOMBSTONE)
    assert begin(PARTITIONS[1], "pump-1") == 5  # no longer remembered


@pytest.mark.parametrize("sent", [None, 1, 2, 3])
def test_what_a_model_of_another_width_has_sent_is_unknown(sent: int | None) -> None:
    """States may be kept from a model with another number of outputs."""
    first = StreamTable(LAYOUT, CAPACITY, sent or 0)
    first.open(PARTITIONS[0])
    row = first.row(PARTITIONS[0], "a")
    if first.emitted is not None:
        first.emitted[row] = 0.5
    second = StreamTable(LAYOUT, CAPACITY, 2)
    second.open(PARTITIONS[0], first.snapshot(PARTITIONS[0], 1))
    assert second.emitted is not None
    found = second.emitted[second.partitions[PARTITIONS[0]].rows["a"]].tolist()
    assert found == [0.5, 0.5] if sent == 2 else np.isnan(found).all()
