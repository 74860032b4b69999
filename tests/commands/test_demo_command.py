"""``worker demo`` as a user runs it: real Kafka, the real worker, real measurements."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient

from worker.commands.demo.stage import PARTITIONS

COMMAND = [sys.executable, "-m", "worker", "demo"]
TIMEOUT_S = 300


def with_temporary(folder: Path) -> dict[str, str]:
    """The environment with a folder for temporary files of this test alone, so that leftovers can be seen."""
    return {**os.environ, "TMPDIR": str(folder)}


def demo_topics(bootstrap_servers: str) -> list[str]:
    with KafkaAdminClient(bootstrap_servers=bootstrap_servers) as admin:
        return [topic for topic in admin.list_topics() if re.match(r"demo-[0-9a-f]{8}-", topic)]


def test_the_help_has_an_example_and_imports_nothing_heavy() -> None:
    script = (
        "import sys; from click.testing import CliRunner; from worker.commands.demo.command import demo; "
        "print(CliRunner().invoke(demo, ['--help']).output); "
        "heavy = {'tensorflow', 'keras', 'kafka', 'confluent_kafka', 'h5py', 'rich', 'numpy'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "worker demo --events 20000 --speed 10" in done.stdout


@pytest.mark.parametrize("wrong", [["--events", "0"], ["--watches", "0"], ["--speed", "0"], ["--events", "many"]])
def test_wrong_usage_is_status_2(wrong: list[str]) -> None:
    done = subprocess.run([*COMMAND, *wrong], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_it_stops_by_itself_with_exactly_one_output_per_event(bootstrap_servers: str, tmp_path: Path) -> None:
    command = [*COMMAND, "--bootstrap-servers", bootstrap_servers, "--events", "1000", "--speed", "10"]
    environment = with_temporary(tmp_path)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1,000 events, 1,000 outputs: exactly one output per event, in order" in done.stdout
    assert "right at the last step: 8 of 8 (100.0 %)" in done.stdout
    assert demo_topics(bootstrap_servers) == []
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_in_order_with_a_summary(bootstrap_servers: str, tmp_path: Path) -> None:
    command = [*COMMAND, "--bootstrap-servers", bootstrap_servers, "--events", "1000000"]
    pipe, environment = subprocess.PIPE, with_temporary(tmp_path)
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if re.search("answered [1-9]", line):
                os.kill(process.pid, signal.SIGINT)
                break
        out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, out + err
    assert "exactly one output per event, in order" in out
    assert demo_topics(bootstrap_servers) == []
    assert list(tmp_path.iterdir()) == []


def test_play_needs_a_cluster_and_plays_watches_only() -> None:
    for wrong in (["--play", "readings"], ["--play", "readings", "--bootstrap-servers", "h:1", "--task", "generate"]):
        done = subprocess.run([*COMMAND, *wrong], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "--play: needs --bootstrap-servers, and plays watches only" in done.stderr


def test_play_only_writes_readings_and_leaves_the_topic(bootstrap_servers: str, tmp_path: Path) -> None:
    command = [*COMMAND, "--play", "played-readings", "--bootstrap-servers", bootstrap_servers, "--events", "300"]
    for _ in range(2):  # the topic is there the second time
        done = subprocess.run(
            [*command, "--speed", "50"], capture_output=True, text=True, check=False, timeout=TIMEOUT_S,
            env=with_temporary(tmp_path),
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert "300 readings of 2 watches written to played-readings" in done.stdout
    with KafkaConsumer(bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest") as consumer:
        parts = [TopicPartition("played-readings", number) for number in range(PARTITIONS)]
        assert consumer.partitions_for_topic("played-readings") == set(range(PARTITIONS))
        assert sum(consumer.end_offsets(parts).values()) == 600
    assert demo_topics(bootstrap_servers) == []
    assert list(tmp_path.iterdir()) == []


def test_play_at_real_time_writes_the_time_of_day_until_it_is_told_to_stop(bootstrap_servers: str) -> None:
    began_ms = int(time.time() * 1000)
    command = [*COMMAND, "--play", "live-readings", "--bootstrap-servers", bootstrap_servers, "--speed", "1"]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process,
        KafkaConsumer("live-readings", bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest") as consumer,
    ):
        try:
            times_ms = [record.timestamp for record in itertools.islice(consumer, 40)]
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == 0
    assert began_ms <= min(times_ms)
    assert max(times_ms) <= time.time() * 1000 + 1000
