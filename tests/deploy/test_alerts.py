"""The alert rules: each fires on what it is for, stays silent on what only looks like it, and leads to the runbook."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.alert_cases import FAMILIES, Case
from tests.deploy.prometheus_package import NoPrometheusError, can_fetch, program
from tests.deploy.rules import FOREIGN, RULES_FILE, alerts, names_in, rules, scraped_names
from tests.house.test_links import anchors
from worker.web.status import WorkerStatus

RUNBOOK = RULES_FILE.parents[2] / "docs" / "runbook.md"
SEVERITIES = {"critical", "warning", "info"}
PROMTOOL_TIMEOUT_S = 120
SUMMARY_CHARACTERS = 140


@pytest.fixture(scope="module")
def promtool() -> Path:
    try:
        return program("promtool")
    except NoPrometheusError as error:
        if can_fetch():
            raise
        pytest.skip(str(error))


def says(case: Case) -> dict[str, Any]:
    """The alert as it arrives: its labels and its three annotations."""
    rule = alerts()[case.alert]
    return {
        "exp_labels": {**case.labels, **rule["labels"]},
        "exp_annotations": {**rule["annotations"], "summary": case.summary},
    }


def unit_test(case: Case, fires: bool) -> dict[str, Any]:
    series = case.series if fires else {**case.series, **case.silent}
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items() if values],
        "alert_rule_test": [
            {"eval_time": case.at, "alertname": case.alert, "exp_alerts": [says(case)] if fires else []}
        ],
    }


def run_tests(promtool: Path, folder: Path, tests: list[dict[str, Any]]) -> subprocess.CompletedProcess[str]:
    file = folder / "tests.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES_FILE)], "evaluation_interval": "1m", "tests": tests}))
    command = [str(promtool), "test", "rules", str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PROMTOOL_TIMEOUT_S, check=False)


def test_promtool_takes_the_rules(promtool: Path) -> None:
    command = [str(promtool), "check", "rules", "--lint-fatal", str(RULES_FILE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PROMTOOL_TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_configuration_of_the_page(promtool: Path, tmp_path: Path) -> None:
    (shown,) = re.findall(
        r"```yaml\n(# prometheus.yaml\n.*?)```", (RUNBOOK.parent / "operations.md").read_text(), re.DOTALL
    )
    (tmp_path / "prometheus.yaml").write_text(shown)
    (tmp_path / RULES_FILE.name).write_text(RULES_FILE.read_text())
    command = [str(promtool), "check", "config", str(tmp_path / "prometheus.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PROMTOOL_TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 rule files found" in done.stdout


@pytest.mark.parametrize("group", FAMILIES)
def test_alerts_fire_and_stay_silent(group: str, promtool: Path, tmp_path: Path) -> None:
    done = run_tests(
        promtool, tmp_path, [unit_test(case, fires) for case in FAMILIES[group] for fires in (True, False)]
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wrong_expectation_is_found(promtool: Path, tmp_path: Path) -> None:
    wrong = replace(FAMILIES["health"][0], summary="something else")
    assert run_tests(promtool, tmp_path, [unit_test(wrong, True)]).returncode != 0
    assert (
        run_tests(promtool, tmp_path, [{**unit_test(FAMILIES["health"][0], False), "input_series": []}]).returncode != 0
    )


def test_every_alert_has_a_case() -> None:
    assert {case.alert for cases in FAMILIES.values() for case in cases} == set(alerts())


def test_every_alert_says_how_bad_it_is_what_is_wrong_and_where_to_read_on() -> None:
    found = anchors(RUNBOOK)
    for name, rule in alerts().items():
        assert rule["labels"]["severity"] in SEVERITIES, name
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}, name
        summary, description = rule["annotations"]["summary"], rule["annotations"]["description"]
        assert not summary.endswith("."), name
        assert description.endswith("."), name
        assert len(re.sub(r"\{\{.*?\}\}", "x" * 12, summary)) <= SUMMARY_CHARACTERS, name
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert page == "https://example.com/rnn-stream-worker/docs/runbook.md", name
        assert anchor == name.lower(), name
        assert anchor in found, name


def test_every_metric_of_the_rules_is_there() -> None:
    known = scraped_names() | FOREIGN | {rule["record"] for rule in rules() if "record" in rule}
    wrong = {name for rule in rules() for name in names_in(rule["expr"]) - known}
    assert wrong == set()


def test_names_are_found_in_expressions() -> None:
    asked = 'sum(rate(a_total{x="b"}[5m])) / on (job) c > 2 * quantile(0.5, d) unless max_over_time(e[1h:1m])'
    assert names_in(asked) == {"a_total", "c", "d", "e"}
    with pytest.raises(ValueError, match="parenthesis"):
        names_in("sum(rate(a_total[5m])")


def entries() -> dict[str, str]:
    """Alert, or name of a line of /readyz → what the runbook says of it."""
    parts = re.split(r"^### (.+)$", RUNBOOK.read_text(), flags=re.MULTILINE)[1:]
    return {
        name: re.split(r"^## ", text, flags=re.MULTILINE)[0] for name, text in zip(parts[::2], parts[1::2], strict=True)
    }


def lines_of_readyz() -> set[str]:
    """The names that the code gives to what is missing."""
    code = [file.read_text() for file in (RULES_FILE.parents[2] / "worker").rglob("*.py")]
    at_the_start = {line.partition(":")[0] for line in WorkerStatus(lambda: 0.0).missing()}
    return at_the_start.union(*(re.findall(r"\bstatus\.set\(\s*\"(\w+)\"", text) for text in code))


def test_the_runbook_has_an_entry_for_every_alert_and_every_line_of_readyz() -> None:
    assert set(entries()) == set(alerts()) | lines_of_readyz()


def test_an_entry_says_how_to_see_it_what_to_do_and_what_not_to_do() -> None:
    known = scraped_names() | FOREIGN
    for name, text in entries().items():
        query = re.search(r"^- See: `(.+)`$", text, re.MULTILINE)
        assert query, name
        assert names_in(query[1]) <= known, name
        assert re.search(r"^- Do: ", text, re.MULTILINE), name
        assert re.search(r"^- Don't ", text, re.MULTILINE), name
