"""The version stands in one place, and which Pythons are meant is the same wherever it is said."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from setuptools.config.expand import read_attr

import worker

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_version_is_read_from_the_package() -> None:
    assert "version" not in PYPROJECT["project"]
    assert PYPROJECT["project"]["dynamic"] == ["version"]
    attribute = PYPROJECT["tool"]["setuptools"]["dynamic"]["version"]["attr"]
    assert read_attr(attribute, root_dir=ROOT) == worker.__version__


def test_the_changelog_and_what_is_deployed_follow_it() -> None:
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    assert newest[1] == worker.__version__
    named = re.compile(r"(?:rnn-stream-worker:|/version: \"?|VERSION=)(\d[\w.]*)")
    wrong = [
        f"{file.relative_to(ROOT)}: {version}"
        for file in sorted((ROOT / "deploy").rglob("*"))
        if file.is_file() and "__pycache__" not in file.parts
        for version in named.findall(file.read_text())
        if version != worker.__version__
    ]
    assert wrong == []


def test_the_same_pythons_everywhere() -> None:
    bounds = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PYPROJECT["project"]["requires-python"])
    assert bounds
    first, after = int(bounds[1]), int(bounds[2])
    makefile, readme = (ROOT / "Makefile").read_text(), " ".join((ROOT / "README.md").read_text().split())
    assert f"(3, {first}) <= sys.version_info < (3, {after})" in makefile
    assert [int(minor) for minor in re.findall(r"python3\.(\d+)", makefile)] == [*reversed(range(first, after))]
    for text in (makefile, readme):
        assert f"Python 3.{first} to 3.{after - 1}" in text
    assert PYPROJECT["tool"]["mypy"]["python_version"] == f"3.{first}"
    assert PYPROJECT["tool"]["ruff"]["target-version"] == f"py3{first}"
