"""``worker kafka up`` and ``down`` as a user types them: what they print, how they end, whom they end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from kafka.admin import KafkaAdminClient

from worker.kafka.embedded.local_ports import free_port

COMMAND = [sys.executable, "-m", "worker.commands.kafka.command"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.broker
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_up_runs_until_a_signal_and_ends_in_order(environment: dict[str, str], tmp_path: Path, number: int) -> None:
    port = str(free_port())
    arguments = ["up", "--port", port, "--data", str(tmp_path / "data"), "--topic", "a:3", "--topic", "b"]
    process = subprocess.Popen([*COMMAND, *arguments], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(f"Kafka is ready: 127.0.0.1:{port} (data in {tmp_path / 'data'};")
        with KafkaAdminClient(bootstrap_servers=f"127.0.0.1:{port}") as admin:
            topics = {topic["name"]: len(topic["partitions"]) for topic in admin.describe_topics(["a", "b"])}
        assert topics == {"a": 3, "b": 1}
        again = run(environment, "up", "--port", port)
        assert (again.returncode, again.stdout) == (1, "")
        assert (
            again.stderr
            == f"`worker kafka up` runs on port {port} already: `worker kafka down --port {port}` ends it\n"
        )
        process.send_signal(number)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()
    assert (tmp_path / "data" / "log" / "meta.properties").is_file()
    assert (tmp_path / "data" / "log" / ".kafka_cleanshutdown").is_file()


@pytest.mark.broker
def test_detach_leaves_a_broker_that_down_ends(environment: dict[str, str]) -> None:
    port = str(free_port())
    up = run(environment, "up", "--port", port, "--detach")
    try:
        assert (up.returncode, up.stderr) == (0, "")
        assert up.stdout == f"Kafka is ready: 127.0.0.1:{port}; `worker kafka down --port {port}` ends it\n"
        with KafkaAdminClient(bootstrap_servers=f"127.0.0.1:{port}") as admin:
            assert admin.list_topics() == []
    finally:
        down = run(environment, "down", "--port", port)
    assert (down.returncode, down.stdout) == (0, f"Kafka on 127.0.0.1:{port} ended\n")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(port)))
    second = run(environment, "down", "--port", port)
    assert (second.returncode, second.stderr) == (1, f"no broker of `worker kafka up` runs on port {port}\n")


def test_down_never_ends_a_process_that_it_did_not_start(environment: dict[str, str], tmp_path: Path) -> None:
    state = tmp_path / "state" / "rnn-stream-worker" / "kafka-9092.json"
    state.parent.mkdir(parents=True)
    stranger = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        state.write_text(
            json.dumps({"pid": stranger.pid, "ready": True})
        )  # left by a broker whose process id it now has
        down = run(environment, "down")
        assert (down.returncode, down.stderr) == (1, "no broker of `worker kafka up` runs on port 9092\n")
        assert not state.exists()
        assert stranger.poll() is None
    finally:
        stranger.communicate()
    assert stranger.returncode == 0


@pytest.mark.parametrize("detach", [[], ["--detach"]])
def test_a_taken_port_is_one_clear_line(environment: dict[str, str], detach: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        up = run(environment, "up", "--port", str(port), *detach)
    assert (up.returncode, up.stdout) == (1, "")
    assert up.stderr == f"port {port} of 127.0.0.1 is taken: name another one, or stop what listens there\n"


@pytest.mark.parametrize("topic", ["readings:", "readings:0", ":4", "readings:many"])
def test_a_topic_that_is_not_one_is_wrong_usage(environment: dict[str, str], topic: str) -> None:
    up = run(environment, "up", "--topic", topic)
    assert up.returncode == 2
    assert f"'{topic}' is not NAME:PARTITIONS" in up.stderr


@pytest.mark.parametrize("arguments", [[], ["up"], ["down"]])
def test_every_command_shows_an_example(environment: dict[str, str], arguments: list[str]) -> None:
    shown = run(environment, *arguments, "--help")
    assert shown.returncode == 0
    assert f"  worker kafka {arguments[0] if arguments else 'up'}" in shown.stdout


def test_the_commands_are_cheap_to_import() -> None:
    heavy = "{'kafka', 'jgo', 'worker.kafka.embedded.broker'}"
    code = f"import sys, worker.commands.kafka.command; print([name for name in sys.modules if name in {heavy}])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
