"""What is committed and saved of a partition whose records are read before they are answered."""

from __future__ import annotations

from tests.sums import batch
from worker.kafka.contracts import TopicFacts
from worker.member.commit_notes import Place, noted_work
from worker.member.positions import Positions
from worker.records.ownership import Partition
from worker.records.states import Unfinished
from worker.streams.partition_streams import PartitionStreams

P = Partition("in", 0)
NO_TOPIC = TopicFacts("", 1)


def opened(
    start: int = 0, live_from: int = 0, owed: dict[int, int] | None = None
) -> tuple[Positions, PartitionStreams]:
    streams = PartitionStreams()
    positions = Positions({P: streams}, generates=True)
    positions.open(P, "id", start, live_from, "", owed or {})
    return positions, streams


def read(positions: Positions, streams: PartitionStreams, next_offset: int, unfinished: dict[int, int]) -> None:
    """Read up to ``next_offset``, and so many outputs of these records are sent now."""
    positions.advance(P, next_offset)
    streams.read_to = max(streams.read_to, next_offset)
    streams.unfinished = {offset: Unfinished(offset, "a", 0, True, sent) for offset, sent in unfinished.items()}


def commit(positions: Positions) -> Place | None:
    """What is committed now, as a restart would read it; None for nothing."""
    offsets = positions.uncommitted()
    if not offsets:
        return None
    read_to, unfinished = noted_work(positions.notes(offsets)[P], NO_TOPIC, offsets[P])
    place = Place(offsets[P], read_to, tuple(unfinished.items()))
    assert positions.committed(offsets) == {P: place}
    return place


def test_the_first_record_that_is_not_answered_is_committed() -> None:
    positions, streams = opened()
    read(positions, streams, 10, {4: 0, 7: 2})
    assert commit(positions) == Place(4, 10, ((4, 0), (7, 2)))
    assert commit(positions) is None
    read(positions, streams, 10, {4: 1, 7: 2})
    assert commit(positions) == Place(4, 10, ((4, 1), (7, 2)))
    read(positions, streams, 12, {7: 9})
    assert commit(positions) == Place(7, 12, ((7, 9),))
    read(positions, streams, 12, {})
    assert commit(positions) == Place(12, 12)
    assert positions.commits() == {P: Place(12, 12)}


def test_a_record_is_finished_once_it_is_read_and_not_unfinished() -> None:
    """After a restart: those owed are committed as such until they are answered, those answered before are not."""
    positions, streams = opened(start=2, live_from=10, owed={4: 3, 7: 0})
    assert commit(positions) is None
    read(positions, streams, 5, {2: 0, 4: 0})  # 2 is run again only for its states
    assert commit(positions) is None
    read(positions, streams, 5, {2: 0, 4: 5})
    assert commit(positions) == Place(4, 10, ((4, 5), (7, 0)))
    read(positions, streams, 6, {2: 0})
    assert commit(positions) == Place(7, 10, ((7, 0),))
    read(positions, streams, 10, {2: 0, 7: 1})
    assert commit(positions) == Place(7, 10, ((7, 1),))
    read(positions, streams, 11, {2: 0})
    assert commit(positions) == Place(11, 11)


def test_an_owed_record_that_the_log_has_no_more_is_not_waited_for() -> None:
    positions, streams = opened(start=4, live_from=10, owed={4: 3, 7: 0})
    read(positions, streams, 10, {})
    assert commit(positions) == Place(10, 10)


def test_records_are_replayed_unless_they_are_owed() -> None:
    positions, _ = opened(start=4, live_from=8, owed={5: 3})
    found = positions.to_answer(batch(P, [(b"a", b"{}")] * 6, start=4))
    assert [(each.offsets, each.next_offset, each.replay, dict(each.sent)) for each in found] == [
        ([4], 5, True, {}), ([5], 6, False, {5: 3}), ([6, 7], 8, True, {}), ([8, 9], 10, False, {}),
    ]  # fmt: skip


def test_a_checkpoint_begins_at_the_first_record_that_is_not_finished() -> None:
    positions, streams = opened()
    assert positions.unsaved() == []
    read(positions, streams, 10, {4: 0, 7: 2})
    assert positions.unsaved() == []  # not committed
    commit(positions)
    assert positions.unsaved() == [P]
    assert positions.snapshot_at(P) == (4, 10)
    positions.saved(P)
    assert positions.unsaved() == []
    read(positions, streams, 10, {4: 0})
    commit(positions)
    assert (positions.unsaved(), positions.snapshot_at(P)) == ([P], (4, 10))
    positions.saved(P)
    positions.not_saved(P)
    assert positions.unsaved() == [P]


def test_during_a_replay_states_are_saved_once_all_that_they_have_seen_is_committed() -> None:
    positions, streams = opened(start=2, live_from=10, owed={4: 0})
    read(positions, streams, 6, {2: 0, 4: 0})
    assert (positions.unsaved(), positions.snapshot_at(P)) == ([P], (2, 6))
    read(positions, streams, 6, {2: 0})
    assert positions.unsaved() == []  # 4 is answered, and a restart would answer it again
    commit(positions)
    assert positions.unsaved() == [P]


def test_states_that_have_seen_what_is_read_again_keep_their_position() -> None:
    streams = PartitionStreams(read_to=9, unfinished={4: Unfinished(4, "a", 0, True), 6: Unfinished(6, "a", 0, True)})
    positions = Positions({P: streams}, generates=True)
    positions.open(P, "id", 4, 12, "", {4: 0, 6: 0})
    positions.advance(P, 5)
    assert (positions.unsaved(), positions.snapshot_at(P)) == ([], (4, 9))
    positions.advance(P, 11)  # a gap in the log
    assert positions.snapshot_at(P) == (4, 11)
