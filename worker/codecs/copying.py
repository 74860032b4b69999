"""Fields of a record's value that its outputs repeat (output.copy), encoded once for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, TypeAlias

import msgspec

from worker.codecs.parsing import parse
from worker.codecs.paths import MISSING, Path
from worker.codecs.unusable import HALVED, UnusableError, is_halved, shown
from worker.records.carried_headers import CARRIED_BYTES_LIMIT, TRACES, CarriedHeaders
from worker.records.record_batch import Headers, RecordBatch

COPIED_BYTES_LIMIT = 16_384  # in an output, by its format: a chunk repeats them in each of its outputs
ROLE = "(output.copy)"

Copied: TypeAlias = msgspec.Raw  # an object with the fields, in the output's format


class Copier:
    """Reads the fields ``names`` from values in one wire format, and writes them in another.

    The object has every name, without ``value:`` and backslashes; what the record does not have is null.
    """

    def __init__(self, names: Sequence[str], read_format: str, written_format: str) -> None:
        self._paths = [Path.of(name) for name in names]
        self._read, self._written = read_format, written_format
        self._encode = (msgspec.json.Encoder() if written_format == "json" else msgspec.msgpack.Encoder()).encode

    def of(self, value: bytes) -> Copied:
        """Of a value that the decoder takes. Raises UnusableError."""
        whole = parse(value, self._read)
        found = {path.literal: self._checked(path, path.find(whole)) for path in self._paths}
        encoded = self._encoded(found)
        if len(encoded) > COPIED_BYTES_LIMIT:
            names = ", ".join(shown(path) for path in self._paths)
            raise UnusableError(
                "too_large", f"the fields {names} {ROLE} have {len(encoded)} bytes, above {COPIED_BYTES_LIMIT}"
            )
        return msgspec.Raw(encoded)

    def _checked(self, path: Path, found: Any) -> Any:
        if found is MISSING:
            return None
        if not isinstance(found, str | int | bool | None):
            why = _not_writable(found, self._written)
        else:
            why = HALVED if is_halved(found) else None
        if why is not None:
            raise UnusableError("bad_field", f"field '{shown(path)}' {ROLE} {why}")
        return found

    def _encoded(self, found: dict[str, Any]) -> bytes:
        try:
            return self._encode(found)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            for path in self._paths:
                try:
                    self._encode(found[path.literal])
                except (TypeError, ValueError, OverflowError, RecursionError):
                    reason = f"field '{shown(path)}' {ROLE} can't be written as {self._written}: {error}"
                    raise UnusableError("bad_field", reason) from None
            raise


def _not_writable(found: Any, written_format: str) -> str | None:
    """Why a value would be written as another one, or not at all; None: it would not."""
    left = [found]
    while left:
        each = left.pop()
        if isinstance(each, float):
            if written_format == "json" and not isfinite(each):
                return f"holds {each}, which JSON does not have"
        elif isinstance(each, str):
            if is_halved(each):
                return HALVED
        elif isinstance(each, dict):
            left += [*each.keys(), *each.values()]
        elif isinstance(each, list | tuple):
            left += each
    return None


@dataclass(frozen=True, slots=True)
class Repeated:
    """What the outputs of a record repeat of it: fields of its value, None for none, and headers."""

    fields: Copier | None = None
    headers: CarriedHeaders = TRACES

    def of_all(self, batch: RecordBatch, values: Sequence[bytes]) -> list[Copied] | None:
        """(values,) the fields of all, None where none are asked for. Raises UnusableError at the first record of which
        too much would be repeated, or what can't be."""
        for headers in batch.headers if any(batch.headers) else ():
            self._check(headers)
        return None if self.fields is None else list(map(self.fields.of, values))

    def of(self, headers: Headers | None, value: bytes) -> Copied | None:
        """The fields of one. Raises UnusableError."""
        self._check(headers)
        return None if self.fields is None else self.fields.of(value)

    def _check(self, headers: Headers | None) -> None:
        if size_bytes := self.headers.too_many_bytes(headers):
            raise UnusableError(
                "too_large", f"the headers to carry over (output.headers) have {size_bytes} bytes, above "
                f"{CARRIED_BYTES_LIMIT}")  # fmt: skip


TRACES_ALONE = Repeated()
