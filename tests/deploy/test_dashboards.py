"""The dashboard: as its script writes it, complete, and made of queries that parse and ask for what there is."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from deploy.grafana.generate import FILE, PAGES, text
from tests.deploy.rules import FOREIGN, names_in, rules, scraped_names, selectors
from tests.deploy.test_alerts import RUNBOOK
from tests.house.test_links import anchors
from worker.web.catalogue import CATALOGUE, PROCESS_METRICS

ROWS = (
    "Health", "Lateness", "Throughput", "The model", "A second model beside it", "Sequences",
    "Checkpoints and recovery", "Group", "Client", "Resources",
)  # fmt: skip
VARIABLES = ("datasource", "namespace", "group", "topic", "pod", "runbook")
WINDOW = "1m"
GRID_COLUMNS = 24
LARGEST_BYTES = 900_000  # a ConfigMap holds 1 MiB


@pytest.fixture(scope="module")
def drawn() -> dict[str, Any]:
    return dict(json.loads(FILE.read_text()))


def panels(drawn: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in drawn["panels"] if panel["type"] != "row"]


def queries(drawn: dict[str, Any]) -> list[tuple[str, str]]:
    """(panel's title, PromQL) of every query, with the window that Grafana would choose."""
    return [
        (panel["title"], target["expr"].replace("$__rate_interval", WINDOW))
        for panel in panels(drawn)
        for target in panel["targets"]
    ]


def test_the_file_is_what_its_script_writes() -> None:
    assert FILE.read_text() == text(), "run python -m deploy.grafana.generate"
    assert len(text()) < LARGEST_BYTES


def test_it_can_be_imported_anywhere(drawn: dict[str, Any]) -> None:
    assert drawn["id"] is None
    assert drawn["uid"] == "rnn-stream-worker"
    assert [row["title"] for row in drawn["panels"] if row["type"] == "row"] == list(ROWS)
    chosen = {variable["name"]: variable for variable in drawn["templating"]["list"]}
    assert tuple(chosen) == VARIABLES
    for name in ("namespace", "group", "topic", "pod"):
        assert (chosen[name]["includeAll"], chosen[name]["allValue"]) == (True, ".*"), name
        asked = re.fullmatch(r"label_values\((.+), (\w+)\)", chosen[name]["query"])
        assert asked, name
        assert asked[2] == name
        assert names_in(asked[1]) <= scraped_names()
    sources = {json.dumps(each["datasource"]) for panel in panels(drawn) for each in (panel, *panel["targets"])}
    assert sources == {'{"type": "prometheus", "uid": "${datasource}"}'}


def test_panels_have_places_of_their_own(drawn: dict[str, Any]) -> None:
    numbers = [panel["id"] for panel in drawn["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken: set[tuple[int, int]] = set()
    for panel in drawn["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= GRID_COLUMNS, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells


def test_panels_have_a_unit_a_sentence_and_an_entry_of_the_runbook(drawn: dict[str, Any]) -> None:
    found = anchors(RUNBOOK)
    for panel in panels(drawn):
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        (link,) = panel["links"]
        page, _, anchor = link["url"].partition("#")
        assert page == "${runbook:raw}", panel["title"]
        assert not anchor or anchor in found, panel["title"]
    assert all(rule["annotations"]["runbook_url"].startswith(f"{PAGES}#") for rule in rules() if "alert" in rule)


def test_every_query_parses_and_every_metric_is_there(drawn: dict[str, Any]) -> None:
    known = scraped_names() | FOREIGN
    wrong = [(title, names_in(query) - known) for title, query in queries(drawn) if names_in(query) - known]
    assert wrong == []


def test_every_query_is_limited_by_what_is_chosen(drawn: dict[str, Any]) -> None:
    """A label that a metric does not have would hide it: topics are asked for only where there is one."""
    labels = {metric.full_name: metric.labels for metric in CATALOGUE}
    for title, query in queries(drawn):
        for selector in selectors(query):
            matched = {matcher.name for matcher in selector.matchers.matchers}
            if selector.name in ("ALERTS", *PROCESS_METRICS) or matched == {"group"}:
                continue
            if selector.name == "rnnw_checkpoint_offset" and not matched:  # beside one that is limited
                continue
            assert {"namespace", "pod"} <= matched, (title, selector.name)
            assert matched - {"namespace", "pod"} <= set(labels.get(str(selector.name), ())) | {"kind"}, (
                title,
                matched,
            )
        assert "rnnw_build_info{group!~" in query or "ALERTS" in query, title


def test_every_metric_is_shown_or_watched(drawn: dict[str, Any]) -> None:
    asked = {name for _, query in queries(drawn) for name in names_in(query)}
    asked |= {name for rule in rules() for name in names_in(rule["expr"])}
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked}
    assert {metric.full_name for metric in CATALOGUE} - shown == set()
