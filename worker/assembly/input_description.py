"""Which settings decide what a stream's states have seen, as checkpoints store them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from worker.checkpoints.input_identity import as_json, described
from worker.config.features import Features, field_names
from worker.config.sections import Config
from worker.config.vocabularies import Vocabularies, read_vocabularies
from worker.records.names import short_digest
from worker.records.vocabulary import Vocabulary

# Keys of the section ``input`` that say where records are, not what they are; and keys that every description names.
# Any other key is included where it differs from its default: a key that a later version adds then changes no
# description.
WHERE = {"topic", "start", "schema"}
ALWAYS = ("format", "stream", "features", "time")
DRAWN = {"temperature", "top_k", "top_p", "seed", "start", "stop", "max_length", "beams"}  # keys that shape a text


def input_description(config: Config, inputs: Sequence[str] = (), vocabularies: Vocabularies | None = None) -> str:
    """The keys that say how numbers and streams come out of records: one JSON object of text, sorted, on one line.

    Part of it: the format (records between a checkpoint and the last commit are read once more, and in another format
    all of them would be refused in silence), the field that names the stream, the features in their order (float32 has
    no names for them), the field with the time and its unit (a stream's last time and its partition's clock are states,
    too), and for tasks that generate what ids a text becomes: the vocabulary of records, by its SHA-256. A list and a
    file with the same items are the same; a file with other items under the old name is not.

    Fields are named without a ``value:`` that makes no difference. Features by input are in the order of the model's
    ``inputs``: a list that says the same is the same. ``vocabularies``: those that the worker uses; None: they are read
    here, which raises ConfigError.
    """
    given, model = config.input, config.model
    more = given.model_dump(mode="json", exclude=WHERE.union(ALWAYS), exclude_defaults=True)
    values: dict[str, Any] = {
        "input.format": given.format,
        "input.stream": given.stream,
        "input.features": None if given.format == "float32" else _features(given.features, inputs),
        "input.time": given.time,
        **{f"input.{key}": value for key, value in more.items()},
    }
    if model.task != "score":
        key = "model.vocabulary" if model.task == "generate" else "model.source_vocabulary"
        values["model.task"] = model.task
        values[key] = _digest((vocabularies or read_vocabularies(config)).source)
        if model.unknown != "refuse":
            values["model.unknown"] = model.unknown
    return described(values)


def _features(given: Features | None, inputs: Sequence[str]) -> Features | None:
    if not isinstance(given, Mapping) or set(given) != set(inputs):
        return given
    if len(inputs) == 1:
        return given[inputs[0]]
    return tuple(name for each in inputs for name in field_names(given[each]))


def rules_description(config: Config) -> str:
    """The keys that say when a stream's state returns to zero, and for tasks that generate what becomes of a record
    whose text is unfinished: one JSON object of text, sorted, on one line.
    """
    values = {f"sequence.{key}": value for key, value in config.sequence.model_dump(mode="json").items()}
    kept = config.state.model_dump(mode="json", include={"idle", "max_streams"})
    values |= {f"state.{key}": value for key, value in kept.items()}
    if config.model.task != "score":
        drawn = config.model.model_dump(mode="json", include=DRAWN)
        values |= {f"model.{key}": value for key, value in drawn.items()}
        values["output.emit"] = config.output.emit
    return described(values)


def _digest(vocabulary: Vocabulary | None) -> str | None:
    if vocabulary is None:
        return None
    return f"sha256:{short_digest(hashlib.sha256(as_json(vocabulary.items).encode()).hexdigest())}"
