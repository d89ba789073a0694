"""Fixtures that several files share."""

from __future__ import annotations

import contextlib

import pytest
from local_server import serve
from made_up_items import Item


@pytest.fixture
def no_credentials(monkeypatch, tmp_path):
    """Neither the environment nor the home folder has any."""
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR", "ATLAS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def item(tmp_path, no_credentials):
    """Makes an item of the source table that is served by a local server."""
    with contextlib.ExitStack() as stack:

        def make(name: str, files: dict[str, bytes], *modalities: str) -> Item:
            made = Item(tmp_path, name, dict(files), *modalities)
            stack.enter_context(serve(made.server))
            return made

        yield make
