"""Vocabularies as the configuration gives them: lists or files → ``Vocabulary``, and the items that other keys name.

A file whose name ends in ``.json`` is a list of texts. Any other is text in UTF-8 with an item per line, taken as it
stands: a line may be one space. ``\\n`` and ``\\r\\n`` end a line, nothing else does; the last line needs no end.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.config.sections import Config
from worker.config.tasks import holds_vectors
from worker.config.values import Item
from worker.config.values import Vocabulary as GivenVocabulary
from worker.errors import ConfigError, counted, printable
from worker.records.texts import NO_STOP
from worker.records.vocabulary import REFUSE, SKIP, Vocabulary, VocabularyError

VOCABULARY_BYTES_LIMIT = 1 << 26
SHOWN_CHARACTERS = 60
POLICIES = {"refuse": REFUSE, "skip": SKIP}


@dataclass(frozen=True, slots=True)
class Vocabularies:
    """What a task that generates reads and writes; None, or NO_STOP, where the configuration names none.

    ``source``: of the text in records; ``target``: of the text in outputs; in task generate both are the same.
    ``start``, ``stop``: ids of the items. ``unknown``: REFUSE, SKIP, or the id that takes an unknown item's place.
    """

    source: Vocabulary | None
    target: Vocabulary | None
    start: int | None
    stop: int
    unknown: int


def read_vocabularies(config: Config) -> Vocabularies:
    """Of a task that generates. Raises ConfigError for what is no vocabulary and for items that it doesn't have."""
    model = config.model
    if model.task == "generate":
        key = "model.vocabulary"
        source = target = _vocabulary(key, model.vocabulary)
        source_key = key
    else:
        source_key, key = "model.source_vocabulary", "model.target_vocabulary"
        source, target = _vocabulary(source_key, model.source_vocabulary), _vocabulary(key, model.target_vocabulary)
    unknown = POLICIES.get(model.unknown)
    if unknown is None:
        unknown = _unknown(model.unknown, source, source_key)
    stop = _id("model.stop", model.stop, target, key)
    return Vocabularies(
        source=source,
        target=target,
        start=_id("model.start", model.start, target, key),
        stop=NO_STOP if stop is None else stop,
        unknown=unknown,
    )


def check_sizes(config: Config, given: Vocabularies, source_items: int | None, target_items: int) -> None:
    """Whether the model has as many items: ids that it reads (None: it reads other numbers) and outputs.

    Where records hold vectors, only the outputs are compared. Raises ConfigError for a vocabulary of another size and
    for an id that the model doesn't have.
    """
    model = config.model
    name = "vocabulary" if model.task == "generate" else "target_vocabulary"
    sides = [(f"model.{name}", given.target, target_items, "outputs")]
    if model.task == "seq2seq" and not holds_vectors(config):
        sides.append(("model.source_vocabulary", given.source, source_items or 0, "input ids"))
        if given.source is not None and source_items is None:
            raise ConfigError("model.source_vocabulary: the model reads vectors, not items; name their input.features")
    for key, vocabulary, items, what in sides:
        if vocabulary is not None and len(vocabulary) != items:
            raise ConfigError(f"{key}: {counted(len(vocabulary), 'item')}, but the model has {items:,} {what}")
    if given.stop >= target_items:  # a start item may be one that is never written
        raise ConfigError(f"model.stop: {given.stop} is not an id of the model, whose ids are 0 to {target_items - 1}")


def _vocabulary(key: str, given: GivenVocabulary | None) -> Vocabulary | None:
    if given is None:
        return None
    items = _items_of_file(key, given) if isinstance(given, Path) else given
    where = f" of '{printable(str(given))}'" if isinstance(given, Path) else ""
    try:
        return Vocabulary(items)
    except VocabularyError as error:
        hint = _json_hint(given, items) if isinstance(given, Path) else ""
        raise ConfigError(f"{key}: {_cut(printable(str(error)))}{where}{hint}") from error


def _items_of_file(key: str, file: Path) -> Sequence[str]:
    shown = f"{key}: '{printable(str(file))}'"
    try:
        with file.open("rb") as opened:
            content = opened.read(VOCABULARY_BYTES_LIMIT + 1)
    except OSError as error:
        raise ConfigError(f"{shown} can't be read: {error.strerror}") from error
    if len(content) > VOCABULARY_BYTES_LIMIT:
        raise ConfigError(f"{shown} is larger than {VOCABULARY_BYTES_LIMIT:,} bytes: not a vocabulary")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError(f"{shown} is not UTF-8 (line {line}, byte {error.start}); save it as UTF-8") from error
    return _json_items(shown, text) if file.suffix.lower() == ".json" else _lines(shown, text)


def _lines(shown: str, text: str) -> list[str]:
    *ended, last = text.split("\n")
    items = [line.removesuffix("\r") for line in ended] + ([last] if last else [])
    if not items:
        raise ConfigError(f"{shown} is empty; it holds an item per line")
    for number, item in enumerate(items, 1):
        if not item:
            remedy = "delete it; where a line break is an item, write a list in a file .json"
            raise ConfigError(f"{shown}: line {number} is empty; {remedy}")
    return items


def _json_items(shown: str, text: str) -> list[str]:
    try:
        items: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        why = f"line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else "it can't be read"
        raise ConfigError(f"{shown} is not JSON ({why})") from error
    if not isinstance(items, list):
        raise ConfigError(f"{shown} is not a list; write the items in the order of their ids")
    for number, item in enumerate(items):
        if not isinstance(item, str):
            raise ConfigError(f"{shown}: item {number} (the first is 0) is not text; put it in quotes")
        if any("\ud800" <= character <= "\udfff" for character in item):
            raise ConfigError(f"{shown}: item {number} (the first is 0) has half of a surrogate pair, not a character")
    return items


def _json_hint(file: Path, items: Sequence[str]) -> str:
    is_list = file.suffix.lower() != ".json" and items[0].lstrip().startswith("[")
    return "; a JSON list needs a file name that ends in .json" if is_list else ""


def _id(key: str, given: Item | None, vocabulary: Vocabulary | None, vocabulary_key: str) -> int | None:
    """With a vocabulary the item, which may look like a number; without one an id."""
    if given is None:
        return None
    if vocabulary is not None:
        item = str(given)
        if item in vocabulary:
            return vocabulary.id(item)
        remedy = "; write the item, not its id" if isinstance(given, int) or given.isdecimal() else ""
        raise ConfigError(f"{key}: {_shown(item)} is not an item of {vocabulary_key}{remedy}")
    if isinstance(given, int):
        return given
    if given.isascii() and given.isdecimal() and len(given) <= SHOWN_CHARACTERS:  # from a variable
        return int(given)
    raise ConfigError(f"{key}: {_shown(given)} is an item, and there is no {vocabulary_key}; write its id, or name one")


def _unknown(item: str, vocabulary: Vocabulary | None, vocabulary_key: str) -> int:
    if vocabulary is None:
        raise ConfigError(f"model.unknown: is for text, and there is no {vocabulary_key}; leave it out, or name one")
    if item not in vocabulary:
        raise ConfigError(
            f"model.unknown: {_shown(item)} is not an item of {vocabulary_key}; write refuse, skip or one of its items"
        )
    return vocabulary.id(item)


def _shown(item: str) -> str:
    return f"'{_cut(printable(item), SHOWN_CHARACTERS)}'"


def _cut(text: str, most: int = 200) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
