"""Fixtures that several files share."""

from __future__ import annotations

import contextlib
import os
import subprocess

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


@pytest.fixture
def small_disk(tmp_path):
    """An empty folder with room for 512 kB."""
    folder = tmp_path / "in"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)
