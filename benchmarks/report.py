"""The suite's results, as tables in docs/performance.md and pictures beside it.

    python -m benchmarks.report                       benchmarks/results → docs/performance.md, docs/pictures
    python -m benchmarks.report --compare OLD NEW     two folders of results side by side

Rule: figures come from benchmarks/results only; between the markers of a group nothing is written by hand.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.asked import asked_table
from benchmarks.flame import boxes, parse
from benchmarks.latency_picture import ranges
from benchmarks.pictures import bars, icicle
from benchmarks.tables import (
    comparison,
    conditions,
    flame_table,
    group_table,
    latencies,
    latency_table,
    machine,
    rows_of,
)

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"
MADE_BY = "made by benchmarks/report.py"
GROUPS = {
    "clients": "throughput of both clients beside their null pipelines",
    "cores": "throughput on all cores, shared with the broker",
    "streams": "throughput by the number of streams",
    "keys": "throughput by how events fall on streams",
    "models": "throughput by the size of the model",
    "peers": "throughput compared with the alternatives",
}


WIDE = ("models", "peers")  # their ratios reach over more than one order of magnitude


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    options.add_argument("--docs", type=Path, default=PAGE, metavar="FILE")
    options.add_argument("--compare", type=Path, nargs=2, metavar=("OLD", "NEW"))
    given = options.parse_args()
    if given.compare:
        print(compare(*given.compare))
    else:
        report(given.results, given.docs)


def report(results: Path, page: Path) -> None:
    """Write the available results into ``page``, and pictures beside it. Exits with one line if a marker is missing."""
    pictures = page.parent / "pictures"
    pictures.mkdir(exist_ok=True)
    text = page.read_text()
    sections: dict[str, Callable[[Path, Path], str]] = {
        **dict.fromkeys(GROUPS, _group), "latency": _latency, "flame": _flame
    }  # fmt: skip
    found = {name: make for name, make in sections.items() if (results / f"{name}.json").exists()}
    for name in found:
        text = between(text, name, "", page)  # before anything is written
    for name, make in found.items():
        text = between(text, name, make(results / f"{name}.json", pictures / f"{name}.svg"), page)
    if found:
        every = {name: _read(results / f"{name}.json") for name in found}
        text = between(text, "asked", asked_table(every), page)
    page.write_text(text)
    print(f"{page}: {', '.join(found) or 'no results'}")


def between(text: str, name: str, made: str, page: Path) -> str:
    """``text`` with ``made`` between the markers of this name."""
    begin, end = f"<!-- {name}: {MADE_BY} -->", f"<!-- /{name} -->"
    for marker in (begin, end):
        if text.count(marker) != 1:
            raise SystemExit(f"{page.name}: the marker {marker} is there {text.count(marker)} times, not once")
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n\n{made}\n\n{end}{after}"


def _group(file: Path, picture: Path) -> str:
    figures = _read(file)
    bars(rows_of(figures), picture, log=file.stem in WIDE)
    below = conditions(figures["machine"], figures["rounds"])
    return _section(group_table(file.stem, figures), below, GROUPS[file.stem], picture)


def _latency(file: Path, picture: Path) -> str:
    results: Sequence[Mapping[str, Any]] = _read(file)
    found = latencies(results)
    ranges(found, picture)
    rounds = max(len(values) for one in found for at in one.ms.values() for values in at.values())
    below = conditions(results[0]["machine"], rounds)
    return _section(latency_table(found), below, "latency by rate, client and delivery", picture)


def _flame(file: Path, picture: Path) -> str:
    figures = _read(file)
    shares = {stage: each["share"] for stage, each in figures["stages"].items()}
    icicle(boxes(parse(file.with_suffix(".raw").read_text())), shares, picture)
    below = (
        f"{machine(figures['machine'])}; {figures['samples']:,} samples in {figures['seconds']:g} s, while "
        f"{figures['events_per_s']:,.0f} events/s went through."
    )
    return _section(flame_table(figures), below, "where the loop's time goes, function by function", picture)


def _section(table: str, below: str, about: str, picture: Path) -> str:
    return f"{table}\n\n{below}\n\n![{about[0].upper()}{about[1:]}]({picture.parent.name}/{picture.name})"


def compare(old: Path, new: Path) -> str:
    """Events/s of every group that both folders have."""
    both = [f"{name}.json" for name in GROUPS if (old / f"{name}.json").exists() and (new / f"{name}.json").exists()]
    return "\n\n".join(comparison(Path(name).stem, _read(old / name), _read(new / name)) for name in both)


def _read(file: Path) -> Any:
    return json.loads(file.read_text())


if __name__ == "__main__":
    main()
