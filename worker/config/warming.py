"""How much of the log warms a new model's states: ``10m`` or ``500 events``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from worker.config.values import DURATION, Duration

EVENTS = re.compile(r"([1-9][0-9]{0,11}) events?")


@dataclass(frozen=True, slots=True)
class WarmAmount:
    """So much time, or so many events; one of the two."""

    time: Duration | None = None
    events: int | None = None

    @classmethod
    def parse(cls, text: object) -> WarmAmount:
        """Raises ValueError."""
        if isinstance(text, str) and (found := EVENTS.fullmatch(text)) is not None:
            return cls(events=int(found[1]))
        if not isinstance(text, str) or DURATION.fullmatch(text) is None:
            raise ValueError(f"{text!r} is no amount (write a time such as 10m, or a number such as 500 events)")
        time = Duration.parse(text)
        if time.ms == 0:
            raise ValueError("should be longer than 0")
        return cls(time)

    def __str__(self) -> str:
        return f"{self.events} events" if self.time is None else str(self.time)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        def validate(value: object) -> WarmAmount:
            return value if isinstance(value, WarmAmount) else cls.parse(value)

        return core_schema.no_info_plain_validator_function(
            validate, serialization=core_schema.to_string_ser_schema(when_used="always")
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: core_schema.CoreSchema, handler: Any) -> JsonSchemaValue:
        return {"type": "string", "pattern": rf"^({DURATION.pattern}|{EVENTS.pattern}|.*\$\{{.*)$"}
