"""Which fields of a value mean what."""

from __future__ import annotations

from dataclasses import dataclass

from worker.codecs.paths import Path
from worker.records.reserved_words import KEY, NOT_VALUES, TIMESTAMP


@dataclass(frozen=True, slots=True)
class InputFields:
    """What to read: names as in the configuration, ``width`` numbers per vector.

    ``ids``: columns whose numbers must be whole, from 0 to below a limit. ``wholes``: columns whose numbers must be,
    too, and lie between these two. ``lengths``: how many numbers each of the fields holds, in a list where more than
    one; () where each holds one.
    """

    width: int
    features: tuple[str, ...] | str  # one field per number, or the one field that holds the vector
    stream: str = KEY
    time: str = TIMESTAMP
    id: str | None = None
    start: str | None = None
    end: str | None = None
    ids: tuple[tuple[slice, int], ...] = ()
    wholes: tuple[tuple[slice, int, int], ...] = ()
    lengths: tuple[int, ...] = ()
    time_unit: str = "ms"
    stream_format: str = "utf8"  # one of ``key_formats.FORMATS``


@dataclass(frozen=True, slots=True)
class Paths:
    """The fields of a value by what they mean; None where the value says nothing of it."""

    features: tuple[Path, ...]
    stream: Path | None
    time: Path | None
    id: Path | None
    start: Path | None
    end: Path | None

    @classmethod
    def of(cls, fields: InputFields) -> Paths:
        """Of a configuration's names."""
        features = (fields.features,) if isinstance(fields.features, str) else fields.features
        in_value = fields.stream != KEY and not fields.stream.startswith(NOT_VALUES)
        return cls(
            features=tuple(map(Path.of, features)),
            stream=Path.of(fields.stream) if in_value else None,
            time=None if fields.time == TIMESTAMP else Path.of(fields.time),
            id=_path(fields.id),
            start=_path(fields.start),
            end=_path(fields.end),
        )

    def optional(self) -> list[Path]:
        """The boundaries, false where they are missing: all else must be there."""
        return [path for path in (self.start, self.end) if path is not None]

    def every(self) -> list[Path]:
        """All of them, each once."""
        return list(dict.fromkeys([*self.features, *self.others()]))

    def others(self) -> list[Path]:
        """All but the features."""
        others = (self.stream, self.time, self.id, self.start, self.end)
        return [path for path in others if path is not None]


def _path(text: str | None) -> Path | None:
    return None if text is None else Path.of(text)
