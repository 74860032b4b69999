"""Writes the dashboard: ``python -m deploy.grafana.generate`` after a change of the panels.

The classic model of Grafana's dashboards, which every version since 9 imports.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.builders import common as options
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueGraphMode, LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import (
    Dashboard,
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from deploy.grafana.more_panels import ROWS
from deploy.grafana.panels import Panel

FILE = Path(__file__).with_name("rnn-stream-worker.json")
UID = "rnn-stream-worker"
SCHEMA_VERSION = 39
HEIGHT, STAT_HEIGHT = 7, 4
PAGES = "https://example.com/rnn-stream-worker/docs/runbook.md"
SOURCE = DataSourceRef("prometheus", "${datasource}")
# Variable → the query for its values. Each may be all of them, or any text: a label that is missing is one, too.
CHOICES = {
    "namespace": "label_values(rnnw_worker_state, namespace)",
    "group": 'label_values(rnnw_build_info{namespace=~"$namespace"}, group)',
    "topic": 'label_values(rnnw_partition_position_offset{namespace=~"$namespace"}, topic)',
    "pod": 'label_values(rnnw_worker_state{namespace=~"$namespace"}, pod)',
}


def dashboard() -> Dashboard:
    """All rows; positions follow from the panels' widths."""
    whole = (
        build.Dashboard("rnn-stream-worker").uid(UID).tags(["kafka", "keras", "rnn-stream-worker"]).editable()
        .time("now-1h", "now").refresh("30s").timezone("browser").tooltip(DashboardCursorSync.CROSSHAIR)
        .link(build.DashboardLink("runbook").type(DashboardLinkType.LINK).url("${runbook:raw}").target_blank(True))
    )  # fmt: skip
    whole.with_variable(build.DatasourceVariable("datasource").label("data source").type("prometheus"))
    for name, query in CHOICES.items():
        whole.with_variable(_choice(name, query))
    whole.with_variable(
        build.TextBoxVariable("runbook")
        .label("runbook")
        .default_value(PAGES)
        .current(VariableOption(text=PAGES, value=PAGES))
    )
    number = 0
    for title, panels in ROWS.items():
        whole.with_row(build.Row(title).id(number := number + 1))
        for panel in panels:
            whole.with_panel(_drawn(panel).id(number := number + 1))
    built = whole.build()
    built.schema_version = SCHEMA_VERSION
    return built


def _choice(name: str, query: str) -> build.QueryVariable:
    everything = VariableOption(text=["All"], value=["$__all"])
    return (
        build.QueryVariable(name).datasource(SOURCE).query(query).refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC).multi(True).include_all(True).all_value(".*").current(everything)
    )  # fmt: skip


def _drawn(panel: Panel) -> stat.Panel | table.Panel | timeseries.Panel:
    drawn: stat.Panel | table.Panel | timeseries.Panel
    if panel.kind == "stat":
        drawn = stat.Panel().graph_mode(BigValueGraphMode.NONE).height(STAT_HEIGHT)
        drawn.reduce_options(options.ReduceDataOptions().calcs(["lastNotNull"]))
    elif panel.kind == "table":
        drawn = table.Panel().height(HEIGHT)
    else:
        legend = options.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
        drawn = timeseries.Panel().height(HEIGHT).fill_opacity(8).axis_soft_min(0)
        drawn.legend(legend.show_legend(True))
    drawn.title(panel.title).description(panel.help).unit(panel.unit).datasource(SOURCE).span(panel.width)
    anchor = "" if panel.runbook == "runbook" else f"#{panel.runbook}"
    drawn.links(
        [build.DashboardLink("runbook").type(DashboardLinkType.LINK).url("${runbook:raw}" + anchor).target_blank(True)]
    )
    for name, (expression, legend_format) in zip("ABCDEFGHIJ", panel.queries, strict=False):
        drawn.with_target(_query(name, expression, legend_format, panel.kind))
    return drawn


def _query(name: str, expression: str, legend: str, kind: str) -> prometheus.Dataquery:
    query = prometheus.Dataquery().ref_id(name).expr(expression).legend_format(legend or "__auto").datasource(SOURCE)
    if kind == "table":
        return query.instant().format(PromQueryFormat.TABLE)
    return query.instant() if kind == "stat" else query.range()


def text() -> str:
    """The file: keys in order, so that two versions can be compared line by line."""
    plain = json.loads(json.dumps(dashboard(), cls=JSONEncoder))
    return json.dumps({"id": None, **plain}, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
    sys.stdout.write(f"{FILE.name}: {len(ROWS)} rows, {sum(map(len, ROWS.values()))} panels\n")
