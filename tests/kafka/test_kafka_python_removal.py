"""A kafka-python member that the group removes while it joins: what it owned may have been another's in between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.kafka.test_kafka_contract import ANSWER_S, CLOSE_S, ClusterKit, Member, close_all, until
from tests.reached import opened_transactions
from worker.errors import CommitRefusedError, WorkerError
from worker.kafka.opening import open_source
from worker.records.ownership import Assigned, Change, Lost, Partition, Revoked

pytestmark = pytest.mark.broker
MEMBERS = 3
MOMENT_S = 0.05


@pytest.fixture
def group(bootstrap_servers: str) -> Iterator[tuple[Any, list[Member]]]:
    """Two members that share three partitions, and one more that has yet to join."""
    kit = ClusterKit(bootstrap_servers, "kafka-python")
    topic = kit.topic(MEMBERS)
    members = [Member(kit.source(f"group-{topic}"), f"group-{topic}", topic, poll_s=MOMENT_S) for _ in range(MEMBERS)]
    present = members[:2]
    for member in present:
        member.join()
    until(lambda: sum(len(member.owned) for member in present) == MEMBERS and all(m.owned for m in present), *present)
    until(lambda: all(member.source.joined for member in present), *present)
    with kit._admin() as admin:
        yield admin, members
    close_all(members)


def test_what_it_owned_is_lost_even_if_it_is_given_back(group: tuple[Any, list[Member]]) -> None:
    admin, members = group
    first, _, third = members
    name: Any = first.source.member()
    owned = sorted(first.owned)
    before = len(first.events)
    third.join()
    until(lambda: admin.describe_groups([first.group_id])[first.group_id]["group_state"] != "Stable", third)
    # Its join waits for the second member, which does not poll; that it has been sent shows in the client alone.
    until(lambda: not first.source.joined, first)
    _remove(admin, first.group_id, name.member_id)
    until(lambda: _is_refused(first), first)
    until(lambda: all(member.source.joined and len(member.owned) == 1 for member in members), *members)
    told = first.events[before:]
    # What is not given back first, what is given back after it. Later changes are those of an ordinary member.
    lost = [place for change in told if isinstance(change, Lost) for place in change.partitions]
    assert sorted(lost) == owned
    assert isinstance(told[0], Lost)
    assert not any(isinstance(change, Revoked) for change in told[: _last(told, Lost)])
    given = [place for change in told if isinstance(change, Assigned) for place in change.partitions]
    assert set(first.owned) <= set(given)
    assert first.source.member() != name


def test_who_was_removed_claims_nothing_when_it_joins_again(group: tuple[Any, list[Member]]) -> None:
    """The leader would take its word, and give at once what the member that has got it meanwhile still commits."""
    _, members = group
    first, second, _ = members
    source: Any = first.source
    coordinator = source._connected().consumer._coordinator

    def claimed() -> set[int]:
        (assignor,) = coordinator._assignors.values()
        return {number for topic in assignor.metadata([first.topic]).owned_partitions for number in topic.partitions}

    assert claimed() == {place.number for place in first.owned}
    coordinator.reset_generation()  # as the client does when it hears that it was removed
    assert claimed() == set()
    until(lambda: first.source.joined and second.source.joined and len(first.owned | second.owned) == MEMBERS,
          first, second)  # fmt: skip
    assert claimed() == {place.number for place in first.owned}


def test_a_member_hears_that_another_process_has_its_instance_id(bootstrap_servers: str) -> None:
    """The client does not say so: its heartbeats just end, and it keeps reading."""
    kit = ClusterKit(bootstrap_servers, "kafka-python")
    topic = kit.topic()
    settings = replace(kit.settings, group_id=f"group-{topic}", instance_id="one", transactional_id=f"id-{topic}")
    first, second = (Member(open_source(settings), settings.group_id, topic, poll_s=MOMENT_S) for _ in range(2))
    sink = opened_transactions(settings)
    try:
        first.join()
        until(lambda: first.source.joined and first.owned, first)
        second.join()
        until(lambda: second.source.joined and second.owned, second)
        with pytest.raises(CommitRefusedError):
            sink.commit({Partition(topic, 0): 1}, first.source.member(), ANSWER_S)
        with pytest.raises(WorkerError, match="instance_id"):
            until(lambda: False, first)
    finally:
        sink.close(CLOSE_S)
        close_all([second, first])


def _last(told: list[Change], kind: type) -> int:
    return max(at for at, change in enumerate(told) if isinstance(change, kind))


def _remove(admin: Any, group_id: str, member_id: str) -> None:
    from kafka.admin import MemberToRemove

    admin.remove_group_members(group_id, [MemberToRemove(member_id=member_id)])


def _is_refused(member: Member) -> bool:
    try:
        member.source.member()
    except CommitRefusedError:
        return True
    return False
