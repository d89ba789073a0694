"""Finds copies of a scan under another id, which would leak between the splits."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

from uad.common.errors import InputError
from uad.common.files import sha256_of
from uad.common.formats import GZIP

_CHUNK = 2**20


class Contents:
    """Files by uncompressed content: a copy that was compressed again has other bytes but is the same scan.

    A gzip file ends with the CRC-32 and length of its content, so files are decompressed only if both agree.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[int, int], list[tuple[str, Any]]] = {}

    def owner(self, path: str) -> Any:
        """The name under which the same content was added; None: it is new.

        Raises:
            InputError: a gzip file is damaged.
        """
        for other, owner in self._seen.get(_fingerprint(path), []):
            if sha256_of(other) == sha256_of(path) or _content_sha256(other) == _content_sha256(path):
                return owner
        return None

    def add(self, path: str, name: Any) -> None:
        """Remember a file's content under a name."""
        self._seen.setdefault(_fingerprint(path), []).append((path, name))


def _fingerprint(path: str) -> tuple[int, int]:
    """CRC-32 and length modulo 2^32 of the uncompressed content."""
    with open(path, "rb") as stream:
        if stream.read(2) == GZIP and Path(path).stat().st_size >= 8:
            stream.seek(-8, 2)
            return int.from_bytes(stream.read(4), "little"), int.from_bytes(stream.read(4), "little")
        stream.seek(0)
        crc = length = 0
        while chunk := stream.read(_CHUNK):
            crc, length = zlib.crc32(chunk, crc), length + len(chunk)
        return crc, length % 2**32


def _content_sha256(path: str) -> str:
    with open(path, "rb") as stream:
        compressed = stream.read(2) == GZIP
    try:
        return sha256_of(path, gzip.open if compressed else open)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: is a damaged gzip file; fetch it again") from error
