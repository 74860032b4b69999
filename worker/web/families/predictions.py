"""What the model says, and what it is given. At most 32 units, features and layers have a label value."""

from __future__ import annotations

from worker.web.metric import Metric, gauge

OUTPUT_VALUES = (
    -100.0, -10.0, -1.0, -0.5, -0.1, 0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0,
    10.0, 100.0,
)  # fmt: skip

PREDICTIONS = (
    Metric(
        "output_value",
        "histogram",
        "output",
        "What the model says, per output unit (label or number), of sampled events since the start; without a sum.",
        "histogram_quantile(0.5, sum by (unit, le) (rate(rnnw_output_value_bucket[5m])))",
        ("unit",),
        buckets=OUTPUT_VALUES,
    ),
    gauge(
        "output_saturated_ratio",
        "ratio",
        "Share of events with an output within 1e-6 of an end of its range (sigmoid and tanh: both ends, softmax: 1); "
        "absent where the last layer has none. As all below: of the events sampled in the last minute, absent without.",
        "max(rnnw_output_saturated_ratio)",
    ),
    gauge(
        "state_norm",
        "norm",
        "Mean L2 norm of the states stepped, per layer, in the last minute (sampled).",
        "max by (layer) (rnnw_state_norm)",
        "layer",
    ),
    gauge(
        "feature_mean",
        "feature",
        "Mean of each feature in the last minute (sampled).",
        "avg by (feature) (rnnw_feature_mean)",
        "feature",
    ),
    gauge(
        "feature_spread",
        "feature",
        "Standard deviation of each feature in the last minute (sampled, two events or more).",
        "avg by (feature) (rnnw_feature_spread)",
        "feature",
    ),
    gauge(
        "feature_outside_ratio",
        "ratio",
        "Share of values outside the range in model.expect, in the last minute (sampled); without it outside the range "
        "seen at the start, in the first 10,000 sampled events of the process, and absent until then.",
        "max by (feature) (rnnw_feature_outside_ratio)",
        "feature",
    ),
)
