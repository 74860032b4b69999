"""A span for a turn: what it says, what it is linked to, and how often there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import opentelemetry.semconv._incubating.attributes.messaging_attributes as conventions
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind

from tests.one_member import COMMIT_S, GROUP, IN, WALL_S, Cluster, Member
from tests.toy_texts_pipeline import SPECS, ask, texts_pipeline
from worker.telemetry.log_handler import ATTRIBUTES
from worker.telemetry.turn_spans import LINKED_INTERVAL_S, LINKS_LIMIT, UNLINKED_INTERVAL_S, TurnSpans


class Traced:
    """A member whose turns have spans."""

    def __init__(self, folder: Path, sampler: Any = None, **more: Any) -> None:
        self.cluster = Cluster(folder)
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.spans = TurnSpans(provider.get_tracer("worker"), GROUP)
        self.member = self.enter(**more)

    def enter(self, **more: Any) -> Member:
        member = Member(self.cluster, **more)
        member.worker.reporter.traced = self._turned
        return member

    def _turned(self, outcomes: Any, began_s: float, ended_s: float) -> None:
        passed_s = self.cluster.now_s  # the wall clock of these members stands still
        self.spans.turned(outcomes, began_s + passed_s, ended_s + passed_s)

    def write(self, *traces: tuple[int, int] | None, partition: int = 0) -> None:
        """A record for each: (trace and span id, flags), or None for one without."""
        for trace in traces:
            headers = trace and [("traceparent", b"00-%032x-%016x-%02x" % (trace[0], trace[0], trace[1]))]
            self.cluster.write([(partition, b"a", 1, 0, headers)])

    def turn(self, after_s: float = 10.0) -> list[ReadableSpan]:
        """The spans of one turn."""
        self.exporter.clear()
        self.member.turn(after_s=after_s)
        return list(self.exporter.get_finished_spans())


def linked(span: ReadableSpan) -> list[int]:
    return [link.context.trace_id for link in span.links]


def test_a_turn_is_told_by_the_conventions_for_messaging(tmp_path: Path) -> None:
    traced = Traced(tmp_path)
    traced.turn()
    traced.write((7, 1), None, partition=1)
    traced.cluster.write([(1, b"a", b"{")])
    (span,) = traced.turn()
    assert (span.name, span.kind, span.parent) == (f"process {IN}", SpanKind.CONSUMER, None)
    assert dict(span.attributes or {}) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": IN,
        "messaging.destination.partition.id": "1",
        "messaging.consumer.group.name": GROUP,
        "messaging.batch.message_count": 3,
        "messaging.kafka.offset": 0,
        "rnnw.events": 2,
        "rnnw.outputs": 2,
        "rnnw.refused": 1,
    }
    (link,) = span.links
    assert (link.context.trace_id, link.context.span_id, link.context.is_remote) == (7, 7, True)
    assert dict(link.attributes or {}) == {"messaging.destination.partition.id": "1", "messaging.kafka.offset": 0}
    assert span.start_time is not None
    assert span.end_time is not None
    assert WALL_S * 1e9 <= span.start_time <= span.end_time
    traced.member.close()


def test_a_span_begins_when_its_records_have_come_and_ends_with_the_turn(tmp_path: Path) -> None:
    traced = Traced(tmp_path, exactly_once=True)
    traced.turn()
    traced.cluster.commits_take_s = 0.5
    traced.member.source.arrivals = [(traced.cluster.now_s + 10.05, lambda: traced.write((1, 1)))]
    (span,) = traced.turn()
    assert span.start_time is not None
    assert span.end_time is not None
    assert (span.end_time - span.start_time) / 1e9 == pytest.approx(0.5, abs=1e-3)  # without the wait for records
    assert span.end_time / 1e9 - WALL_S == pytest.approx(traced.cluster.now_s, abs=1e-3)
    traced.member.close()


def test_every_name_is_one_of_the_conventions() -> None:
    known = {value for name, value in vars(conventions).items() if name.startswith("MESSAGING_")}
    source = Path(__file__).parents[2] / "worker/telemetry"
    words = {word for file in source.glob("*.py") for word in file.read_text().replace('"', " ").split()}
    used = {word for word in words if word.startswith("messaging.")}
    assert used - known == set()
    assert {name for name in ATTRIBUTES.values() if name.startswith("messaging.")} <= used


def test_only_traces_that_somebody_keeps_are_linked_each_once_and_no_more_than_so_many(tmp_path: Path) -> None:
    traced = Traced(tmp_path)
    traced.write((1, 1), (2, 0), (3, 1), (1, 1), None, (4, 3))
    (span,) = traced.turn()
    assert linked(span) == [1, 3, 4]
    traced.write(*[(number, 1) for number in range(1, LINKS_LIMIT + 10)])
    (span,) = traced.turn()
    assert linked(span) == list(range(1, LINKS_LIMIT + 1))
    traced.member.close()


def test_turns_of_several_partitions_name_none(tmp_path: Path) -> None:
    traced = Traced(tmp_path)
    traced.write((1, 1), partition=0)
    traced.write((2, 1), partition=1)
    (span,) = traced.turn()
    assert (span.name, sorted(linked(span))) == (f"process {IN}", [1, 2])
    told = span.attributes or {}
    assert {"messaging.destination.partition.id", "messaging.kafka.offset"} & set(told) == set()
    assert told["messaging.batch.message_count"] == 2
    traced.member.close()


def test_there_are_few_spans_however_many_turns(tmp_path: Path) -> None:
    traced = Traced(tmp_path)
    found = []
    for number in range(20):
        traced.write((number + 1, 1))
        found.append(len(traced.turn(LINKED_INTERVAL_S * 0.6)))
    assert sum(found) == 10
    assert [len(traced.turn())] == [0]  # nothing was read
    found = []
    for _ in range(20):
        traced.write(None)
        found.append(len(traced.turn(UNLINKED_INTERVAL_S * 0.6)))
    assert sum(found) == 10
    traced.member.close()


def test_replayed_records_are_in_no_span(tmp_path: Path) -> None:
    traced = Traced(tmp_path)
    traced.write((1, 1), (2, 1))
    traced.member.drain()
    traced.member.crash()
    traced.member = traced.enter()
    traced.write((3, 1))
    spans = [span for _ in range(4) for span in traced.turn()]
    assert [linked(span) for span in spans] == [[3]]
    assert (spans[0].attributes or {})["messaging.batch.message_count"] == 1
    traced.member.close()


def test_texts_are_in_the_span_of_the_turn_that_read_their_record(tmp_path: Path) -> None:
    traced = Traced(tmp_path, pipeline=texts_pipeline("every_item"), specs=SPECS)
    headers: Any = [("traceparent", b"00-%032x-%016x-01" % (9, 9))]
    traced.cluster.write([(0, b"a", ask(300), 0, headers)])
    spans = [span for _ in range(8) for span in traced.turn(COMMIT_S)]
    assert [linked(span) for span in spans] == [[9]]
    traced.member.close()


def test_the_sampler_of_the_variables_has_the_last_word(tmp_path: Path) -> None:
    traced = Traced(tmp_path, sampler=ALWAYS_OFF)
    traced.write((1, 1))
    assert traced.turn() == []
    traced.member.close()


@pytest.mark.parametrize(
    "text",
    [b"00-1-1-01", b"ff-%032x-%016x-01" % (1, 1), b"00-%032x-%016x-01" % (0, 1), b"00-%032x-%016x-01" % (1, 0),
     b"00-%032X-%016x-01" % (0xABC, 1), b"00-%032x-%016x-01-more" % (1, 1), b"\xff", b"00-%032x-%016x-01\n" % (1, 1)],
)  # fmt: skip
def test_a_header_that_is_none_is_linked_nowhere(tmp_path: Path, text: bytes) -> None:
    traced = Traced(tmp_path)
    traced.cluster.write([(0, b"a", 1, 0, [("traceparent", text)])])
    (span,) = traced.turn()
    assert linked(span) == []
    traced.member.close()
