"""Every known way in which a client could lose, double or tear a transaction, provoked on a real broker's network.

After each provocation the same judgement: the transaction appears whole, together with its offsets, or not at all; and
whoever resumes from what is committed completes the output exactly once.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from kafka import errors

from tests.conftest import eventually
from tests.proxy import (
    ADD_OFFSETS,
    ADD_PARTITIONS,
    COMMIT_OFFSETS,
    END_TRANSACTION,
    PRODUCE,
    KafkaProxy,
    proxied_broker,
)  # fmt: skip
from tests.reached import opened_transactions, reached
from worker.errors import (
    CommitRefusedError,
    ConfigError,
    DeliveryFailedError,
    KafkaUnavailableError,
    MessageRefusedError,
    WorkerError,
)
from worker.kafka.contracts import Source, TransactionalSink
from worker.kafka.embedded.broker import EmbeddedKafka
from worker.kafka.kafka_python.errors import translate_in_transaction
from worker.kafka.opening import ensure_topics, open_source
from worker.kafka.settings import ClientSettings
from worker.records.messages import Messages
from worker.records.ownership import Change, Partition

FAILED = (KafkaUnavailableError, CommitRefusedError, DeliveryFailedError)
COMMIT_S = 90.0
TRIES = 3  # the loop repeats what a slow cluster has not answered, and so do these tests
SHORT_S = 4.0
CLOSE_S = 20.0
ANSWER_S = 60.0
MESSAGES = [b"first", b"second", b"third"]
OFFSET = 7
NOT_LEADER, OUT_OF_ORDER, ILLEGAL_GENERATION = 6, 45, 22
# A client that gives its requests up early, so that a test needn't wait for long.
QUICK: Mapping[str, Mapping[str, int]] = {
    "kafka-python": {"request_timeout_ms": 2_000},
    "confluent": {"socket.timeout.ms": 2_000},
}

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def doors() -> Iterator[tuple[EmbeddedKafka, KafkaProxy]]:
    with proxied_broker() as found:
        yield found


@dataclass
class Stage:
    """A worker's two ends: its source has a network that holds, its sinks go through the proxy."""

    broker: EmbeddedKafka
    proxy: KafkaProxy
    client: Any
    options: Mapping[str, Any] = field(default_factory=dict)
    topic: str = ""
    inputs: list[Partition] = field(default_factory=list)
    sinks: list[TransactionalSink] = field(default_factory=list)

    def __post_init__(self) -> None:
        name = uuid.uuid4().hex[:12]
        self.topic = f"out-{name}"
        self.inputs = [Partition(f"in-{name}", number) for number in range(2)]
        direct = ClientSettings(self.broker.bootstrap_servers, self.client, f"group-{name}")
        reached(lambda: ensure_topics(direct, {self.topic: 1, self.inputs[0].topic: 2}))
        self.settings = replace(
            direct,
            bootstrap_servers=self.proxy.bootstrap_servers,
            transactional_id=f"id-{name}",
            producer=self.options,
        )
        self.source: Source = open_source(direct)
        self.source.subscribe([self.inputs[0].topic], self._start)

        def joined() -> bool:
            self.source.poll(1, 0.2)
            return self.source.joined

        eventually(joined)

    def _start(self, change: Change) -> dict[Partition, int]:
        return dict.fromkeys(change.partitions, 0)

    def open(self) -> Any:
        self.sinks.append(opened_transactions(self.settings))
        return self.sinks[-1]

    def go_on(self) -> Any:
        """A new sink in place of the last one, with all the time in the world."""
        self.sinks[-1].close(CLOSE_S)
        self.settings = replace(self.settings, producer={})

        def opened() -> Any:
            with suppress(KafkaUnavailableError):
                return self.open()

        return eventually(opened)

    def write(self, sink: TransactionalSink, timeout_s: float = COMMIT_S, member: object = None) -> Exception | None:
        """One transaction; what the sink said in place of 'committed'."""
        try:
            sink.send(self.topic, Messages([b"key"] * len(MESSAGES), MESSAGES))
            sink.commit({self.inputs[0]: OFFSET}, member or self.source.member(), timeout_s)
        except FAILED as error:
            return error
        return None

    def committed(self) -> list[int | None]:
        found = self.source.committed(self.inputs, ANSWER_S)
        return [None if each is None else each.offset for each in map(found.get, self.inputs)]

    def visible(self) -> list[bytes]:
        """All that a reader of committed data gets."""
        from kafka import KafkaConsumer, TopicPartition

        place = TopicPartition(self.topic, 0)
        reader = KafkaConsumer(bootstrap_servers=self.broker.bootstrap_servers, isolation_level="read_committed")
        try:
            reader.assign([place])
            reader.seek(place, 0)
            end = reader.end_offsets([place])[place]
            seen: list[bytes] = []
            deadline = time.monotonic() + ANSWER_S
            while reader.position(place) < end:
                assert time.monotonic() < deadline, (seen, end)
                for records in reader.poll(timeout_ms=200).values():
                    seen += [record.value for record in records]
            return seen
        finally:
            reader.close()

    def judge(self, error: Exception | None) -> None:
        """Whole and once, or not at all; then continue as the loop does, until it is there exactly once."""
        self.proxy.release()
        for _ in range(TRIES):
            heir = self.go_on()
            counts = self.committed()[0] == OFFSET
            assert self.visible() == (MESSAGES if counts else [])
            assert counts or error is not None, "said to be committed"
            if counts:
                break
            error = self.write(heir)
            if error is None:
                break
            assert isinstance(error, KafkaUnavailableError)
        assert self.visible() == MESSAGES
        assert self.committed() == [OFFSET, None]

    def close(self) -> None:
        self.proxy.release()
        self.proxy.cut()
        for sink in self.sinks:
            sink.close(CLOSE_S)
        self.source.close(CLOSE_S)


