"""From a configuration to the rules by which a stream's state returns to zero."""

from __future__ import annotations

from worker.config.sections import Config
from worker.engine.boundaries import BoundaryRules


def boundary_rules(config: Config) -> BoundaryRules:
    """The section ``sequence``, and when a stream is idle."""
    sequence, idle = config.sequence, config.state.idle
    return BoundaryRules(
        length=sequence.length,
        gap_ms=sequence.gap.ms if sequence.gap else None,
        idle_ms=idle.ms if idle else None,
        late=sequence.late,
    )
