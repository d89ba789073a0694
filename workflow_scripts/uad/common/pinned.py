"""Hashes of downloaded files: `fetched.json` beside them, which the downloads write (`uad.download.record`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from uad.common.errors import InputError

NAME = "fetched.json"


def fetched_entries(folder: str | Path) -> dict[str, Any]:
    """File name -> its record; empty if nothing was downloaded.

    Raises:
        InputError: the record is damaged.
    """
    path = Path(folder) / NAME
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InputError(f"{path}: is damaged; remove it, then the files are checked again") from error


def pinned_sha256(path: str | Path, folder: str | Path) -> str | None:
    """SHA-256 that a downloaded file below `folder` had on first use; None: not recorded."""
    entry: Mapping[str, Any] = fetched_entries(folder).get(Path(path).relative_to(folder).as_posix(), {})
    return entry["digest"] if entry.get("algorithm") == "sha256" else None