@pytest.fixture
def stage(doors: tuple[EmbeddedKafka, KafkaProxy]) -> Iterator[Callable[..., Stage]]:
    stages: list[Stage] = []

    def build(client: str = "kafka-python", **options: Any) -> Stage:
        stages.append(Stage(*doors, client, options))
        return stages[-1]

    yield build
    for each in stages:
        each.close()


both = pytest.mark.parametrize("client", ["kafka-python", "confluent"])


def produce_error(code: int, topic: str) -> Callable[[bytes], bytes]:
    """The answer to a Produce request of one partition, versions 9 and up, with this error in it."""
    at = 4 + 1 + 1 + (1 + len(topic)) + 1 + 4  # correlation, tags, count, name, count, partition

    def rewrite(answer: bytes) -> bytes:
        return answer[:at] + code.to_bytes(2, "big") + answer[at + 2 :]

    return rewrite


def state(sink: Any) -> str:
    return str(sink._manager._current_state.name)


@both
def test_an_undisturbed_transaction_appears_whole(stage: Callable[..., Stage], client: str) -> None:
    on = stage(client)
    on.judge(on.write(on.open()))


def test_a_an_expired_message_is_not_forgotten_by_the_commit(stage: Callable[..., Stage]) -> None:
    """kafka-python gives the batch up and would commit the rest, offsets and all."""
    on = stage(delivery_timeout_ms=2_500, request_timeout_ms=2_000)
    sink = on.open()
    on.proxy.hold_requests(PRODUCE)
    error = on.write(sink)
    assert isinstance(error, KafkaUnavailableError)
    assert "KafkaTimeoutError" in str(error)
    assert state(sink) == "IN_TRANSACTION"  # a commit would be sent
    on.judge(error)


def test_b_a_new_epoch_before_the_end_of_the_commit_is_not_taken_for_a_commit(stage: Callable[..., Stage]) -> None:
    """kafka-python drops the transaction, and answers the commit that waits for it: done."""
    on = stage()
    sink = on.open()
    manager: Any = sink._manager
    begin = manager.begin_commit

    def begin_and_lose_the_epoch() -> Any:
        with manager._lock:
            result = begin()
            manager.bump_producer_id_and_epoch()
        return result

    manager.begin_commit = begin_and_lose_the_epoch
    error = on.write(sink)
    assert isinstance(error, KafkaUnavailableError)
    assert "epoch" in str(error)
    assert on.committed() == [None, None]
    on.judge(error)


