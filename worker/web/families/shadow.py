"""The second model that follows on the same events (section shadow of the configuration)."""

from __future__ import annotations

from worker.web.metric import Metric, counter, gauge

SHADOW_FAILURES = ("load", "model", "states", "outputs", "records")

SHADOW: tuple[Metric, ...] = (
    gauge("shadow_active", "1 or 0", "1 while a second model follows.", "min(rnnw_shadow_active) == 0"),
    counter(
        "shadow_events_total",
        "events",
        "Events processed by the second model.",
        "sum(rate(rnnw_shadow_events_total[5m]))",
    ),
    counter(
        "shadow_refused_total",
        "records",
        "Records that the first model has answered and the second can't: an error, or a result that is not finite.",
        "sum(rate(rnnw_shadow_refused_total[1h])) / sum(rate(rnnw_shadow_events_total[1h])) > 0.01",
    ),
    counter(
        "shadow_compared_total",
        "events",
        "Events that both models have answered, with as many output units.",
        "sum(rate(rnnw_shadow_compared_total[5m]))",
    ),
    counter(
        "shadow_labels_total",
        "events",
        "Of these, where the second model's most likely unit is another one (of a single unit: the other side of 0.5).",
        "sum(rate(rnnw_shadow_labels_total[1h])) / sum(rate(rnnw_shadow_compared_total[1h]))",
    ),
    counter(
        "shadow_difference_total",
        "difference of outputs",
        "Of these, the greatest difference of a unit of each event, added up: divide it by shadow_compared_total.",
        "sum(rate(rnnw_shadow_difference_total[1h])) / sum(rate(rnnw_shadow_compared_total[1h]))",
    ),
    counter(
        "shadow_outputs_total",
        "outputs",
        "Outputs of the second model handed to the client.",
        "sum(rate(rnnw_shadow_outputs_total[5m]))",
    ),
    counter(
        "shadow_outputs_lost_total",
        "outputs",
        "Outputs of the second model dropped because they could not be written at once.",
        "sum(rate(rnnw_shadow_outputs_lost_total[5m])) > 0",
    ),
    counter(
        "shadow_failures_total",
        "failures",
        "What went wrong with the second model, and only with it: reading its file (load), a turn (model), its "
        "checkpoints (states), its topic (outputs), a turn with records that only the first model can answer "
        "(records).",
        "sum by (kind) (increase(rnnw_shadow_failures_total[1h])) > 0",
        "kind",
        SHADOW_FAILURES,
    ),
)
