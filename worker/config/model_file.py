"""The name of a model file: a path, or a URL, which is fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import PlainValidator
from pydantic_core import PydanticCustomError

from worker.config.values import fillable
from worker.records.model_url import ModelUrl, is_url


def _model_file(value: Any) -> Path | str:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str):
        raise PydanticCustomError("path_type", "should be a path")
    fillable(value)
    if is_url(value):
        ModelUrl.parse(value)
        return value
    return Path(value)


ModelFile: TypeAlias = Annotated[Path | str, PlainValidator(_model_file, json_schema_input_type=str)]