def test_c_offsets_of_a_refused_transaction_do_not_come_back(stage: Callable[..., Stage]) -> None:
    """kafka-python keeps them for the next transaction of the same producer."""
    on = stage()
    sink = on.open()
    known: Any = on.source.member()
    sink.send(on.topic, Messages([b"key"], [b"refused"]))
    with pytest.raises(CommitRefusedError):
        sink.commit({on.inputs[0]: 5, on.inputs[1]: 50}, known._replace(generation_id=99), COMMIT_S)
    assert sink._manager._pending_txn_offset_commits
    on.judge(on.write(sink))


@both
@pytest.mark.parametrize("kind", [ADD_PARTITIONS, PRODUCE, ADD_OFFSETS, COMMIT_OFFSETS, END_TRANSACTION])
@pytest.mark.parametrize("side", ["requests", "answers"])
def test_d_f_a_step_without_an_answer_ends_in_time(
    stage: Callable[..., Stage], client: str, kind: int, side: str
) -> None:
    """kafka-python's calls wait without a limit, and a request that timed out leaves its producer unusable."""
    on = stage(client, **QUICK[client])
    sink = on.open()
    (on.proxy.hold_requests if side == "requests" else on.proxy.hold_answers)(kind)
    error = on.write(sink, SHORT_S)
    assert isinstance(error, KafkaUnavailableError)
    with pytest.raises(KafkaUnavailableError):
        sink.send(on.topic, Messages([b"key"], [b"too late"]))
    on.judge(error)


def test_e_a_message_that_expires_after_retries_is_not_forgotten(stage: Callable[..., Stage]) -> None:
    """kafka-python then raises within its own thread, and what it had drawn from its queues is not sent."""
    on = stage(delivery_timeout_ms=2_500, request_timeout_ms=2_000)
    sink = on.open()
    on.proxy.rewrite_answers(PRODUCE, produce_error(NOT_LEADER, on.topic))
    error = on.write(sink)
    assert isinstance(error, KafkaUnavailableError)
    assert on.proxy.requests.count(PRODUCE) > 1
    on.judge(error)


def test_g_an_epoch_lost_in_the_middle_of_a_transaction_blocks_nothing(stage: Callable[..., Stage]) -> None:
    """kafka-python can neither commit nor abort then."""
    on = stage()
    sink = on.open()
    on.proxy.rewrite_answers(PRODUCE, produce_error(OUT_OF_ORDER, on.topic))
    error = on.write(sink)
    assert isinstance(error, KafkaUnavailableError)
    eventually(lambda: state(sink) == "READY")
    on.judge(error)


@both
@pytest.mark.parametrize("kind", [ADD_PARTITIONS, PRODUCE, ADD_OFFSETS, COMMIT_OFFSETS, END_TRANSACTION])
def test_an_answer_lost_with_its_connection(stage: Callable[..., Stage], client: str, kind: int) -> None:
    """For the last kind: the transaction is committed, and nobody has heard of it."""
    on = stage(client)
    sink = on.open()
    on.proxy.lose_answer(kind)
    on.judge(on.write(sink))


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_an_end_that_arrives_after_its_transaction_does_not_end_the_next(
    stage: Callable[..., Stage], client: str
) -> None:
    """The client sends it again when its connection breaks, and the broker tells transactions apart by epoch only."""
    on = stage(client)
    heir = _heir_of_a_late(END_TRANSACTION, on)
    heir.send(on.topic, Messages([b"key"], [b"next"]))
    _await_arrival(heir)
    _deliver(END_TRANSACTION, on)
    assert on.visible() == MESSAGES
    heir.commit({on.inputs[0]: OFFSET + 1}, on.source.member(), COMMIT_S)
    assert on.visible() == [*MESSAGES, b"next"]
    assert on.committed() == [OFFSET + 1, None]


@both
def test_offsets_that_arrive_after_their_transaction_do_not_replace_those_of_the_next(
    stage: Callable[..., Stage], client: str
) -> None:
    """As the end of a transaction."""
    on = stage(client)
    heir = _heir_of_a_late(COMMIT_OFFSETS, on)
    heir.send(on.topic, Messages([b"key"], [b"next"]))
    on.proxy.hold_requests(END_TRANSACTION)
    answered = on.proxy.answers.count(COMMIT_OFFSETS)
    committing = threading.Thread(
        target=heir.commit, args=({on.inputs[0]: OFFSET + 1}, on.source.member(), COMMIT_S), daemon=True
    )
    committing.start()
    eventually(lambda: on.proxy.answers.count(COMMIT_OFFSETS) > answered)
    _deliver(COMMIT_OFFSETS, on)
    on.proxy.release()
    committing.join(COMMIT_S)
    assert on.visible() == [*MESSAGES, b"next"]
    assert on.committed() == [OFFSET + 1, None]


