"""Which keys need or exclude each other, and what is not available yet: lines that begin with the key's path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

from worker.config.field_names import field_names_that_can_not_be_meant
from worker.config.model import EncoderDecoder, Model
from worker.config.sections import Alert, Config, Schema
from worker.config.values import attribute_of

TASKS_OF_KEYS = {
    "labels": ("score",),
    "vocabulary": ("generate",),
    "source_vocabulary": ("seq2seq",),
    "target_vocabulary": ("seq2seq",),
    "start": ("seq2seq",),
    "stop": ("generate", "seq2seq"),
    "max_length": ("generate", "seq2seq"),
    "temperature": ("generate", "seq2seq"),
    "top_k": ("generate",),
    "top_p": ("generate",),
    "seed": ("generate",),
    "beams": ("seq2seq",),
    "unknown": ("generate", "seq2seq"),
}

MECHANISM_OPTIONS = ("sasl_mechanism", "sasl.mechanism", "sasl.mechanisms")  # how the clients call it
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")

# The values of a key that this version supports, where a later one will support more.
AVAILABLE: Mapping[str, tuple[object, ...]] = {
    "input.start": ("earliest",),
    "input.format": ("json", "msgpack", "float32"),
    "input.schema": (Schema(),),
    "input.stream_format": ("utf8",),
    "input.missing": ("refuse",),
    "input.coerce": (False,),
    "input.records": (None,),
    "input.pairs": (None,),
    "input.sequence_number": (None,),
    "output.format": ("json", "msgpack"),
    "output.emit": ("every_event", "sequence_end", "change"),
    "output.alert": (Alert(),),
    "output.score": (None,),
    "output.copy": ((),),
    "output.headers": ((),),
    "dead_letters.on_failure": ("stop",),
    "model.task": ("score",),
    "model.window": (None,),
    "model.window_fill": ("wait",),
    "model.memory": (None,),
    "model.every": (1,),
    "model.expect": (None,),
    "kafka.security.mechanism": (None, *MECHANISMS),
    "kafka.security.oauth": (None,),
    "http.token": (None,),
    "http.token_file": (None,),
}


def not_yet(config: Config) -> list[str]:
    """Features of a later version: each line names the key and what is possible now."""
    lines = []
    for path, available in AVAILABLE.items():
        value = _value_at(config, path)
        if value in available:
            continue
        given = f"{path}: {_spelt(value)} is" if isinstance(value, str | int | float) else f"{path}: is"
        known = [text for text in map(_spelt, available) if text]
        lines.append(f"{given} not available yet ({'use ' + _listed(known) if known else 'leave it out'})")
    return lines


def _value_at(config: Config, path: str) -> object:
    value: Any = config
    for part in path.split("."):
        value = getattr(value, attribute_of(type(value), part))
    return value


def _spelt(value: object) -> str:
    """A value as the file spells it; "" for null, a list or a section, which are better left out."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else ""


def _listed(texts: list[str]) -> str:
    *first, last = texts
    return f"{', '.join(first)} or {last}" if first else last


def contradictions(config: Config) -> list[str]:
    """Every pair of keys that contradict each other."""
    checks = (_topics, field_names_that_can_not_be_meant, _emit, _sequence, _recovery, _task_keys, _login, _encryption)
    return [line for check in checks for line in check(config)]


def _topics(config: Config) -> Iterator[str]:
    named = [("input.topic", topic) for topic in config.input.topics]
    named.append(("output.topic", config.output.topic))
    if config.dead_letters.topic is not None:
        named.append(("dead_letters.topic", config.dead_letters.topic))
    for (first, topic), (second, other) in combinations(named, 2):
        if topic == other:
            yield f"{second}: '{other}' is {first} too; the worker would read what it writes, or mix two kinds"


def _emit(config: Config) -> Iterator[str]:
    emit, task = config.output.emit, config.model.task
    if emit == "every_item" and task == "score":
        yield "output.emit: every_item is for tasks that generate (for task score use every_event)"
    if emit == "change" and task != "score":
        yield f"output.emit: change compares probabilities; task {task} has none (use every_event)"
    if emit == "sequence_end" and config.sequence.end is None and config.sequence.length is None:
        yield "output.emit: sequence_end needs sequence.end or sequence.length, or the end is never known"


def _sequence(config: Config) -> Iterator[str]:
    sequence, idle = config.sequence, config.state.idle
    if sequence.gap is not None and idle is not None and sequence.gap > idle:
        yield f"sequence.gap: {sequence.gap} can never take effect, state.idle forgets the stream after {idle}"
    if config.model.task == "seq2seq" and sequence.end is None and sequence.length is None:
        yield "sequence.end: task seq2seq needs sequence.end or sequence.length to know when a source ends"


def _recovery(config: Config) -> Iterator[str]:
    state = config.state
    if state.rebuild_from is not None and state.recover != "rebuild":
        yield f"state.rebuild_from: is for state.recover rebuild, but it is {state.recover}"


def _task_keys(config: Config) -> Iterator[str]:
    model = config.model
    for key, tasks in TASKS_OF_KEYS.items():
        field = Model.model_fields[key]
        default = field.get_default(call_default_factory=True, validated_data={"task": model.task})
        if model.task not in tasks and getattr(model, key) != default:
            yield f"model.{key}: is for task {' or '.join(tasks)}, but model.task is {model.task}"
    if model.task == "generate" and model.vocabulary is None:
        yield "model.vocabulary: is required for task generate"
    if isinstance(model.path, EncoderDecoder) and model.task != "seq2seq":
        yield f"model.path: encoder and decoder are for task seq2seq, but model.task is {model.task}"


def _login(config: Config) -> Iterator[str]:
    security = config.kafka.security
    elsewhere = [
        f"kafka.{section}.{name}: {value} is not available yet (use PLAIN or SCRAM, in kafka.security.mechanism)"
        for section in ("consumer", "producer")
        for name, value in getattr(config.kafka, section).items()
        if name in MECHANISM_OPTIONS and value not in MECHANISMS
    ]
    yield from elsewhere
    if elsewhere or security.mechanism not in (None, *MECHANISMS):
        return  # each wants keys of its own
    for key in ("mechanism", "username", "password"):
        value = getattr(security, key)
        given = value is not None
        if security.protocol.startswith("SASL") and not given:
            yield f"kafka.security.{key}: is required with protocol {security.protocol}"
        if given and not value:
            yield f"kafka.security.{key}: is empty; no broker accepts a login without one"
        if given and not security.protocol.startswith("SASL"):
            yield f"kafka.security.{key}: is not used with protocol {security.protocol} (SASL_SSL or SASL_PLAINTEXT)"


def _encryption(config: Config) -> Iterator[str]:
    security = config.kafka.security
    for key in ("ca_file", "cert_file", "key_file", "key_password"):
        if getattr(security, key) is not None and not security.protocol.endswith("SSL"):
            yield f"kafka.security.{key}: is not used with protocol {security.protocol} (SSL or SASL_SSL)"
    if not security.check_hostname and not security.protocol.endswith("SSL"):
        yield f"kafka.security.check_hostname: is not used with protocol {security.protocol} (SSL or SASL_SSL)"
    for key in ("key_file", "key_password"):
        if getattr(security, key) is not None and security.cert_file is None:
            yield f"kafka.security.{key}: needs cert_file too"
