"""In which order tests run on several processes, and which of them stay together in one.

Some tests wait, for a broker or for time to pass; others compute. Side by side the two fill the processors, so both
kinds begin at once and end together: each is dealt in proportion to its share of the whole. The longest come first, so
that only short ones are left for the end. (pytest-xdist deals groups in this order with ``--no-loadscope-reorder``.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
from xdist.scheduler import LoadScopeScheduling

# Seconds that a file's tests take together, about; by ``pytest --durations=0`` on two quiet cores.
MEASURED_S = {
    "test_unwritable_topics.py": 230, "test_run_kafka.py": 170, "test_kafka_python_transactions.py": 155,
    "test_zoo.py": 95, "test_end_to_end.py": 135, "test_fault_rounds.py": 110, "test_transactions_contract.py": 105,
    "test_model_keras2.py": 90, "test_kafka_unreachable.py": 85, "test_kafka_contract.py": 65,
    "test_checkpoints_stores.py": 60, "test_model_remedies.py": 50, "test_fault_harness.py": 50,
    "test_kafka_python_removal.py": 48, "test_kafka_refused.py": 48, "test_faults_anywhere.py": 45,
    "test_kafka_silent_server.py": 44, "test_docs_pages.py": 200, "test_crash_points.py": 42, "test_bench.py": 39,
    "test_kafka_late_poll.py": 38, "test_embedded_kafka.py": 38, "test_embedded_cluster.py": 35,
    "test_kafka_static_return.py": 30, "test_model_streaming.py": 30, "test_model_kinds.py": 30,
    "test_model_keras2_calls.py": 30, "test_processor.py": 30, "test_check_command.py": 28, "test_cuts.py": 25,
    "test_feedback_cuts.py": 15, "test_generation_crash_points.py": 80, "test_generation_faults_anywhere.py": 40,
    "test_generation_loop.py": 25, "test_export_command.py": 25, "test_examples.py": 25,
    "test_demo_texts_session.py": 40, "test_generate_kafka.py": 190, "test_translate_kafka.py": 70,
    "test_check_texts.py": 30, "test_encoder_decoder.py": 60, "test_derivation.py": 40, "test_pair_refusals.py": 40,
    "test_generative.py": 60, "test_decoding.py": 20, "test_handover_kafka.py": 90, "test_model_url.py": 25,
    "test_check_expect.py": 20,
    "test_prometheus.py": 100, "test_alerts.py": 15,
    "test_helm.py": 20, "test_compose_kafka.py": 20,
    "test_model_lambda.py": 60, "test_export_pairs.py": 50, "test_model_own_objects.py": 60, "test_window.py": 40,
    "test_proof_reach.py": 60, "test_commands.py": 50,
    "test_run_telemetry.py": 30, "test_shadow_kafka.py": 40, "test_published.py": 60,
}  # fmt: skip
WAITING_S, COMPUTING_S = 1.0, 0.05  # a test of any other file: with a broker, without
# Their tests share nothing that is dear: they go to whichever process is free. Others stay with their file.
DEALT_ONE_BY_ONE = {
    "test_unwritable_topics.py", "test_fault_rounds.py", "test_run_kafka.py", "test_end_to_end.py", "test_zoo.py",
    "test_transactions_contract.py", "test_kafka_contract.py", "test_model_remedies.py", "test_kafka_unreachable.py",
    "test_docs_pages.py", "test_crash_points.py", "test_faults_anywhere.py", "test_embedded_kafka.py",
    "test_examples.py", "test_generation_crash_points.py", "test_generation_faults_anywhere.py",
    "test_generate_kafka.py", "test_translate_kafka.py", "test_handover_kafka.py", "test_published.py",
}  # fmt: skip

# They start processes, or let real time pass: `make test-fast` leaves them out.
SLOW = {
    "test_checkpoints_disk.py", "test_checkpoints_stores.py", "test_commands.py", "test_crash_points.py",
    "test_demo_motions.py", "test_kafka_unreachable.py", "test_model_loading.py", "test_model_own_objects.py",
    "test_examples.py", "test_generation_crash_points.py", "test_processor.py", "test_run_kafka.py",
    "test_helm.py", "test_kubernetes.py",
}  # fmt: skip


class Groups(LoadScopeScheduling):
    """Deals whole groups to processes, in the order of their first tests."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def group_of(nodeid: str) -> str:
    """Tests of one group run in one process, one after the other."""
    file = nodeid.partition("::")[0]
    return nodeid if file.rpartition("/")[2] in DEALT_ONE_BY_ONE else file


def ordered(items: Iterable[pytest.Item]) -> list[pytest.Item]:
    """The items, groups whole: waiting and computing ones mixed so that both last as long as the whole."""
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        groups.setdefault(group_of(item.nodeid), []).append(item)
    waiting = {item.path.name for group in groups.values() for item in group if item.get_closest_marker("broker")}
    counts = Counter(item.path.name for group in groups.values() for item in group)

    def seconds(group: list[pytest.Item]) -> float:
        file = group[0].path.name
        usual_s = WAITING_S if file in waiting else COMPUTING_S
        return MEASURED_S.get(file, usual_s * counts[file]) * len(group) / counts[file]

    places: list[tuple[float, list[pytest.Item]]] = []
    for waits in (True, False):
        kind = [group for group in groups.values() if (group[0].path.name in waiting) == waits]
        kind.sort(key=lambda group: -MEASURED_S.get(group[0].path.name, 0.0))
        whole_s, begun_s = sum(map(seconds, kind)), 0.0
        for group in kind:
            places.append((begun_s / whole_s, group))
            begun_s += seconds(group)
    places.sort(key=lambda place: place[0])
    return [item for _, group in places for item in group]
