"""``worker demo`` as a user runs it: real Kafka, the real worker, real measurements."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from kafka.admin import KafkaAdminClient

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
