"""Fetch the SRI24 atlas: one zip archive, checked against its hash before a member is taken out."""

from __future__ import annotations

import shutil
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

from uad.errors import InputError
from uad.files import atomic_path, sha256_of

_CHUNK = 1 << 20


def fetch_atlas(url: str, sha256: str, member: str, target: Path, progress: Callable[[str], None]) -> None:
    """Download `url`, compare its SHA-256 and write the archive's `member` to `target`.

    Raises:
        InputError: no connection, another file than expected, or no such member; nothing is left at `target`.
    """
    hint = f"download it by hand and place {member} at {target}"
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "atlas.zip"
        try:
            with urllib.request.urlopen(url, timeout=60) as reply, open(archive, "wb") as stream:
                while chunk := reply.read(_CHUNK):
                    stream.write(chunk)
                    progress(f"{stream.tell() / 1e6:.1f} MB")
        except OSError as error:
            raise InputError(f"{url}: cannot be fetched ({error}); {hint}") from error
        found = sha256_of(archive)
        if found != sha256:
            raise InputError(f"{url}: sent a file with SHA-256 {found[:12]}..., expected {sha256[:12]}...; {hint}")
        try:
            with (
                zipfile.ZipFile(archive) as packed,
                packed.open(member) as source,
                atomic_path(target) as temporary,
                open(temporary, "wb") as stream,
            ):
                shutil.copyfileobj(source, stream)
        except (KeyError, zipfile.BadZipFile) as error:
            raise InputError(f"{url}: holds no {member}; {hint}") from error
