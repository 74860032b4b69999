"""One value's bytes → what a task that generates is asked for: text, tokens or vectors, and how much to draw.

Fields of the value are ``text``, ``tokens``, ``length`` and ``temperature``, all optional; null is as good as left out.
A record costs a whole text, so the value is built as an object and searched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike

from worker.codecs.explain import explain_others, kind_of
from worker.codecs.fields import InputFields, Paths
from worker.codecs.parsing import parse, parse_command
from worker.codecs.paths import MISSING, Path
from worker.codecs.unusable import HALVED, UnusableError, is_halved, shown
from worker.codecs.values import Parsed, as_flag, open_values, usable_ids
from worker.codecs.vectors import taken
from worker.records.arrays import FloatArray, IntArray
from worker.records.prompts import Finish, Prompt
from worker.records.vocabulary import REFUSE, UnknownItemError, Vocabulary

ITEMS_PER_RECORD_LIMIT = 100_000
TEXT, TOKENS, LENGTH, TEMPERATURE = "text", "tokens", "length", "temperature"


@dataclass(frozen=True, slots=True)
class PromptFields:
    """What records may ask for, and what holds where they don't say.

    ``below``: number of ids, which are from 0 to below - 1; not used where the fields of the input hold vectors.
    ``vocabulary``: of the text in records; None where they hold tokens or vectors. ``unknown``: REFUSE, SKIP or the id
    of the item that takes the place of one outside the vocabulary. ``max_length``: items to draw per record.
    """

    task: Literal["generate", "seq2seq"]
    max_length: int
    temperature: float
    below: int = 0
    vocabulary: Vocabulary | None = None
    unknown: int = REFUSE


class Prompts:
    """Values with prompts: ``json``, ``msgpack``, or ``float32`` for one vector. ``fields``: with features or none."""

    def __init__(self, fields: InputFields, asked: PromptFields, wire_format: str, dtype: DTypeLike) -> None:
        self._fields, self._asked, self._wire_format = fields, asked, wire_format
        self._paths = Paths.of(fields)
        self._vectors = _Vectors(fields, self._paths.features, wire_format, dtype) if fields.width else None

    def parse_all(self, values: Sequence[bytes]) -> Parsed | None:
        """None: they are read one by one."""
        return None

    def parse(self, value: bytes) -> tuple[Parsed, bool]:
        """One value, which is never a chunk: it has one prompt, and no vector of its own. Raises UnusableError."""
        if self._wire_format == "float32":
            assert self._vectors is not None, "refused by the configuration"
            return Parsed([()], prompts=[self._prompt({}, self._vectors.items({}, value))]), False
        whole = parse(value, self._wire_format)
        if not isinstance(whole, dict):
            raise UnusableError("not_an_object", f"the value is {kind_of(whole)}, not an object with fields")
        parsed = self._others(whole)
        items = self._ids(whole) if self._vectors is None else self._vectors.items(whole, value)
        if self._asked.task == "seq2seq" and not len(items) and parsed.ends != [True]:
            end = "" if self._fields.end is None else ", and does not end its sequence"
            raise UnusableError("no_items", f"the record has no items of a source{end}")
        return replace(parsed, prompts=[self._prompt(whole, items)]), False

    def parse_command(self, value: bytes, what: str) -> Any:
        """As task score reads it."""
        return parse_command(value, "json" if self._wire_format == "float32" else self._wire_format, what)

    def _others(self, whole: dict[str, Any]) -> Parsed:
        """The value's columns but for what is asked for."""
        paths = self._paths
        wrong = explain_others(self._fields, paths, whole)
        if wrong is not None:
            raise UnusableError(*wrong)
        return Parsed(
            vectors=[()],
            streams=None if paths.stream is None else [paths.stream.find(whole)],
            times=None if paths.time is None else [paths.time.find(whole)],
            ids=None if paths.id is None else usable_ids([paths.id.find(whole)]),
            starts=None if paths.start is None else [_flag(paths.start, whole)],
            ends=None if paths.end is None else [_flag(paths.end, whole)],
        )

    def _ids(self, whole: dict[str, Any]) -> IntArray:
        text, tokens = whole.get(TEXT), whole.get(TOKENS)
        if text is not None and tokens is not None:
            raise UnusableError("text_and_tokens", "the record has both 'text' and 'tokens'; one of them says it all")
        if tokens is not None:
            return _known_tokens(tokens, self._asked.below)
        return np.zeros(0, np.int64) if text is None else self._items_of(text)

    def _items_of(self, text: Any) -> IntArray:
        vocabulary = self._asked.vocabulary
        if not isinstance(text, str):
            raise UnusableError("bad_text", f"field 'text' is {kind_of(text)}, not a string")
        if is_halved(text):
            raise UnusableError("bad_text", f"field 'text' {HALVED}")
        if vocabulary is None:
            raise UnusableError("bad_text", "field 'text' can't be read without a vocabulary; give 'tokens' (ids)")
        _limit(len(vocabulary.split(text)), "items of text")
        try:
            return vocabulary.ids(text, self._asked.unknown)
        except UnknownItemError as error:
            where = f"item {error.position} of field 'text' (the first is 0)"
            item = f"'{shown(error.item)}', which the vocabulary of {len(vocabulary):,} items does not have"
            raise UnusableError("unknown_item", f"{where} is {item} (model.unknown)") from None

    def _prompt(self, whole: dict[str, Any], items: IntArray | FloatArray) -> Prompt:
        asked = self._asked
        length, temperature = None, None
        if asked.task == "generate":
            length, temperature = whole.get(LENGTH), whole.get(TEMPERATURE)
        return Prompt(
            items=items,
            length=asked.max_length if length is None else _usable_length(length, asked.max_length),
            finish=Finish.MAX_LENGTH if length is None else Finish.LENGTH,
            temperature=asked.temperature if temperature is None else _usable_temperature(temperature),
        )


