"""The sections of the configuration: every key, its type, its default and, as its docstring, what it means.

Relative paths are taken from the process's current directory, not from the configuration file's folder: in a container
the file is mounted somewhere of its own. What keys demand of each other is in ``config.checks``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import Field, SecretStr, model_validator

from worker.config.kafka import Kafka
from worker.config.values import (
    Amount,
    Count,
    Duration,
    FieldsOfInputs,
    Item,
    Modules,
    Names,
    Port,
    PositiveDuration,
    Section,
    Sha256,
    Share,
    Switch,
    Text,
    Topic,
    Topics,
    Vocabulary,
    WholeNumber,
)

Task: TypeAlias = Literal["score", "generate", "seq2seq"]


class Input(Section):
    """Where events come from and what they look like."""

    topic: Topic | Topics
    """Topic to read, or a list of topics."""
    format: Literal["json", "msgpack", "float32", "avro"] = "json"
    """json, msgpack, float32 (the value is one raw little-endian vector) or avro."""
    stream: Text = "key"
    """What names the stream: key (the record's key) or a field of the value; a dot goes deeper (device.id)."""
    features: Names | Text | FieldsOfInputs | None = None
    """Fields with the numbers, in the model's order, or the one field that holds the whole vector; either also for each
    input of a model by its name."""
    time: Text = "timestamp"
    """Event time: timestamp (the record's) or a field (milliseconds since the epoch, or ISO 8601)."""

    @property
    def topics(self) -> tuple[str, ...]:
        return (self.topic,) if isinstance(self.topic, str) else self.topic


class Output(Section):
    """Where predictions go, and which."""

    topic: Topic
    """Topic to write to."""
    format: Literal["json", "msgpack"] = "json"
    """json or msgpack."""
    emit: Literal["every_event", "sequence_end", "every_item", "change"] = "every_event"
    """every_event, sequence_end, every_item (tasks that generate), or change (the label, or by emit_delta)."""
    emit_delta: Amount = 0.05
    """With emit change: how far one of the probabilities must move for a new output."""


class DeadLetters(Section):
    """Where records go that can't be used."""

    topic: Topic | None = Field(default_factory=lambda: None)  # filled in by Config: the schema names no default
    """Topic for refused records; null: they are only counted and logged. Left out: the first input topic + '.dead'."""


class EncoderDecoder(Section):
    """The two model files of an encoder-decoder pair."""

    encoder: Path
    """File of the encoder, whose last outputs are its states."""
    decoder: Path
    """File of the decoder: [x, *states] to [y, *states]."""


class Model(Section):
    """The trained network and how its outputs are read."""

    path: Path | EncoderDecoder
    """Model file, .keras or legacy .h5; task seq2seq: one training model, or {encoder: FILE, decoder: FILE}."""
    sha256: Sha256 | None = None
    """SHA-256 of the model file, 64 hex digits: any other file is refused before it is opened."""
    task: Task = "score"
    """score (a probability after each event), generate (text, item by item) or seq2seq (encoder and decoder)."""
    labels: Names | None = None
    """Names of the output units, in order."""
    parity_tolerance: Amount = 1.0e-4
    """How far a streamed output may be from the original model's in the proof at start; beyond 1, by their size."""
    imports: Modules = ()
    """Python modules to import before the file is opened: they register its custom classes and functions."""
    allow_lambda: Switch = False
    """Run Lambda layers, which are Python code inside the model file: only for files that you trust."""
    vocabulary: Vocabulary | None = None
    """Task generate: the items by id, as a list or the path of a JSON list or of a text file, an item per line."""
    source_vocabulary: Vocabulary | None = None
    """Task seq2seq: the encoder's items by id, as vocabulary; null: records hold tokens or vectors."""
    target_vocabulary: Vocabulary | None = None
    """Task seq2seq: the decoder's items by id, as vocabulary; null: outputs hold tokens only."""
    start: Item | None = None
    """Task seq2seq: the item (an id without a vocabulary) that decoding begins with."""
    stop: Item | None = None
    """Tasks generate and seq2seq: the item (an id without a vocabulary) that ends an output."""
    max_length: Count = 400
    """Tasks generate and seq2seq: items per output at most."""
    temperature: Amount = Field(default_factory=lambda data: 0.0 if data.get("task") == "seq2seq" else 1.0)
    """Tasks generate (left out: 1.0) and seq2seq (left out: 0): 0 takes the most likely item, more is more random."""
    top_k: Count | None = None
    """Task generate: draw from the k most likely items only."""
    top_p: Share | None = None
    """Task generate: draw from the most likely items that together have this probability."""
    seed: WholeNumber = 0
    """Task generate: the same seed, stream and input give the same text."""
    beams: Count = 1
    """Task seq2seq: how many candidates decoding follows at a time."""
    unknown: str = "refuse"
    """Text outside the vocabulary: refuse (a dead letter), skip, or an item that takes its place."""


class Sequence(Section):
    """When a stream's state returns to zero; any combination, none = never."""

    id: Text | None = None
    """Field: another value than the last one starts a sequence."""
    start: Text | None = None
    """Field: true on the first event of a sequence."""
    end: Text | None = None
    """Field: true on the last event of a sequence; the state returns to zero after its output."""
    length: Count | None = None
    """Events per sequence."""
    gap: PositiveDuration | None = None
    """Event time since the stream's last event above which a new sequence starts."""


class State(Section):
    """Checkpoints, recovery, and how long a stream is remembered."""

    directory: Text = "state"
    """Folder of the checkpoints."""
    checkpoint_interval: PositiveDuration = Duration.parse("30s")
    """Time between two checkpoints of a partition: what a restart replays at most."""
    keep: Count = 3
    """Checkpoints kept per partition."""
    recover: Literal["rebuild", "reset", "fail"] = "rebuild"
    """Without a usable checkpoint: rebuild (replay the log without emitting), reset (start at zero) or fail."""
    rebuild_from: PositiveDuration | None = None
    """With recover rebuild: replay records of this age at most; null: from the log's start."""
    on_model_change: Literal["fail", "reset", "keep"] = "fail"
    """Checkpoint of other weights or inputs: fail, reset (start at zero) or keep (only where shapes are the same)."""
    on_partitions_change: Literal["fail", "reset"] = "fail"
    """Partitions added to the topic: fail, or reset (streams whose key moves start at zero in their new partition)."""
    idle: PositiveDuration | None = Duration.parse("24h")
    """A stream without events for this much event time is forgotten; null: never."""
    max_streams: Count = 1_000_000
    """Streams remembered at most: above it the longest idle stream is forgotten, counted and logged."""


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
    """Token that changes of state must carry; null: they are refused."""
    token_file: Path | None = None
    """File that holds the token, such as a mounted secret."""


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
    http: Http = Http()
    log: Log = Log()

    @model_validator(mode="before")
    @classmethod
    def _name_dead_letters(cls, data: Any) -> Any:
        if isinstance(data, dict):
            data = {"input": {}, "output": {}, "model": {}, **data}  # so that the missing keys are named, not these
        match data:
            case {"input": {"topic": str(first) | [str(first), *_]}, "dead_letters": dict(given)}:
                return {**data, "dead_letters": {"topic": f"{first}.dead", **given}}
            case {"input": {"topic": str(first) | [str(first), *_]}} if data.get("dead_letters") is None:
                return {**data, "dead_letters": {"topic": f"{first}.dead"}}
        return data