@both
def test_messages_that_arrive_after_their_transaction_do_not_come_twice(
    stage: Callable[..., Stage], client: str
) -> None:
    """The broker knows them by their sequence. If it is at a loss, so is the client."""
    on = stage(client)
    sink = on.open()
    on.proxy.delay_request(PRODUCE)
    if on.write(sink) is not None:
        sink = _complete(on, MESSAGES, OFFSET)
    try:
        sink.send(on.topic, Messages([b"key"], [b"next"]))
        _deliver(PRODUCE, on)
        sink.commit({on.inputs[0]: OFFSET + 1}, on.source.member(), COMMIT_S)
    except FAILED:
        _complete(on, [b"next"], OFFSET + 1)
    assert on.visible() == [*MESSAGES, b"next"]
    assert on.committed() == [OFFSET + 1, None]


def _heir_of_a_late(kind: int, on: Stage) -> Any:
    """A transaction is committed, and one of its requests is still on its way."""
    sink = on.open()
    on.proxy.delay_request(kind)
    error = on.write(sink)
    if error is None and hasattr(sink, "_outbox"):
        return sink  # continues by itself, with a new producer
    with pytest.raises(KafkaUnavailableError, match="the last transaction" if error is None else None):
        sink.send(on.topic, Messages([b"key"], [b"next"]))
    return _complete(on, MESSAGES, OFFSET)


def _await_arrival(sink: Any) -> None:
    """Until what was sent is in the log, not yet committed."""
    if hasattr(sink, "_outbox"):
        assert sink._outbox.producer.flush(ANSWER_S) == 0
    else:
        sink._sink.flush(ANSWER_S)


def _complete(on: Stage, values: list[bytes], offset: int) -> Any:
    """What the loop does after any error."""
    for _ in range(TRIES):
        heir = on.go_on()
        if on.committed()[0] == offset:
            return heir
        with suppress(KafkaUnavailableError):
            heir.send(on.topic, Messages([b"key"] * len(values), values))
            heir.commit({on.inputs[0]: offset}, on.source.member(), COMMIT_S)
    return pytest.fail(f"not committed in {TRIES} tries")


def _deliver(kind: int, on: Stage) -> None:
    answered = on.proxy.answers.count(kind)
    on.proxy.deliver()
    eventually(lambda: on.proxy.answers.count(kind) > answered)


@both
def test_a_network_that_stands_still_ends_the_commit_in_time(stage: Callable[..., Stage], client: str) -> None:
    on = stage(client)
    sink = on.open()
    sink.send(on.topic, Messages([b"key"], [b"never"]))
    on.proxy.freeze()
    with pytest.raises(KafkaUnavailableError):
        sink.commit({on.inputs[0]: OFFSET}, on.source.member(), SHORT_S)
    sink.close(SHORT_S)
    on.proxy.release()
    on.judge(KafkaUnavailableError("never committed"))


@both
def test_a_transaction_that_the_cluster_gave_up_meanwhile_is_not_committed(
    stage: Callable[..., Stage], client: str
) -> None:
    name = {"kafka-python": "transaction_timeout_ms", "confluent": "transaction.timeout.ms"}[client]
    on = stage(client, **{name: 2_500})
    sink = on.open()
    sink.send(on.topic, Messages([b"key"] * len(MESSAGES), MESSAGES))
    _await_abort(on)
    error = on.write(sink)
    assert isinstance(error, (CommitRefusedError, KafkaUnavailableError))
    on.judge(error)


def _await_abort(on: Stage) -> None:
    """Until the coordinator has aborted the open transaction: it has then begun and its time is over."""
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    with KafkaAdminClient(bootstrap_servers=on.broker.bootstrap_servers) as admin:
        name = on.settings.transactional_id

        def aborted() -> bool:
            with suppress(KafkaError):  # of a broker that a slow machine has put out of its cluster for a moment
                return "CompleteAbort" in str(admin.describe_transactions([name]))
            return False

        eventually(aborted)


