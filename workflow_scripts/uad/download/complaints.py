"""Error messages for failed downloads, and whether a retry makes sense."""

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

NAME_UNKNOWN = "the server's name cannot be resolved (no internet access?)"

_COME_BACK = (408, 425, 429, 500, 502, 503, 504)
_MEANING = {
    401: "requires a login",
    403: "refuses access",
    404: "does not have this file",
    407: "is behind a proxy that requires a login",
    410: "does not have this file any more",
    429: "received too many requests",
}


class Refused(Exception):
    """This URL does not give the file; a retry makes no sense."""


class Broken(Exception):
    """The download failed, but a retry makes sense; `wait`: seconds that the server asks for."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def complaint(reply: requests.Response) -> Refused | Broken:
    """The error for a reply that is not the file."""
    status = reply.status_code
    other = "has an internal problem" if status >= 500 else "sent an unexpected reply"
    reason = f"the server {_MEANING.get(status, other)} ({status})"
    if status in _COME_BACK:
        return Broken(reason, _retry_after(reply.headers.get("Retry-After")))
    return Refused(reason)


def connection_error(error: Exception, timeout: float) -> str:
    """What went wrong, without the error's own text, which may hold the query of a signed URL."""
    kinds: set[str] = set()
    chain: BaseException | None = error
    for _ in range(10):  # requests' error wraps urllib3's, which wraps the system's
        if not isinstance(chain, BaseException):
            break
        kinds.add(type(chain).__name__)
        reason = getattr(chain, "reason", None) or next((a for a in chain.args if isinstance(a, BaseException)), None)
        chain = reason or chain.__cause__ or chain.__context__
    for names, words in (
        ({"NameResolutionError", "gaierror"}, NAME_UNKNOWN),
        ({"ProxyError"}, "the proxy set in the environment cannot be used"),
        ({"SSLError", "SSLCertVerificationError"}, "the server's certificate is not trusted"),
        ({"ConnectionRefusedError"}, "no server answers"),
        ({"ReadTimeout", "ReadTimeoutError", "ConnectTimeout", "ConnectTimeoutError", "TimeoutError"},
         f"no data for {timeout:.0f} s"),
    ):  # fmt: skip
        if kinds & names:
            return words
    return "the connection was lost"


def disk_error(error: OSError, target: Path) -> str:
    """Why a file could not be written."""
    if says_disk_full(error):
        return f"{target}: the disk is full ({error.strerror}); make room and run again, what was downloaded is kept"
    return f"{target}: cannot be written ({error.strerror or type(error).__name__})"


def _retry_after(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for, as a number or a date."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return None
