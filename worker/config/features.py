"""``input.features`` of all forms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

# Fields in order, the one field with the whole vector, or either for each input of the model by its name.
Features: TypeAlias = tuple[str, ...] | str | Mapping[str, tuple[str, ...] | str]


def field_names(features: Features) -> tuple[str, ...]:
    """Every field once, in the order of the configuration."""
    if isinstance(features, str):
        return (features,)
    if isinstance(features, tuple):
        return features
    return tuple(dict.fromkeys(name for given in features.values() for name in field_names(given)))