def test_a_batch_that_the_broker_finds_too_large_is_split_and_comes_once(stage: Callable[..., Stage]) -> None:
    on = stage()
    _limit_messages(on, 2_000)
    sink = on.open()
    values = [b"%04d" % number * 100 for number in range(30)]
    sink.send(on.topic, Messages([b"key"] * 30, values))
    sink.commit({on.inputs[0]: OFFSET}, on.source.member(), COMMIT_S)
    assert on.visible() == values
    sink.send(on.topic, Messages([b"key"], [b"small"]))
    sink.commit({on.inputs[0]: OFFSET + 1}, on.source.member(), COMMIT_S)
    assert on.visible() == [*values, b"small"]


@both
def test_a_message_that_the_broker_refuses_takes_its_transaction_with_it(
    stage: Callable[..., Stage], client: str
) -> None:
    on = stage(client)
    _limit_messages(on, 2_000)
    sink = on.open()
    sink.send(on.topic, Messages([b"key"], [b"small"]))
    sink.send(on.topic, Messages([b"key"], [b"large" * 1000]))
    with pytest.raises(DeliveryFailedError):
        sink.commit({on.inputs[0]: OFFSET}, on.source.member(), COMMIT_S)
    on.judge(DeliveryFailedError("refused"))


def _limit_messages(on: Stage, size: int) -> None:
    from kafka import KafkaAdminClient
    from kafka.admin import ConfigResource, ConfigResourceType

    with KafkaAdminClient(bootstrap_servers=on.broker.bootstrap_servers) as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, on.topic, {"max.message.bytes": str(size)})])


def test_offsets_are_not_committed_without_a_generation(stage: Callable[..., Stage]) -> None:
    """The coordinator takes them from anybody who names none."""
    on = stage()
    known: Any = on.source.member()
    error = on.write(on.open(), member=known._replace(generation_id=-1, member_id=""))
    assert isinstance(error, CommitRefusedError)
    on.judge(error)


def test_what_the_cluster_can_not_do_is_refused_with_the_way_out(stage: Callable[..., Stage]) -> None:
    with pytest.raises(ConfigError, match=r"transaction_timeout_ms.*transaction\.max\.timeout\.ms"):
        stage(transaction_timeout_ms=1_000_000, delivery_timeout_ms=2_000_000).open()
    with pytest.raises(WorkerError, match="at_least_once"):
        stage(api_version=(2, 4)).open()


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (errors.ProducerFencedError(), CommitRefusedError),
        (errors.InvalidProducerEpochError(), CommitRefusedError),
        (errors.FencedInstanceIdError(), CommitRefusedError),
        (errors.CommitFailedError("IllegalGenerationError"), CommitRefusedError),
        (errors.RequestTimedOutError(), KafkaUnavailableError),
        (errors.OutOfOrderSequenceNumberError(), KafkaUnavailableError),
        (errors.KafkaError("Could not execute transactional request for unknown reasons"), KafkaUnavailableError),
        (errors.RecordListTooLargeError(), MessageRefusedError),
        (errors.TopicAuthorizationFailedError("out"), WorkerError),
        (errors.GroupAuthorizationFailedError("group"), WorkerError),
    ],
)
def test_errors_are_told_apart_by_what_to_do(error: errors.KafkaError, meaning: type[Exception]) -> None:
    assert type(translate_in_transaction(error, "commit")) is meaning


def test_a_transactional_id_that_is_not_ours_names_the_rights() -> None:
    said = translate_in_transaction(errors.TransactionalIdAuthorizationFailedError(), "id 'a'")
    assert type(said) is WorkerError
    assert "id 'a'" in str(said)
    assert "kafka.security" in str(said)
    assert "rights" in str(said)


def test_no_thread_stays_behind_a_sink_that_was_given_up(stage: Callable[..., Stage]) -> None:
    on = stage()
    sink = on.open()
    on.proxy.freeze()
    assert isinstance(on.write(sink, 0.5), KafkaUnavailableError)
    sink.close(0.0)
    sink.close(0.0)
    eventually(lambda: not sink._client._sender.is_alive())
    assert sink._client._sender not in threading.enumerate()
