"""What the watches play, and when."""

from collections import Counter
from functools import partial
from itertools import islice, pairwise

import numpy as np
import orjson
import pytest

from tests.conftest import eventually
from worker.commands.demo.motions import LABELS, load
from worker.commands.demo.player import STAGGER_STEPS, Event, Player, schedule, time_of, value_of, watches_for


@pytest.mark.parametrize("watches", [1, 7, 40, 90])
def test_every_sequence_is_played_whole_and_in_order_by_one_watch(watches: int) -> None:
    steps: dict[str, list[Event]] = {}
    for event in islice(schedule(watches, cases=40), 30_000):
        steps.setdefault(event.sequence, []).append(event)
    for events in steps.values():
        assert [event.step for event in events] == list(range(1, len(events) + 1))
        assert len(events) <= 100
        assert len({(event.watch, event.case) for event in events}) == 1
        assert [event.last for event in events] == [event.step == 100 for event in events]
    assert len({events[0].watch for events in steps.values()}) == watches


@pytest.mark.parametrize("watches", [1, 7, 40])
def test_all_cases_are_played_once_before_one_is_played_again(watches: int) -> None:
    played = [event.case for event in islice(schedule(watches, cases=5), 2_000 * watches) if event.last]
    whole = len(played) - len(played) % 5 - max(watches, 5)  # the last ones are still being played
    counts = Counter(played[:whole])
    assert max(counts.values()) - min(counts.values()) <= 1 + watches // 5
    assert set(counts) == set(range(5))


def test_events_are_due_in_order_and_each_watch_at_ten_hertz() -> None:
    events = list(islice(schedule(20, cases=40), 5_000))
    assert all(earlier.due_steps <= later.due_steps for earlier, later in pairwise(events))
    for watch in {event.watch for event in events}:
        due = [event.due_steps for event in events if event.watch == watch]
        assert due[0] < STAGGER_STEPS + 1
        assert np.diff(due) == pytest.approx(1.0)
        times = [time_of(event, 1_000_000) for event in events if event.watch == watch]
        assert np.abs(np.diff(times) - 100).max() <= 1


def test_the_same_seed_plays_the_same_and_another_one_does_not() -> None:
    first, again, other = (list(islice(schedule(5, cases=40, seed=seed), 3_000)) for seed in (1, 1, 2))
    assert first == again
    assert [event.case for event in first] != [event.case for event in other]


def test_a_record_holds_the_six_numbers_of_the_source_and_not_the_truth() -> None:
    motions = load("TEST")
    fields = orjson.loads(value_of(Event(0.0, "watch-07", "watch-07-3", 4, 12), motions))
    assert fields == {
        **dict(zip(["ax", "ay", "az", "gx", "gy", "gz"], fields.values(), strict=False)),
        "sequence": "watch-07-3",
    }
    numbers = [fields[name] for name in ("ax", "ay", "az", "gx", "gy", "gz")]
    assert np.array(numbers, dtype=np.float32).tolist() == pytest.approx(motions.vectors[4, 11].tolist(), abs=1e-6)
    assert orjson.loads(value_of(Event(0.0, "watch-07", "watch-07-3", 4, 100), motions))["last"] is True


def test_few_events_are_shared_by_few_watches_so_that_each_finishes_a_sequence() -> None:
    for events in (125, 500, 2_000, 5_000, 100_000):
        finished = {event.watch for event in islice(schedule(watches_for(events), 40), events) if event.last}
        assert len(finished) == watches_for(events)
    assert watches_for(1) == 1
    assert watches_for(None) == 40


def test_the_player_sends_what_is_due_and_tells_each_event_before_sending_it() -> None:
    motions, now = load("TEST"), [0.0]
    sent: list[tuple[str, int]] = []

    def clock() -> float:
        now[0] += 0.001
        return now[0]

    def send(key: bytes, value: bytes, time_ms: int) -> None:
        assert player.sent[-1].sequence == orjson.loads(value)["sequence"]
        sent.append((key.decode(), time_ms))

    player = Player(motions, send, clock, watches=3, speed=1000.0, start_ms=5_000, events=200)
    player.run()
    assert player.failure is None
    assert len(sent) == len(player.sent) == 200
    assert [(told.watch, told.truth in LABELS) for told in player.sent] == [(key, True) for key, _ in sent]
    due = [event.due_steps for event in islice(schedule(3, 40), 200)]
    assert [time for _, time in sent] == [5_000 + round(step * 100) for step in due]
    assert all(told.at_s >= step / 10 / 1000 for told, step in zip(player.sent, due, strict=True))


def test_a_refusing_client_ends_the_play_and_is_named() -> None:
    def send(key: bytes, value: bytes, time_ms: int) -> None:
        raise OSError("no route")

    player = Player(load("TEST"), send, iter(range(1000)).__next__, watches=1, speed=1e9, start_ms=0)
    player.start()
    player.join(60)
    assert not player.is_alive()
    assert str(player.failure) == "no route"


def test_the_player_waits_for_a_worker_that_is_far_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.commands.demo.player.MOST_AHEAD_EVENTS", 10)
    sent: list[bytes] = []

    def has_sent(wanted: int) -> bool:
        return len(sent) >= wanted

    player = Player(
        load("TEST"),
        lambda key, value, at: sent.append(key),
        iter(range(10**9)).__next__,
        watches=1,
        speed=1e9,
        start_ms=0,
    )
    player.start()
    try:
        for answered in (0, 7, 25):
            player.answered = answered
            wanted = answered + 10
            eventually(partial(has_sent, wanted))
            assert len(sent) == wanted
    finally:
        player.stop()
        player.join(60)
    assert not player.is_alive()
