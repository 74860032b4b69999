"""``python -m tests.trial``: breaks workers as operators see them broken, and measures from the fault to the alert.

Each group has its own worker, topics and scrape job, and one fault; all are struck at once, since most of the time is
the alerts' ``for``. With ``--divide 10`` the times of the rules are a tenth. The result is a file of JSON and a table.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import eventually
from tests.deploy.prometheus_package import program
from tests.deploy.prometheus_server import PrometheusServer
from tests.deploy.rules import RULES_FILE
from tests.running import WAIT_S
from tests.trial.faults import FAULTS, make_models
from tests.trial.group import Group
from tests.trial.watch import Watch, changed, greatest
from worker.kafka.embedded.broker import EmbeddedKafka
from worker.kafka.embedded.local_ports import free_port

SCRAPE_S, SETTLE_S, SETTLE_LEAST_S, ALERT_TIMEOUT_S, GONE_TIMEOUT_S = 15, 120, 30, 1_200, 780
WELL, PARTITIONS = "well", 100  # the group without a fault, whose series are counted


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.trial", description=__doc__)
    parser.add_argument("--only", action="append", choices=sorted(FAULTS), help="only this fault (may be repeated)")
    parser.add_argument(
        "--divide", type=int, default=1, help="the times of the rules, and the scrape interval, by this"
    )
    parser.add_argument("--folder", type=Path, help="a new folder that keeps logs and results")
    return parser.parse_args()


def hurried(rules: str, divide: int) -> str:
    """The rules with all ``for`` and windows divided."""
    seconds = {"s": 1, "m": 60, "h": 3600}
    pattern = r"(?<= for: )(\d+)([smh])$|(?<=\[)(\d+)([smh])(?=\])"

    def shorter(found: re.Match[str]) -> str:
        number, unit = found[1] or found[3], found[2] or found[4]
        return f"{max(1, int(number) * seconds[unit] // divide)}s"

    return re.sub(pattern, shorter, rules, flags=re.MULTILINE)


@contextmanager
def prometheus(folder: Path, groups: list[Group], divide: int) -> Iterator[PrometheusServer]:
    """One for all groups: a job for each, whose file of targets names its workers."""
    (folder / "rules.yaml").write_text(hurried(RULES_FILE.read_text(), divide))
    every = f"{max(1, SCRAPE_S // divide)}s"
    jobs = [
        {"job_name": f"rnn-stream-worker-{each.name}", "file_sd_configs": [{"files": [str(each.folder / "*.json")]}]}
        for each in groups
    ]
    settings = {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
        "rule_files": ["rules.yaml"],
        "scrape_configs": jobs,
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(settings))
    port = free_port()
    command = [
        str(program("prometheus")), f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with (folder / "prometheus.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield PrometheusServer(port)
        finally:
            process.terminate()


@contextmanager
def full_disk(group: Group) -> Iterator[None]:
    """A file system of a megabyte for the checkpoints; only root may mount one."""
    (group.folder / "state").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(group.folder / "state")], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(group.folder / "state")], check=True)


@contextmanager
def bucket(group: Group) -> Iterator[None]:
    """A bucket of a real server of S3 for the checkpoints."""
    port = free_port()
    account = {
        "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }  # fmt: skip
    group.folder.mkdir(parents=True)
    with (group.folder / "storage.log").open("wb") as log:
        command = [sys.executable, "-m", "moto.server", "-p", str(port)]
        with subprocess.Popen(command, stdout=log, stderr=log) as server:
            (group.folder / "storage.pid").write_text(str(server.pid))
            eventually(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
            make = "import boto3; boto3.client('s3').create_bucket(Bucket='states')"
            subprocess.run([sys.executable, "-c", make], env={**os.environ, **account}, check=True)
            group.environment, group.more = account, {"state": {"directory": "s3://states/checkpoints"}}
            try:
                yield
            finally:
                server.send_signal(signal.SIGCONT)
                server.terminate()


def make_groups(folder: Path, names: list[str], stack: ExitStack) -> list[Group]:
    """The groups, each with what its fault needs; the one whose broker is killed has a broker to itself."""
    shared = stack.enter_context(EmbeddedKafka(data=folder / "kafka"))
    groups = [Group(WELL, folder / WELL, shared, PARTITIONS, "confluent")]
    for name in names:
        group = Group(name, folder / name, shared, client="confluent" if name in ("hot", "bad") else "kafka-python")
        if name == "broker":
            group.broker = stack.enter_context(EmbeddedKafka(data=folder / "kafka-alone"))
        group.model = "changing.keras" if name == "model" else group.model
        if name in ("full", "slow"):
            stack.enter_context(full_disk(group) if name == "full" else bucket(group))
        groups.append(group)
    return groups


def tell(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stdout.flush()


def wait_for(condition: Any, timeout_s: float) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + timeout_s
    while not (done := bool(condition())) and time.monotonic() < deadline:
        time.sleep(1)
    return done


def trial(group: Group, watch: Watch, divide: int) -> dict[str, Any]:
    """One fault, from a group that is well to one that is well again."""
    fault, window = FAULTS[group.name], f"{max(4, 60 // divide)}s"
    before = greatest(watch.server, group.name, window)
    struck = time.time()
    fault.strike(group)
    tell(f"{group.name}: {fault.what.partition(';')[0]}")
    fired = wait_for(lambda: watch.firing(group.name) >= fault.awaited, ALERT_TIMEOUT_S)
    after = greatest(watch.server, group.name, window)
    ready, line = group.ready(), group.last_line()
    tell(f"{group.name}: fires {sorted(watch.firing(group.name))}; /readyz: {ready}")
    remedied = time.time()
    fault.remedy(group)
    gone = wait_for(lambda: not watch.firing(group.name) & fault.awaited, GONE_TIMEOUT_S)
    tell(f"{group.name}: {'well again' if gone else 'still fires'}")
    alerts = {
        name: {
            state: round(at - (remedied if state == "gone" and at > remedied else struck), 1)
            for state, at in states.items() if at >= struck
        }
        for name, states in watch.of(group.name).items()
    }  # fmt: skip
    return {
        "fault": fault.what, "alerts": alerts, "fired": fired, "gone": gone, "ready": ready, "log": line,
        "remedy after s": round(remedied - struck), "panels": changed(before, after),
        "texts": {name: text for (job, name), text in watch.texts.items() if job == group.name},
    }  # fmt: skip


def targets(groups: list[Group]) -> None:
    """Tell Prometheus of a second worker only when there is one."""
    for group in groups:
        known = [f"127.0.0.1:{port}" for port in group.ports[: max(1, len(group.workers))]]
        file = group.folder / "targets.json"
        if not file.exists() or json.loads(file.read_text()) != [{"targets": known}]:
            file.write_text(json.dumps([{"targets": known}]))


def run(folder: Path, names: list[str], divide: int) -> dict[str, Any]:
    """All faults at once; the results by name."""
    results: dict[str, Any] = {}
    with ExitStack() as stack:
        groups = make_groups(folder, names, stack)
        make_models(folder)
        for group in groups:
            group.prepare()
            group.start()
            stack.callback(group.close)
            group.feed()
        targets(groups)
        server = stack.enter_context(prometheus(folder, groups, divide))
        watch = Watch(server)
        watch.start()
        stack.callback(watch.close)
        ready = wait_for(lambda: all(each.ready() == "ready" for each in groups), WAIT_S)
        tell(f"ready: {ready}; settling")
        time.sleep(max(SETTLE_LEAST_S, SETTLE_S // divide))

        def one(group: Group) -> None:
            results[group.name] = trial(group, watch, divide)
            (folder / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False))

        threads = [threading.Thread(target=one, args=(each,), daemon=True) for each in groups if each.name != WELL]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            targets(groups)
            time.sleep(1)
        job = f'{{job="rnn-stream-worker-{WELL}"}}'
        results[WELL] = {
            "alerts": watch.of(WELL), "all": watch.of(""),
            "series": server.values(f"max_over_time(scrape_samples_scraped{job}[1h])"),
            "scrape s": server.values(f"max_over_time(scrape_duration_seconds{job}[1h])"),
        }  # fmt: skip
        (folder / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False))
    return results


def main() -> int:
    """0 when every alert came and went."""
    chosen = arguments()
    folder: Path = chosen.folder or Path(tempfile.mkdtemp(prefix="trial-"))
    folder.mkdir(parents=True, exist_ok=True)
    results = run(folder.resolve(), chosen.only or sorted(FAULTS), chosen.divide)
    tell(f"results: {folder / 'results.json'}")
    return int(not all(each.get("fired", True) and each.get("gone", True) for each in results.values()))


if __name__ == "__main__":
    sys.exit(main())
