"""The sections of the configuration: every key, its type, its default and, as its docstring, what it means.

Relative paths are taken from the process's current directory, not from the configuration file's folder: in a container
the file is mounted somewhere of its own. What keys demand of each other is in ``config.checks``.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SecretStr, model_validator

from worker.config.kafka import Kafka
from worker.config.model import Model, Shadow
from worker.config.values import (
    Amount,
    Choices,
    CopiedFields,
    Count,
    Duration,
    FieldName,
    FieldNames,
    FieldsOfInputs,
    File,
    Folder,
    Number,
    Port,
    PositiveDuration,
    Section,
    Switch,
    Text,
    Topic,
    Topics,
    Unit,
)
from worker.config.warming import WarmAmount
from worker.records.names import TOPIC


class Schema(Section):
    """Where the schemas of records are found. Not available yet."""

    registry: Text | None = None
    """URL of the schema registry."""
    username: SecretStr | None = None
    """User name at the registry."""
    password: SecretStr | None = None
    """Password at the registry: from the environment, ${NAME}."""
    ca_file: File | None = None
    """PEM file of the authorities that sign the registry's certificate; null: those of the system."""
    file: File | None = None
    """Schema of records that carry no number of one in a registry."""


class Pairs(Section):
    """A list of name/value pairs that holds the features."""

    path: Text
    """Field that holds the list."""
    name: Text = "name"
    """Field of an element with the feature's name."""
    value: Text = "value"
    """Field of an element with the feature's number."""


class Input(Section):
    """Where events come from and what they look like."""

    topic: Topic | Topics
    """Topic to read, or a list of topics."""
    start: Text = "earliest"
    """Where a new group begins: earliest. Not available yet: latest, a time (ISO 8601) or an age (7d)."""
    format: Literal["json", "msgpack", "float32", "avro", "protobuf"] = "json"
    """json, msgpack or float32 (the value is one raw little-endian vector). Not available yet: avro, protobuf."""
    value_schema: Schema = Field(default=Schema(), alias="schema")
    """Where the schemas of records are found. Not available yet."""
    stream: FieldName = "key"
    """What names the stream: key (the record's key), a field of the value (a dot goes deeper: device.id), header:NAME,
    or key:PATH (a field of a key that is JSON)."""
    stream_format: Literal["utf8", "hex", "base64", "int32", "int64", "uuid"] = "utf8"
    """How key or header bytes become the name: utf8 (text), hex, base64, int32, int64 (big endian) or uuid."""
    features: FieldNames | FieldName | FieldsOfInputs | None = None
    """Fields with the numbers, in the model's order, or the one field that holds the whole vector; either also for each
    input of a model by its name. Tasks that generate read text or tokens instead; seq2seq also reads vectors."""
    time: FieldName = "timestamp"
    """Event time: timestamp (the record's) or a field (a number in time_unit, or ISO 8601)."""
    time_unit: Literal["s", "ms", "us", "ns"] = "ms"
    """Unit of a number in the field that time names: s, ms, us or ns since the epoch."""
    missing: Literal["refuse", "hold"] | Number = "refuse"
    """A feature that is left out, null or NaN: refuse (a dead letter). Not available yet: hold, or a number for it."""
    coerce: Switch = False
    """Whether numbers in text and booleans count as numbers. Not available yet: true."""
    records: Text | None = None
    """Path of a list inside the value, one event per element. Not available yet."""
    pairs: Pairs | None = None
    """Features given as a list of name/value pairs. Not available yet."""
    sequence_number: Text | None = None
    """Field that counts up per stream: a record at or below the last one seen is dropped. Not available yet."""

    @property
    def topics(self) -> tuple[str, ...]:
        return (self.topic,) if isinstance(self.topic, str) else self.topic


class Alert(Section):
    """When an alert is raised and cleared, with emit alert. Not available yet."""

    unit: Unit = 0
    """Output unit to watch: its number or its label."""
    above: Amount = 0.8
    """Raised at or above this."""
    below: Amount = 0.6
    """Cleared below this."""
    events: Count = 1
    """Events in a row that it takes to raise or clear."""


class Output(Section):
    """Where predictions go, and which."""

    topic: Topic
    """Topic to write to."""
    format: Literal["json", "msgpack", "avro"] = "json"
    """json or msgpack. Not available yet: avro."""
    emit: Literal["every_event", "sequence_end", "every_item", "change", "alert"] = "every_event"
    """every_event, sequence_end, change (the label, or by emit_delta) or every_item (tasks generate and seq2seq: each
    item of a text as soon as it is drawn). Not available yet: alert."""
    emit_delta: Amount = 0.05
    """With emit change: how far one of the probabilities must move for a new output."""
    alert: Alert = Alert()
    """When an alert is raised and cleared, with emit alert. Not available yet."""
    score: Literal["reconstruction", "forecast"] | None = None
    """How far the output is from the event, or was from the next one. Not available yet."""
    copied: CopiedFields = Field(default=(), alias="copy")
    """Fields of the value that its outputs repeat, under fields; null where the value has none."""
    headers: Literal["all"] | Choices = ()
    """Record headers that outputs repeat, as they always do traceparent and tracestate: names, or all."""