class _Vectors:
    """Source items that are vectors: one, or a list of them."""

    def __init__(self, fields: InputFields, features: Sequence[Path], wire_format: str, dtype: DTypeLike) -> None:
        self._fields = InputFields(
            fields.width, fields.features, ids=fields.ids, wholes=fields.wholes, lengths=fields.lengths
        )
        self._values = open_values(self._fields, wire_format)
        self._features, self._dtype = features, dtype
        self._one_field = isinstance(fields.features, str)

    def items(self, whole: dict[str, Any], value: bytes) -> FloatArray:
        """(n, width), of none where all of their fields are left out. Raises UnusableError."""
        found = [path.find(whole) for path in self._features]
        empty = self._one_field and found == [[]]
        if found and (empty or all(each is None or each is MISSING for each in found)):
            return np.zeros((0, self._fields.width), self._dtype)
        parsed, chunk = self._values.parse(value)
        return taken(self._fields, parsed.vectors[0] if chunk else parsed.vectors, self._dtype, chunk)


def _flag(path: Path, whole: dict[str, Any]) -> bool:
    found = path.find(whole)
    return as_flag(None if found is MISSING else found)


def _limit(count: int, what: str) -> None:
    if count > ITEMS_PER_RECORD_LIMIT:
        raise UnusableError("too_large", f"{count:,} {what} in one record, above {ITEMS_PER_RECORD_LIMIT:,}")


def _known_tokens(tokens: Any, below: int) -> IntArray:
    """The ids (n,) of a record's list. Raises UnusableError."""
    if not isinstance(tokens, list):
        raise UnusableError("unknown_token", f"field 'tokens' is {kind_of(tokens)}, not a list of ids")
    _limit(len(tokens), TOKENS)
    if set(map(type, tokens)) == {int} and min(tokens) >= 0 and max(tokens) < below:
        return np.array(tokens, np.int64)
    ids = []
    for at, token in enumerate(tokens):
        number = _whole_number(token)
        if number is None or not 0 <= number < below:
            known = f"ids are whole numbers from 0 to {below - 1}"
            where = f"number {at} of field 'tokens' (the first is 0)"
            raise UnusableError("unknown_token", f"{where} is {_told(token)}; {known}")
        ids.append(number)
    return np.array(ids, np.int64)


def _usable_length(given: Any, most: int) -> int:
    number = _whole_number(given)
    if number is None or number < 0:
        raise UnusableError("bad_length", f"field 'length' is {_told(given)}, not a whole number from 0 on")
    if number > most:
        raise UnusableError("length_too_large", f"field 'length' is {shown(number)}, above {most} (model.max_length)")
    return number


def _usable_temperature(given: Any) -> float:
    if isinstance(given, int | float) and not isinstance(given, bool):
        try:
            number = float(given)
        except OverflowError:  # of integers, which have no limit
            number = -1.0
        if number >= 0 and isfinite(number):
            return number
    raise UnusableError("bad_temperature", f"field 'temperature' is {_told(given)}, not a finite number from 0 on")


def _whole_number(given: Any) -> int | None:
    """3 and 3.0, which some writers can't tell apart; None for anything else."""
    if isinstance(given, bool) or not isinstance(given, int | float):
        return None
    return int(given) if isinstance(given, int) or given.is_integer() else None


def _told(given: Any) -> str:
    """A number itself; of anything else its kind."""
    return shown(given) if isinstance(given, int | float) and not isinstance(given, bool) else kind_of(given)
