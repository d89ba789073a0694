"""The file list of a Dataverse data set (DataverseNL holds the WMH challenge).  docs/paper.md#wmh"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Callable
from pathlib import PurePosixPath

from uad.common.errors import InputError
from uad.download.sources import RemoteFile

_ALGORITHMS = {"SHA-1": "sha1", "SHA-256": "sha256", "MD5": "md5"}


def listing_url(base: str, persistent_id: str) -> str:
    """URL of the file list of a data set."""
    query = urllib.parse.urlencode({"persistentId": persistent_id}, safe=":/")
    return f"{base.rstrip('/')}/api/datasets/:persistentId/?{query}"


def files_of(listing: bytes, base: str, is_wanted: Callable[[str], bool]) -> tuple[RemoteFile, ...]:
    """The wanted files of a file list, sorted by path, each with size, checksum and URL.

    Args:
        listing: JSON as the server sends it.
        base: address of the server.
        is_wanted: whether a path (`directoryLabel/filename`) is wanted.

    Raises:
        InputError: not a file list, no wanted file in it, or a path that leads out of the folder.
    """
    try:
        rows = json.loads(listing)["data"]["latestVersion"]["files"]
        files = [_file(row, base) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{base}: did not send a Dataverse file list ({type(error).__name__}: {error}); try again later"
        ) from error
    wanted = sorted((file for file in files if is_wanted(file.name)), key=lambda file: file.name)
    if not wanted:
        raise InputError(f"{base}: its list of {len(files)} files has none of the scans; is it the right data set?")
    for file in wanted:
        path = PurePosixPath(file.name)
        if path.is_absolute() or ".." in path.parts or "\\" in file.name:
            raise InputError(f"{base}: lists '{file.name}', which lies outside the data set; nothing was fetched")
    return tuple(wanted)


def _file(row: dict, base: str) -> RemoteFile:
    about = row["dataFile"]
    name = "/".join(part for part in (row.get("directoryLabel", ""), about["filename"]) if part)
    checksum = about.get("checksum") or {"type": "MD5", "value": about.get("md5")}
    algorithm = _ALGORITHMS.get(checksum["type"])
    digest = (algorithm, checksum["value"].lower()) if algorithm and checksum["value"] else None
    url = f"{base.rstrip('/')}/api/access/datafile/{int(about['id'])}"
    return RemoteFile(name, (url,), bytes=int(about["filesize"]), digest=digest)
