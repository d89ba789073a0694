"""What a server, a connection or a disk did wrong, in words for one line, and whether it may pass."""

from __future__ import annotations

import contextlib
import email.utils
import time
from pathlib import Path

import requests
import urllib3

from uad.common.errors import says_disk_full

BROKEN = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    urllib3.exceptions.HTTPError,
    ConnectionError,
    TimeoutError,
)

NAME_UNKNOWN = "the server's name is not known here (no internet access?)"

_COME_BACK = (408, 425, 429, 500, 502, 503, 504)
_MEANING = {
    401: "wants a login",
    403: "refuses access",
    404: "does not have this file",
    407: "is behind a proxy that wants a login",
    410: "does not have this file any more",
    429: "has had too many requests",
}


class Refused(Exception):
    """This address will not give the file, however often it is asked."""


class Broken(Exception):
    """The transfer failed in a way that may pass; `wait` is what the server asks for, in seconds."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def complaint(reply: requests.Response) -> Refused | Broken:
    """What a reply without the file means."""
    status = reply.status_code
    reason = f"the server {_MEANING.get(status, 'is out of order' if status >= 500 else 'answers')} ({status})"
    if status in _COME_BACK:
        return Broken(reason, _retry_after(reply.headers.get("Retry-After")))
    return Refused(reason)


def connection_error(error: Exception, timeout: float) -> str:
    """What went wrong, without the error's own text: it may hold the query of a signed address."""
    kinds, chain = set(), error
    for _ in range(10):  # requests' error wraps urllib3's, which wraps the system's
        if not isinstance(chain, BaseException):
            break
        kinds.add(type(chain).__name__)
        reason = getattr(chain, "reason", None) or next((a for a in chain.args if isinstance(a, BaseException)), None)
        chain = reason or chain.__cause__ or chain.__context__
    for names, words in (
        ({"NameResolutionError", "gaierror"}, NAME_UNKNOWN),
        ({"ProxyError"}, "the proxy of the environment cannot be used"),
        ({"SSLError", "SSLCertVerificationError"}, "the server's certificate is not trusted"),
        ({"ConnectionRefusedError"}, "no server answers"),
        ({"ReadTimeout", "ReadTimeoutError", "ConnectTimeout", "ConnectTimeoutError", "TimeoutError"},
         f"nothing came for {timeout:.0f} s"),
    ):  # fmt: skip
        if kinds & names:
            return words
    return "the connection broke off"


def disk_error(error: OSError, target: Path) -> str:
    """Why a file could not be written."""
    if says_disk_full(error):
        return f"{target}: the disk is full ({error.strerror}); make room and run again, what was fetched is kept"
    return f"{target}: cannot be written ({error.strerror or type(error).__name__})"


def _retry_after(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for: a number or a date."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return None
