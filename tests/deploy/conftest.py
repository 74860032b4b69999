"""Helm and kubectl for these tests: a machine that can't have them skips what needs them, CI does not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.deploy.kubernetes_tools import HELMS, KUBECTL, Tools, ToolsMissingError
from tests.deploy.kubernetes_tools import tools as fetched


@pytest.fixture(scope="session")
def tools() -> Tools:
    """The programs, fetched where the cache has none."""
    try:
        return fetched()
    except ToolsMissingError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no Helm and no kubectl: {error}")


@pytest.fixture(scope="session")
def kubectl(tools: Tools) -> Path:
    """It has kustomize inside; no cluster is asked."""
    return tools.path(KUBECTL)


@pytest.fixture(scope="session", params=HELMS)
def helm(request: pytest.FixtureRequest, tools: Tools) -> Path:
    """Helm 3 and Helm 4."""
    return tools.path(request.param)
