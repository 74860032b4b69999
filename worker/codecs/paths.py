r"""How a configuration names a field, and how an object is searched for it.

``device.id`` is the field of just that name, or else the field ``id`` of the object ``device``: whatever an object has,
the longest name comes first. ``\.`` is a dot inside a name and ``\\`` a backslash; any other backslash is itself.
``value:NAME`` always is a field, also where NAME alone would be a reserved word.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from worker.records.reserved_words import VALUE

PIECE = re.compile(r"\\([.\\])|(\.)|([^.\\]+|\\)", re.DOTALL)
PATH_NAMES_LIMIT = 16  # all ways to read a path are tried, and their number doubles with each name
PATHS_REMEMBERED = 1_000

MISSING = object()


@dataclass(frozen=True, slots=True)
class Path:
    """``text`` as the configuration has it, ``names`` from the outermost object to the field."""

    text: str
    names: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Path:
        """Of a field's name with or without ``value:``."""
        return cls.in_key(text.removeprefix(VALUE))

    @classmethod
    def in_key(cls, text: str) -> Path:
        """Of what follows ``key:``, which says already that it is a field: ``value:`` is part of a name there."""
        return cls(text, _names(text))

    def __str__(self) -> str:
        return self.text

    @property
    def literal(self) -> str:
        """The name of the one field that this may be."""
        return ".".join(self.names)

    def find(self, value: Any) -> Any:
        """What the object has there, else MISSING."""
        found = _longest_first(value, self.names)
        if found is MISSING and "\\" in self.text and isinstance(value, dict):
            return value.get(self.text, MISSING)  # nobody escapes what needs no escape
        return found


@lru_cache(maxsize=PATHS_REMEMBERED)
def _names(text: str) -> tuple[str, ...]:
    names = [""]
    for found in PIECE.finditer(text):
        escaped, dot, plain = found.groups()
        if dot:
            names.append("")
        else:
            names[-1] += escaped or plain
    return tuple(names)


def _longest_first(value: Any, names: tuple[str, ...]) -> Any:
    if not isinstance(value, dict):
        return MISSING
    if len(names) == 1:
        return value.get(names[0], MISSING)
    for count in range(len(names), 0, -1):
        found = value.get(".".join(names[:count]), MISSING)
        if found is not MISSING and count < len(names):
            found = _longest_first(found, names[count:])
        if found is not MISSING:
            return found
    return MISSING
