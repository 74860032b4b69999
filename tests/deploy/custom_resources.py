"""What the custom resources that we write may hold: our own reading of their operators' pages, no more than we use.

Kubernetes knows none of them, so kubernetes-validate has no schema for them.
"""

from __future__ import annotations

from typing import Any

TEXT = {"type": "string", "minLength": 1}
DURATION = {"type": "string", "pattern": "^([0-9]+(ms|s|m|h|d))+$"}
NUMBER_IN_TEXT = {"type": "string", "pattern": "^[1-9][0-9]*$"}
SWITCH_IN_TEXT = {"enum": ["true", "false"]}
TEXTS = {"type": "object", "additionalProperties": TEXT}


def exactly(*required: str, **properties: Any) -> dict[str, Any]:
    """A map with these keys and no others."""
    return {"type": "object", "additionalProperties": False, "required": list(required), "properties": properties}


def some(items: dict[str, Any]) -> dict[str, Any]:
    """A list with at least one."""
    return {"type": "array", "minItems": 1, "items": items}


METADATA = exactly("name", "labels", name=TEXT, labels=TEXTS, annotations=TEXTS)
POD_MONITOR = exactly(
    "selector", "podMetricsEndpoints",
    selector=exactly("matchLabels", matchLabels=TEXTS),
    podMetricsEndpoints=some(exactly("port", port=TEXT, path=TEXT, interval=DURATION)),
)  # fmt: skip
RULE = exactly(
    "expr", record=TEXT, alert=TEXT, expr=TEXT, labels=TEXTS, annotations=TEXTS, keep_firing_for=DURATION,
    **{"for": DURATION},
)  # fmt: skip
PROMETHEUS_RULE = exactly(
    "groups", groups=some(exactly("name", "rules", name=TEXT, interval=DURATION, rules=some(RULE)))
)
POLICY = exactly(
    "type", "value", "periodSeconds",
    type={"enum": ["Pods", "Percent"]}, value={"type": "integer", "minimum": 1},
    periodSeconds={"type": "integer", "minimum": 1, "maximum": 1800},
)  # fmt: skip
SCALING = exactly(
    "stabilizationWindowSeconds", stabilizationWindowSeconds={"type": "integer", "minimum": 0, "maximum": 3600},
    policies=some(POLICY),
)  # fmt: skip
KAFKA_TRIGGER = exactly(
    "bootstrapServers", "consumerGroup", "topic", "lagThreshold",
    bootstrapServers=TEXT, consumerGroup=TEXT, topic=TEXT, lagThreshold=NUMBER_IN_TEXT,
    offsetResetPolicy={"enum": ["earliest", "latest"]}, allowIdleConsumers=SWITCH_IN_TEXT,
    excludePersistentLag=SWITCH_IN_TEXT, limitToPartitionsWithLag=SWITCH_IN_TEXT,
    scaleToZeroOnInvalidOffset=SWITCH_IN_TEXT, tls={"enum": ["enable", "disable"]},
    sasl={"enum": ["none", "plaintext", "scram_sha256", "scram_sha512", "oauthbearer", "gssapi"]},
)  # fmt: skip
SCALED_OBJECT = exactly(
    "scaleTargetRef", "triggers",
    scaleTargetRef=exactly("apiVersion", "kind", "name", apiVersion=TEXT, kind=TEXT, name=TEXT),
    pollingInterval={"type": "integer", "minimum": 1},
    minReplicaCount={"type": "integer", "minimum": 1},
    maxReplicaCount={"type": "integer", "minimum": 1},
    advanced=exactly(horizontalPodAutoscalerConfig=exactly(behavior=exactly(scaleUp=SCALING, scaleDown=SCALING))),
    triggers=some(exactly("type", "metadata", type={"const": "kafka"}, metadata=KAFKA_TRIGGER,
                          authenticationRef=exactly("name", name=TEXT))),
)  # fmt: skip
TRIGGER_AUTHENTICATION = exactly(
    "secretTargetRef",
    secretTargetRef=some(exactly("parameter", "name", "key", parameter=TEXT, name=TEXT, key=TEXT)),
)
SCHEMAS = {
    ("monitoring.coreos.com/v1", "PodMonitor"): POD_MONITOR,
    ("monitoring.coreos.com/v1", "PrometheusRule"): PROMETHEUS_RULE,
    ("keda.sh/v1alpha1", "ScaledObject"): SCALED_OBJECT,
    ("keda.sh/v1alpha1", "TriggerAuthentication"): TRIGGER_AUTHENTICATION,
}


def schema_of(made: dict[str, Any]) -> dict[str, Any]:
    """The schema of the whole object. Raises KeyError for a kind that is not listed."""
    spec = SCHEMAS[made["apiVersion"], made["kind"]]
    return exactly("apiVersion", "kind", "metadata", "spec", apiVersion=TEXT, kind=TEXT, metadata=METADATA, spec=spec)
