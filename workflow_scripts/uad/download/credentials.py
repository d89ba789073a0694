"""Credentials: from the environment or the tools' own files, sent only to their own hosts, never printed.

They are headers and environment variables, never arguments, so no process list or provenance file shows them.
"""

from __future__ import annotations

import base64
import json
import os
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from uad.common.errors import InputError

if TYPE_CHECKING:  # the start banner asks which credentials there are, and requests takes a while to import
    from requests import PreparedRequest


@dataclass(frozen=True)
class Credential:
    """An Authorization header for some hosts; requests drops it when a redirect leads to another host."""

    hosts: tuple[str, ...]
    header: str = field(repr=False)

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        if urllib.parse.urlsplit(request.url or "").hostname in self.hosts:
            request.headers["Authorization"] = self.header
        return request


def kaggle() -> Credential | None:
    """Kaggle's user and key from KAGGLE_USERNAME and KAGGLE_KEY, else from its `kaggle.json`; None: there is none.

    Raises:
        InputError: the file cannot be read or lacks a key; its content is not shown.
    """
    user, key = os.environ.get("KAGGLE_USERNAME"), os.environ.get("KAGGLE_KEY")
    if not (user and key):
        folder = os.environ.get("KAGGLE_CONFIG_DIR") or Path.home() / ".kaggle"
        file = Path(folder) / "kaggle.json"
        if not file.exists():
            return None
        try:
            content = json.loads(file.read_text())
            user, key = content["username"], content["key"]
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(f"{file}: has no username and key; get a new one from kaggle.com") from None
    header = base64.b64encode(f"{user.strip()}:{key.strip()}".encode()).decode()
    return Credential(("www.kaggle.com", "kaggle.com"), f"Basic {header}")


def secret(variable: str) -> str:
    """The value of an environment variable without surrounding blanks; empty where it is not set."""
    return os.environ.get(variable, "").strip()


FINDERS = {"kaggle": kaggle}
