"""Which keys need or exclude each other, and what is not available yet: lines that begin with the key's path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

from worker.config.field_names import field_names_that_can_not_be_meant
from worker.config.sections import Alert, Config, Schema
from worker.config.tasks import keys_of_other_tasks
from worker.config.values import attribute_of

MECHANISM_OPTIONS = ("sasl_mechanism", "sasl.mechanism", "sasl.mechanisms")  # how the clients call it
WINDOW_STEPS_LIMIT = 65_536
WINDOW_EVERY_LIMIT = 1_000_000  # with the window, a count that a state holds exactly
EVERY_TRIED_LIMIT = 10_000  # to name one that helps
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")

# The values of a key that this version supports, where a later one will support more.
AVAILABLE: Mapping[str, tuple[object, ...]] = {
    "input.start": ("earliest",),
    "input.format": ("json", "msgpack", "float32"),
    "input.schema": (Schema(),),
    "input.missing": ("refuse",),
    "input.coerce": (False,),
    "input.records": (None,),
    "input.pairs": (None,),
    "input.sequence_number": (None,),
    "output.format": ("json", "msgpack"),
    "output.emit": ("every_event", "sequence_end", "every_item", "change"),
    "output.alert": (Alert(),),
    "output.score": (None,),
    "dead_letters.on_failure": ("stop",),
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
        if value in available or (path == "output.emit" and config.model.task != "score"):
            continue  # what tasks that generate can't emit, they never will: see tasks
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
    checks = (
        _topics,
        field_names_that_can_not_be_meant,
        _sequence,
        _recovery,
        _shadow,
        keys_of_other_tasks,
        _window,
        _login,
        _encryption,
    )
    return [line for check in checks for line in check(config)]


def _topics(config: Config) -> Iterator[str]:
    named = [("input.topic", topic) for topic in config.input.topics]
    named.append(("output.topic", config.output.topic))
    if config.dead_letters.topic is not None:
        named.append(("dead_letters.topic", config.dead_letters.topic))
    if config.shadow.topic is not None:
        named.append(("shadow.topic", config.shadow.topic))
    for (first, topic), (second, other) in combinations(named, 2):
        if topic == other:
            yield f"{second}: '{other}' is {first} too; the worker would read what it writes, or mix two kinds"


def _sequence(config: Config) -> Iterator[str]:
    sequence, idle = config.sequence, config.state.idle
    if sequence.gap is not None and idle is not None and sequence.gap > idle:
        yield f"sequence.gap: {sequence.gap} can never take effect, state.idle forgets the stream after {idle}"


def _recovery(config: Config) -> Iterator[str]:
    state = config.state
    if state.rebuild_from is not None and state.recover != "rebuild":
        yield f"state.rebuild_from: is for state.recover rebuild, but it is {state.recover}"
    if state.on_model_change == "warm" and state.warm is None:
        yield "state.on_model_change: warm needs state.warm, how much of the log to replay (10m, or 500 events)"
    if state.warm is None:
        return
    if state.recover != "rebuild" and state.on_model_change != "warm":
        yield (
            "state.warm: is for state.recover rebuild or state.on_model_change warm, but these are "
            f"{state.recover} and {state.on_model_change}"
        )
    if state.rebuild_from is not None:
        yield "state.warm: says how far back a rebuild goes, as state.rebuild_from does; leave out one of the two"


def _shadow(config: Config) -> Iterator[str]:
    shadow = config.shadow
    if shadow.path is None:
        for key in ("sha256", "topic"):
            if getattr(shadow, key) is not None:
                yield f"shadow.{key}: needs shadow.path"
        return
    if shadow.topic is None:
        yield "shadow.topic: is required with shadow.path"
    if config.model.task != "score":
        yield f"shadow.path: is for task score, but model.task is {config.model.task}"


def _window(config: Config) -> Iterator[str]:
    model = config.model
    if model.task != "score":
        return
    if model.window is None:
        for key, default in (("window_fill", "wait"), ("every", 1)):
            if getattr(model, key) != default:
                yield f"model.{key}: {getattr(model, key)} needs model.window, the events that the model is run on"
        return
    for key, most in (("window", WINDOW_STEPS_LIMIT), ("every", WINDOW_EVERY_LIMIT)):
        if (given := getattr(model, key)) > most:
            yield f"model.{key}: {given:,} events are more than {most:,}, the most there can be"
    if model.memory is not None:
        yield "model.memory: is for the streaming form, and model.window is given; leave out one of the two"
    yield from _never_answered(config)


def _never_answered(config: Config) -> Iterator[str]:
    """Of a model on a window, sequences that end before an answer, or beside one. Each remedy is one."""
    model, length = config.model, config.sequence.length
    only_last = config.output.emit == "sequence_end" and config.sequence.end is None
    if length is None or model.window is None or _is_answered(model.window_fill, model.every, config):
        return
    first = _first_answer(model.window, model.window_fill, model.every)
    others = [("zeros", model.every), (model.window_fill, _every_within(model.window_fill, config)),
              ("zeros", _every_within("zeros", config))]  # fmt: skip
    fill, every = next((way for way in others if way[1] and _is_answered(*way, config)), ("zeros", 1))
    keys = ["model.window_fill: zeros"] if fill != model.window_fill else []
    keys += [f"model.every: {every}"] if every != model.every else []
    instead = " with ".join(keys)
    if length < first:
        longer = "" if only_last else " or more"
        yield (
            f"sequence.length: {length:,} ends each sequence before its first answer, after event {first:,} "
            f"(model.window, model.every); set it to {first}{longer}, or set {instead}"
        )
    else:
        yield (
            f"output.emit: sequence_end needs an answer to the last event of a sequence, number {length:,} "
            f"(sequence.length), and model.every: {model.every} gives none to it; set sequence.length: "
            f"{length + -length % model.every}, or set {instead}"
        )


def _first_answer(window: int, fill: str, every: int) -> int:
    return every if fill == "zeros" else -(-window // every) * every


def _is_answered(fill: str, every: int, config: Config) -> bool:
    """Whether a sequence of ``sequence.length`` events has an output."""
    window, length = config.model.window, config.sequence.length
    assert window is not None
    assert length is not None
    only_last = config.output.emit == "sequence_end" and config.sequence.end is None
    return _first_answer(window, fill, every) <= length and not (only_last and length % every)


def _every_within(fill: str, config: Config) -> int:
    """The greatest ``model.every``, up to the one given, with which there is an output; 0: none."""
    most = min(config.model.every, config.sequence.length or 0, EVERY_TRIED_LIMIT)
    return next((every for every in range(most, 0, -1) if _is_answered(fill, every, config)), 0)


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
