"""A sample of a turn: the events all over it, what they gave and got, and the states of their streams."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.sums import Sums, batch, sums_pipeline
from worker.codecs.decoding import open_decoder
from worker.codecs.fields import InputFields
from worker.engine.boundaries import BoundaryRules
from worker.engine.emission import EmitRule
from worker.engine.engine import Engine
from worker.engine.sampling import (
    SAMPLED_COLUMNS,
    SAMPLED_EVENTS,
    SAMPLED_STATE_NUMBERS,
    Sample,
    spread,
)
from worker.records.ownership import Partition
from worker.records.states import StateLayout, StateSpec
from worker.streams.table import StreamTable

PARTITIONS = [Partition("readings", number) for number in range(2)]


def sampled(batches: list[list[tuple[bytes, float]]], replayed: tuple[int, ...] = ()) -> Sample | None:
    pipeline = sums_pipeline(max_streams=5000)
    assert isinstance(pipeline.engine, Engine)
    pipeline.engine.sampler.wanted = True
    work = []
    for number, events in enumerate(batches):
        pipeline.engine.table.open(PARTITIONS[number])
        rows = [(key, json.dumps({"x": value}).encode()) for key, value in events]
        work.append(batch(PARTITIONS[number], rows, replay=number in replayed))
    pipeline.turn(work)
    assert pipeline.engine.sampler.wanted == (pipeline.engine.sampler.taken is None)
    return pipeline.engine.sampler.taken


def test_a_turn_that_is_small_is_sampled_whole() -> None:
    found = sampled([[(b"a", 1), (b"b", 2), (b"a", 3)], [(b"c", 4)]])
    assert found is not None
    assert found.vectors.tolist() == [[1], [2], [3], [4]]
    assert found.outputs.tolist() == [[1, 1], [2, 2], [4, 3], [4, 4]]
    assert sorted(found.states.ravel().tolist()) == [2, 4, 4]


def test_a_replay_is_not_sampled_and_what_is_live_beside_it_is() -> None:
    found = sampled([[(b"a", 1)], [(b"c", 4)]], replayed=(0,))
    assert found is not None
    assert found.vectors.tolist() == [[4]]
    assert sampled([[(b"a", 1)], [(b"c", 4)]], replayed=(0, 1)) is None


def test_the_events_of_a_scan_are_sampled_too() -> None:
    found = sampled([[(b"a", 1)] * 50])
    assert found is not None
    assert found.outputs[:, 0].tolist() == list(range(1, 51))
    assert found.states.tolist() == [[50]]


def test_of_a_large_turn_some_of_each_partition_and_of_each_stream() -> None:
    keys = [b"a", b"b", b"c", b"d"]
    events = [(keys[number % 4], float(number % 4)) for number in range(2 * SAMPLED_EVENTS)]
    found = sampled([events, [(key, value + 4) for key, value in events]])
    assert found is not None
    _, counts = np.unique(found.vectors, return_counts=True)
    assert counts.sum() == SAMPLED_EVENTS
    assert (counts > SAMPLED_EVENTS / 8 / 2).all()
    assert len(counts) == 8


@pytest.mark.parametrize("count", [0, 1, 7, 1023, 1024, 1025, 4096, 65536])
@pytest.mark.parametrize("most", [1, 7, 1024])
def test_what_is_spread_is_in_order_and_no_more_than_asked_for(count: int, most: int) -> None:
    found = np.arange(count)[spread(count, most)]
    assert len(found) == min(count, most)
    assert (np.diff(found) > 0).all()


class Wide(Sums):
    """Has many outputs."""

    units = 40

    def step_packed(self, x: Any, packed: Any) -> tuple[Any, Any]:
        return np.zeros((len(x), self.units), np.float32), packed + 1


def test_wide_events_and_wide_states_are_sampled_within_limits() -> None:
    width, streams = SAMPLED_STATE_NUMBERS // 16, 100
    layout = StateLayout.of([StateSpec("sum", "h", (width,))], np.zeros(width, np.float32))
    table = StreamTable(layout, 1000)
    engine = Engine(Wide(), table, BoundaryRules(), EmitRule())
    decoder = open_decoder("float32", InputFields(width=100, features=()), layout)
    table.open(PARTITIONS[0])
    engine.sampler.wanted = True
    rows = [(b"%d" % number, np.arange(100, dtype="<f4").tobytes()) for number in range(streams)]
    engine.process(decoder.decode_all([batch(PARTITIONS[0], rows)]))
    found = engine.sampler.taken
    assert found is not None
    assert found.vectors.shape == (streams, SAMPLED_COLUMNS)
    assert found.outputs.shape == (streams, SAMPLED_COLUMNS)
    assert found.states.shape == (16, width)
