"""Checks that a server sent the right file, and sizes and URLs as text."""

from __future__ import annotations

import hashlib
import urllib.parse
from pathlib import Path

_MAGIC = {
    ".zip": (0, b"PK"),
    ".gz": (0, b"\x1f\x8b"),
    ".tar": (257, b"ustar"),
    ".xls": (0, b"\xd0\xcf\x11\xe0"),
}
HEAD = 512  # bytes that `wrong_content` needs


def digest_of(path: str | Path, algorithm: str) -> str:
    """Hash of a file's bytes as hex digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def wrong_content(head: bytes, name: str, hash_is_known: bool, content_type: str = "") -> str:
    """Why a file that starts with these bytes cannot be `name`; empty if it can.

    Where the hash is known, the kind of file is not checked: the hash will tell.
    """
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")) or (
        content_type.startswith("text/html") and not name.endswith((".html", ".htm"))
    ):
        return "got a web page instead of the file"
    if head.startswith(b"version https://git-lfs"):
        return "got a Git LFS pointer instead of the file"
    place, magic = _MAGIC.get(Path(name).suffix, (0, b""))
    if not hash_is_known and head[place : place + len(magic)] != magic:
        return f"got something that is not a {Path(name).suffix} file"
    return ""


def public(address: str) -> str:
    """A URL without user, password and query, safe for logs: queries of redirects may hold signatures."""
    parts = urllib.parse.urlsplit(address)
    if not parts.netloc:
        return parts.path
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def size(count: float) -> str:
    """A number of bytes as text: `4.8 GB`, `57 MB`, `12 kB`."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            value = count / factor
            return f"{value:.1f} {unit}" if value < 10 or unit == "GB" else f"{value:.0f} {unit}"
    return f"{count:.0f} bytes"
