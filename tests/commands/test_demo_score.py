"""The score: lists of events and outputs in, figures out."""

from collections import Counter

import pytest

from worker.commands.demo.player import Sent
from worker.commands.demo.score import Meter, Output, Scoreboard, median_of, parse_output

OTHER = {"walking": "running", "running": "walking", "standing": "running"}


def play(
    board: Scoreboard, sequence: str, truth: str, rights: str, *, final: bool = True, late_s: float = 0.01
) -> None:
    """One event and one output for each character: R is a right answer, w a wrong one."""
    for step, mark in enumerate(rights, 1):
        board.sent(Sent(sequence.rsplit("-", 1)[0], sequence, truth, step, float(step)))
        label = truth if mark == "R" else OTHER[truth]
        board.seen(Output(sequence, step, label, (1.0,), final and step == len(rights)), step + late_s)


@pytest.mark.parametrize(
    ("rights", "since"),
    [("RRRRR", 1), ("wwRRR", 3), ("RRwRR", 4), ("wwwwR", 5), ("RRRRw", None), ("wwwww", None), ("R", 1)],
)
def test_right_since_is_the_step_from_which_the_answer_stayed_right(rights: str, since: int | None) -> None:
    board = Scoreboard()
    play(board, "watch-01-1", "walking", rights)
    assert board.shown["watch-01"].right_since == since
    score = board.classes["walking"]
    assert (score.finished, score.right) == (1, int(since is not None))
    assert score.since == ({since: 1} if since else {})


def test_the_summary_adds_up_over_watches_and_classes() -> None:
    board = Scoreboard()
    play(board, "watch-01-1", "walking", "wRRR" + "R" * 8)
    play(board, "watch-01-2", "walking", "RRwR" + "R" * 8)
    play(board, "watch-02-1", "running", "wwww" + "R" * 7 + "w")
    play(board, "watch-03-1", "standing", "RRR", final=False)
    summary = board.summary()
    assert (summary.events, summary.outputs, summary.missing, summary.surplus) == (39, 39, 0, 0)
    assert (summary.finished, summary.right) == (3, 2)
    assert summary.exact
    assert summary.since == Counter({2: 1, 4: 1})
    assert median_of(summary.since) == 3.0
    assert summary.accuracy_at == {10: (3, 3), 25: (0, 0), 50: (0, 0), 100: (0, 0)}
    assert summary.latency_ms == pytest.approx(10.0)
    assert summary.seconds == pytest.approx(2.01)  # the last output read is step 3 of watch-03


def test_an_event_without_an_output_is_missing() -> None:
    board = Scoreboard()
    for step in (1, 2, 3):
        board.sent(Sent("w", "w-1", "walking", step, 0.0))
    board.seen(Output("w-1", 1, "walking", (1.0,), False), 0.1)
    board.seen(Output("w-1", 3, "walking", (1.0,), True), 0.1)
    assert board.lag_events == 1
    assert (board.summary().missing, board.summary().exact) == (1, False)


@pytest.mark.parametrize(
    "extra",
    [
        Output("w-1", 1, "walking", (1.0,), False),  # again, while the sequence continues
        Output("w-1", 4, "walking", (1.0,), False),  # a step that was never sent
        Output("w-1", 0, "walking", (1.0,), False),
        Output("other-1", 1, "walking", (1.0,), False),  # a sequence that was never sent
    ],
)
def test_an_output_that_no_event_asked_for_is_surplus_and_changes_nothing_else(extra: Output) -> None:
    board = Scoreboard()
    for step in (1, 2, 3):
        board.sent(Sent("w", "w-1", "walking", step, 0.0))
    outputs = [Output("w-1", step, "walking", (1.0,), step == 3) for step in (1, 2, 3)]
    for output in [*outputs[:2], extra, outputs[2]]:
        board.seen(output, 0.1)
    summary = board.summary()
    assert (summary.outputs, summary.missing, summary.surplus, summary.exact) == (3, 0, 1, False)
    assert summary.classes["walking"].right == 1


def test_a_repeat_after_the_end_of_its_sequence_is_surplus_too() -> None:
    board = Scoreboard()
    play(board, "w-1", "walking", "RRR")
    board.seen(Output("w-1", 3, "running", (1.0,), True), 9.0)
    assert (board.surplus, board.classes["walking"].finished) == (1, 1)


def test_answers_in_another_order_than_the_events_are_not_called_exact() -> None:
    board = Scoreboard()
    for step in (1, 2, 3):
        board.sent(Sent("w", "w-1", "walking", step, 0.0))
    for step in (2, 1, 3):
        board.seen(Output("w-1", step, "walking", (1.0,), step == 3), 0.1)
    summary = board.summary()
    assert (summary.missing, summary.surplus, summary.disordered, summary.exact) == (0, 0, 1, False)


def test_nothing_played_is_a_summary_of_zeros() -> None:
    summary = Scoreboard().summary()
    assert (summary.events, summary.seconds, summary.latency_ms, summary.finished) == (0, 0.0, None, 0)
    assert median_of(summary.since) is None


def test_memory_does_not_grow_with_finished_sequences() -> None:
    board = Scoreboard()
    for number in range(50):
        play(board, f"w-{number}", "walking", "RRR")
    assert board._plays == {}
    assert list(board.shown) == ["w"]


def test_the_meter_measures_the_last_seconds_only() -> None:
    meter = Meter(window_s=2.0)
    assert meter.per_second == 0.0
    for second, total in enumerate([0, 100, 200, 300, 1300, 2300, 3300]):
        meter.add(float(second), total)
    assert meter.per_second == pytest.approx(1000.0)


def test_an_output_record_of_the_worker_is_read() -> None:
    record = (
        b'{"stream":"watch-07","sequence":"watch-07-3","step":12,"probabilities":[0.01,0.02,0.96,0.01],'
        b'"label":"walking","final":false,"reset":null,"time":1795240795377,"origin":"live","model":"4f1c9a2b7d10",'
        b'"source":{"topic":"readings","partition":2,"offset":1234}}'
    )
    assert parse_output(record) == Output("watch-07-3", 12, "walking", (0.01, 0.02, 0.96, 0.01), False)