class DeadLetters(Section):
    """Where records go that can't be used."""

    topic: Topic | None = Field(default_factory=lambda: None)  # filled in by Config: the schema names no default
    """Topic for refused records; null: they are only counted and logged. Left out: the first input topic + '.dead'."""
    on_failure: Literal["stop", "drop"] = "stop"
    """The dead-letter topic can't be written: stop. Not available yet: drop."""


class Sequence(Section):
    """When a stream's state returns to zero; any combination, none = never."""

    id: FieldName | None = None
    """Field: another value than the last one starts a sequence."""
    start: FieldName | None = None
    """Field: true on the first event of a sequence."""
    end: FieldName | None = None
    """Field: true on the last event of a sequence; the state returns to zero after its output."""
    length: Count | None = None
    """Events per sequence; in tasks that generate records."""
    gap: PositiveDuration | None = None
    """Silence in event time above which a new sequence starts, measured from the stream's greatest event time."""
    late: Literal["accept", "drop", "dead_letter"] = "accept"
    """An event older than the stream's greatest event time: accept (in log order), drop (counted) or dead_letter."""


class State(Section):
    """Checkpoints, recovery, and how long a stream is remembered."""

    directory: Folder = "state"
    """Folder of the checkpoints, or a URL such as s3://bucket/prefix."""
    checkpoint_interval: PositiveDuration = Duration.parse("30s")
    """Time between two checkpoints of a partition: what a restart replays at most."""
    keep: Count = 3
    """Checkpoints kept per partition."""
    recover: Literal["rebuild", "reset", "fail"] = "rebuild"
    """Without a usable checkpoint: rebuild (replay the log without emitting), reset (start at zero) or fail."""
    rebuild_from: PositiveDuration | None = None
    """With recover rebuild: replay records of this age at most; null: from the log's start."""
    warm: WarmAmount | None = None
    """How much of the log before the committed offset makes states where no checkpoint does: 10m, or 500 events."""
    on_model_change: Literal["fail", "reset", "keep", "warm"] = "fail"
    """Checkpoint of other weights or inputs: fail, reset (start at zero), keep (same shapes) or warm (replay as much of
    the log as warm says, without outputs)."""
    on_partitions_change: Literal["fail", "reset"] = "fail"
    """Partitions added to the topic: fail, or reset (streams whose key moves start at zero in their new partition)."""
    idle: PositiveDuration | None = Duration.parse("24h")
    """A stream without events for this much event time is forgotten; null: never."""
    max_streams: Count = 1_000_000
    """Streams of each partition remembered at most: above it its longest idle one is forgotten, counted and logged."""


class Batch(Section):
    """How many events go through one turn of the loop."""

    max_events: Count = 4096
    """Events per turn at most."""
    max_wait: Duration = Duration.parse("0ms")
    """How long a turn waits for more events than it has: 0ms never waits."""


class Http(Section):
    """The port for pages, metrics and probes."""

    host: Text = "0.0.0.0"  # noqa: S104 (the scraper and the probes come from outside the container)
    """Address to listen on: 0.0.0.0 is all of them, 127.0.0.1 this machine only."""
    port: Port = 9100
    """Port to listen on; 0: any free one."""
    token: SecretStr | None = None
    """Token that changes of state must carry. Not available yet: nothing can be changed over HTTP."""
    token_file: File | None = None
    """File that holds the token. Not available yet."""


class Log(Section):
    """What the worker says."""

    format: Literal["text", "json"] = "text"
    """text, or json (an object per line)."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """debug, info, warning or error."""


class Config(Section):
    """Configuration of the RNN stream worker."""

    kafka: Kafka = Kafka()
    input: Input
    output: Output
    dead_letters: DeadLetters = DeadLetters()
    model: Model
    sequence: Sequence = Sequence()
    state: State = State()
    delivery: Literal["at_least_once", "exactly_once"] = "at_least_once"
    """at_least_once, or exactly_once (Kafka transactions)."""
    batch: Batch = Batch()
    shadow: Shadow = Shadow()
    http: Http = Http()
    log: Log = Log()

    @model_validator(mode="before")
    @classmethod
    def _name_dead_letters(cls, data: Any) -> Any:
        if isinstance(data, dict):
            data = {"input": {}, "output": {}, "model": {}, **data}  # so that the missing keys are named, not these
        match data:
            case {"input": {"topic": str(first) | [str(first), *_]}} if TOPIC.fullmatch(first):
                given = data.get("dead_letters")
                if given is None or isinstance(given, dict):
                    return {**data, "dead_letters": {"topic": f"{first}.dead", **(given or {})}}
        return data
