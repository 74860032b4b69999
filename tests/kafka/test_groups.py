"""Questions about groups, and offsets set for one that nobody is in: the same with both clients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.conftest import NewTopic, eventually
from tests.subscribed import joined_source
from worker.errors import CommitRefusedError
from worker.kafka.contracts import Committed, Questions
from worker.kafka.opening import open_questions, open_source
from worker.kafka.settings import ClientSettings
from worker.records.ownership import Partition

ANSWER_S = 60.0


@pytest.fixture(params=["kafka-python", "confluent"])
def settings(request: pytest.FixtureRequest, bootstrap_servers: str) -> ClientSettings:
    return ClientSettings(bootstrap_servers, request.param)


@pytest.fixture
def cluster(settings: ClientSettings) -> Iterator[Questions]:
    with open_questions(settings, ANSWER_S) as found:
        yield found


def committed(settings: ClientSettings, group: str, *partitions: Partition) -> dict[Partition, Any]:
    source = open_source(replace(settings, group_id=group))
    try:
        return source.committed(partitions, ANSWER_S)
    finally:
        source.close(ANSWER_S)


def test_who_is_in_a_group(settings: ClientSettings, cluster: Questions, topic: NewTopic) -> None:
    name = topic()
    group = f"group-{name}"
    assert cluster.members(group) == []
    named = joined_source(replace(settings, group_id=group, instance_id="worker-0"), name)
    try:
        assert cluster.members(group) == ["worker-0"]
        other = joined_source(replace(settings, group_id=f"{group}-2"), name)
        assert len(cluster.members(f"{group}-2")) == 1
        other.close(ANSWER_S)
        eventually(lambda: cluster.members(f"{group}-2") == [])
    finally:
        named.close(ANSWER_S)


def test_offsets_are_set_with_their_notes(settings: ClientSettings, cluster: Questions, topic: NewTopic) -> None:
    name = topic(3)
    first, second, third = (Partition(name, number) for number in range(3))
    wanted = {first: Committed(7, "topic_id=abc cluster_id=d;"), second: Committed(0)}
    cluster.set_committed(f"group-{name}", wanted)
    assert committed(settings, f"group-{name}", first, second, third) == {**wanted, third: None}


def test_offsets_of_a_group_that_runs_are_refused(
    settings: ClientSettings, cluster: Questions, topic: NewTopic
) -> None:
    name = topic()
    group, partition = f"group-{name}", Partition(name, 0)
    source = joined_source(replace(settings, group_id=group), name)
    try:
        with pytest.raises(CommitRefusedError, match=f"offsets of group '{group}'"):
            cluster.set_committed(group, {partition: Committed(1)})
        assert committed(settings, group, partition) == {partition: None}
    finally:
        source.close(ANSWER_S)
