"""What ``worker handover`` gives, refuses and copies, without a cluster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.checkpoints.test_checkpoints import CREATED, IDENTITY, PARTITION, SMALL, WRITING, plain
from tests.command_line import Command, written
from tests.models import L, sequential
from worker import StreamingModel
from worker.assembly.input_description import input_description
from worker.checkpoints.contracts import Store
from worker.checkpoints.header import CheckpointIdentity
from worker.checkpoints.input_identity import described
from worker.checkpoints.opening import open_store
from worker.commands.handover.handing_over import check_still, to_give, wanted_states
from worker.commands.handover.states import CheckpointCopies
from worker.config import load_config
from worker.errors import WorkerError
from worker.kafka.contracts import Committed
from worker.member.commit_notes import own_note
from worker.records.ownership import Partition
from worker.records.states import PartitionState

P0, P1 = Partition("readings", 0), Partition("readings", 1)
AT_7, AT_9 = Committed(7, "topic_id=abc cluster_id=d;"), Committed(9)
BOTH = {P0: AT_7, P1: AT_9}
NOTHING = dict.fromkeys((P0, P1))
OURS, OTHER = IDENTITY.model_sha256, "cd" * 32
DELETE = "take a new name, or delete them (kafka-consumer-groups.sh --delete-offsets --group green --topic readings)"


@pytest.mark.parametrize(
    ("old", "new", "given", "again"),
    [
        (BOTH, NOTHING, BOTH, False),
        ({P0: None, P1: AT_9}, NOTHING, {P1: AT_9}, False),
        (BOTH, BOTH, BOTH, True),
        ({P0: None, P1: AT_9}, {P0: None, P1: AT_9}, {P1: AT_9}, True),
    ],
)
def test_what_the_new_group_is_given(
    old: dict[Partition, Committed | None], new: dict[Partition, Committed | None],
    given: dict[Partition, Committed], again: bool,
) -> None:  # fmt: skip
    assert to_give("blue", "green", old, new) == (given, again)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (NOTHING, NOTHING, "group 'blue' has committed no offset of 'readings'; check the name after --from"),
        (BOTH, {P0: AT_9, P1: AT_9}, f"group 'green' has committed other offsets already (readings/0 at 9); {DELETE}"),
        (
            BOTH,
            {P0: Committed(7), P1: AT_9},
            f"group 'green' has committed other offsets already (readings/0 at 7); {DELETE}",
        ),
        (
            {P0: None, P1: AT_9},
            BOTH,
            f"group 'green' has committed other offsets already (readings/0 at 7); {DELETE}",
        ),
        (
            BOTH,
            {P0: AT_7, P1: None},
            f"group 'green' has committed other offsets already (of some partitions only); {DELETE}",
        ),
    ],
)
def test_what_is_refused(
    old: dict[Partition, Committed | None], new: dict[Partition, Committed | None], why: str
) -> None:
    with pytest.raises(WorkerError) as refused:
        to_give("blue", "green", old, new)
    assert str(refused.value) == why


def test_an_old_group_that_begins_anew_meanwhile_is_told() -> None:
    check_still("blue", "green", BOTH, BOTH, [])
    delete = "kafka-consumer-groups.sh --delete-offsets --group green --topic readings"
    for now, members, what in (
        ({P0: AT_7, P1: Committed(10)}, [], "readings/1"),
        (BOTH, ["worker-0"], "1 member (worker-0)"),
        (NOTHING, ["a", "b"], "readings/0, readings/1, 2 members (a, b)"),
    ):
        with pytest.raises(WorkerError) as refused:
            check_still("blue", "green", BOTH, now, members)
        assert str(refused.value) == (
            f"group 'blue' was started again during the handover ({what}); stop it, delete the offsets of 'green' "
            f"({delete}), and hand over once more"
        )


@pytest.mark.parametrize(
    ("read", "own"),
    [
        ("", ""),
        ("of another program", ""),
        ("topic_id=abc cluster_id=d;", "topic_id=abc cluster_id=d;"),
        ("topic_id=abc cluster_id=d;\0more", "topic_id=abc cluster_id=d;"),
        ("topic_id=a cluster_id=; read_to=9 unfinished=AB-_;x", "topic_id=a cluster_id=; read_to=9 unfinished=AB-_;"),
        (" read_to=9 unfinished=;\0", " read_to=9 unfinished=;"),
    ],
)  # fmt: skip
def test_a_note_is_taken_without_what_lies_behind_it(read: str, own: str) -> None:
    assert own_note(read) == own


@pytest.fixture(params=["folder", "memory"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Store, Store]:
    """Of the groups blue and green, in one place."""
    place = str(tmp_path) if request.param == "folder" else f"memory://{tmp_path.name}"
    return open_store(place, "blue"), open_store(place, "green")


def save(store: Store, *offsets: int, model: str = OURS, **more: Any) -> None:
    for offset in offsets:
        identity = replace(IDENTITY, group_id="blue", model_sha256=model, **more)
        store.publish(replace(SMALL, next_offset=offset), identity, created=CREATED)


def copies(stores: tuple[Store, Store], model: str | None = OURS, keep: int = 2, read: str = "") -> CheckpointCopies:
    wanted = CheckpointIdentity(model or "", "", "green", "", input=read)
    return CheckpointCopies(*stores, "green", wanted, keep)


def found(store: Store) -> list[int]:
    return [entry.next_offset for entry in store.candidates(PARTITION, None)]


def test_the_newest_at_or_below_the_offset_are_copied_with_every_bit(stores: tuple[Store, Store]) -> None:
    blue, green = stores
    save(blue, 10, 20, 30, 40)
    assert copies(stores).find(PARTITION, 35).words == "checkpoint at 30"
    assert found(green) == []
    assert copies(stores).copy(PARTITION, 35).offset == 30
    assert found(green) == [30, 20]
    assert found(blue) == [40, 30, 20, 10]
    entry = green.candidates(PARTITION, 30)[0]
    identity = replace(IDENTITY, group_id="green")
    assert green.header(entry).identity == identity
    assert plain(green.read(entry, identity, None)) == plain(replace(SMALL, next_offset=30))
    assert copies(stores).copy(PARTITION, 35).offset == 30  # once more: as after a crash


def test_states_of_another_model_stay_where_they_are(stores: tuple[Store, Store]) -> None:
    blue, green = stores
    save(blue, 10)
    save(blue, 20, model=OTHER)
    assert copies(stores, model=OTHER).copy(PARTITION, 25).offset == 20
    assert found(green) == [20]
    assert copies(stores, "ef" * 32).copy(PARTITION, 25) == copies(stores, "ef" * 32).find(PARTITION, 25)
    assert copies(stores, "ef" * 32).find(PARTITION, 25).words == f"none: the checkpoints are of model {OTHER[:12]}"
    assert copies(stores).find(P0, 25).words == "none: there is no checkpoint"
    assert copies(stores, None).copy(PARTITION, 25).offset == 20  # of any model
    assert found(green) == [20, 10]


def test_states_of_another_input_stay_as_the_new_workers_would_refuse_them(stores: tuple[Store, Store]) -> None:
    def features(*names: str) -> str:
        return described({"input.features": names})

    blue, green = stores
    save(blue, 10, input=features("a", "b"))
    save(blue, 20, input=features("b", "a"))
    assert copies(stores, read=features("a", "value:b")).find(PARTITION, 25).offset == 10
    other = copies(stores, read=features("a"))
    assert other.find(PARTITION, 25) == other.copy(PARTITION, 25)
    told = 'none: the checkpoints are of another input (input.features was ["b","a"], is ["a"])'
    assert other.find(PARTITION, 25).words == told
    assert found(green) == []
    assert copies(stores, None).copy(PARTITION, 25).offset == 20  # state.on_model_change: keep
    assert found(green) == [20, 10]


def test_features_by_input_are_those_that_a_worker_would_write(tmp_path: Path) -> None:
    file = tmp_path / "good.keras"
    sequential(L.LSTM(4), L.Dense(1)).save(file)
    (name,) = [port.name for port in StreamingModel.load(file).inputs]
    listed = load_config(Path(written(tmp_path)), {})
    given = listed.input.features
    by_input = load_config(Path(written(tmp_path, input__features={name: list(given or ())})), {})
    wanted = [wanted_states(each, OURS, "green") for each in (listed, by_input)]
    assert wanted[0] == wanted[1]
    assert (wanted[0].model_sha256, wanted[0].input) == (OURS, input_description(listed))
    keep = load_config(Path(written(tmp_path, state__on_model_change="keep")), {})
    assert wanted_states(keep, OURS, "green") == CheckpointIdentity("", "", "green", "")


def test_a_topic_that_has_grown_is_refused_as_the_new_workers_would(stores: tuple[Store, Store]) -> None:
    save(stores[0], 10, partitions=3)
    copies(stores).check_counts({PARTITION: 15, P0: 7}, {"readings": 3}, "fail")
    copies(stores).check_counts({PARTITION: 15}, {"readings": 5}, "reset")
    copies(stores).check_counts({PARTITION: 9}, {"readings": 5}, "fail")  # it begins without states
    with pytest.raises(
        WorkerError, match=r"the topic has 5 partitions and had 3 when .* set state\.on_partitions_change"
    ):
        copies(stores).check_counts({PARTITION: 15}, {"readings": 5}, "fail")


def test_a_damaged_one_is_left_out(tmp_path: Path) -> None:
    stores = open_store(str(tmp_path), "blue"), open_store(str(tmp_path), "green")
    save(stores[0], 10, 20)
    newest = Path(str(stores[0].candidates(PARTITION, None)[0]))
    newest.write_bytes(newest.read_bytes()[:-1])
    assert copies(stores).copy(PARTITION, 25).offset == 10
    assert found(stores[1]) == [10]


def test_states_are_read_by_the_names_in_the_file(tmp_path: Path) -> None:
    store = open_store(str(tmp_path), "blue")
    state: PartitionState = replace(SMALL)
    rows = len(state.keys)
    state.states = {
        ("a/b%2F", "."): np.arange(rows * 6, dtype=np.float64).reshape(rows, 2, 3),
        ("é\0 ", "h"): np.ones((rows, 0), np.float32),
    }
    identity = replace(IDENTITY, group_id="blue")
    for each in (state, replace(WRITING, next_offset=1234)):
        entry = store.publish(each, identity, created=CREATED)
        assert plain(store.read(entry, identity, None)) == plain(each)


def test_wrong_usage_is_told_before_anything_is_asked(command: Command, tmp_path: Path) -> None:
    file = written(tmp_path)
    same = command("handover", "--from", "blue", "--to", "blue", "-c", file)
    assert (same.status, "'blue' is the group that --from names" in same.err) == (2, True)
    wait = command("handover", "--from", "blue", "--to", "green", "--wait", "60", "-c", file)
    assert (wait.status, "'60' is not a duration (write 250ms, 30s, 10m or 24h)" in wait.err) == (2, True)
    gone = command("handover", "--from", "blue", "--to", "green", "-c", file)
    path = tmp_path / "good.keras"
    assert (gone.status, gone.err) == (1, f"worker: model {path}: can't be read (No such file or directory)\n")
    path.write_bytes(b"a model")
    named = command("handover", "--from", "blue", "--to", "green", "-c", written(tmp_path, model__sha256="0" * 64))
    assert named.status == 1
    assert named.err.endswith(f"model.sha256 says {'0' * 64}; it was not opened\n")
