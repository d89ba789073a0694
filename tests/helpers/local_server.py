"""A server on 127.0.0.1 that sends files and misbehaves on demand; it counts what it sends."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass
class Request:
    """What a client asked for, and how many bytes of the file it was sent."""

    path: str
    headers: dict[str, str]
    sent: int = 0


@dataclass
class LocalServer:
    """Files by path; `tricks` by path are used up one per request, then the file is sent as it should be."""

    files: dict[str, bytes] = field(default_factory=dict)
    tricks: dict[str, list[Callable]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    etags: bool = True
    url: str = ""

    def sent(self, path: str) -> int:
        """Bytes of bodies sent for a path."""
        return sum(request.sent for request in self.requests if request.path == path)

    def ranges(self, path: str) -> list[str | None]:
        return [request.headers.get("Range") for request in self.requests if request.path == path]


@contextlib.contextmanager
def serve(server: LocalServer) -> Iterator[LocalServer]:
    """Run a server for the length of a block."""

    class Handler(_Handler):
        local = server

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        server.url = f"http://127.0.0.1:{running.server_address[1]}"
        yield server
        running.shutdown()


class _Handler(http.server.BaseHTTPRequestHandler):
    local: LocalServer

    def log_message(self, *_):
        pass

    def do_GET(self):  # the name is that of http.server
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        self.request_seen = Request(path, dict(self.headers))
        self.local.requests.append(self.request_seen)
        content = self.local.files.get(path)
        tricks = self.local.tricks.get(path, [])
        if tricks:
            tricks.pop(0)(self, content)
        elif content is None:
            status(404)(self, content)
        else:
            self.send_file(content)

    def send_file(self, content: bytes, *, ranges: bool = True, stop_at: int | None = None, etag: str = "v1"):
        """The file, or what a valid Range asks for, as far as `stop_at`."""
        start, wanted = 0, self.headers.get("Range")
        if wanted and ranges and self.headers.get("If-Range", f'"{etag}"') == f'"{etag}"':
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        if self.local.etags:
            self.send_header("ETag", f'"{etag}"')
        self.end_headers()
        self.write(content[start:stop_at])

    def write(self, content: bytes):
        self.request_seen.sent += len(content)  # before the client can have it, so that a test sees the count
        with contextlib.suppress(ConnectionError):
            self.wfile.write(content)
            self.wfile.flush()

    def write_uncounted(self, content: bytes):
        """The body of an error or a page: no bytes of the file."""
        with contextlib.suppress(ConnectionError):
            self.wfile.write(content)

    def reply(self, code: int, body: bytes = b"", **headers: str):
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.write_uncounted(body)


def status(code: int, **headers: str) -> Callable:
    return lambda handler, content: handler.reply(code, b"no", **headers)


def page(handler, content):
    handler.reply(200, b"<!DOCTYPE html><title>Welcome</title>" + b" " * 600, Content_Type="text/html; charset=utf-8")


def disguised_page(handler, content):
    handler.reply(200, b"\n <HTML>please log in</HTML>" + b" " * 600, Content_Type="application/octet-stream")


def redirect(target: str) -> Callable:
    return lambda handler, content: handler.reply(302, Location=target)


def cut(at: int, **how) -> Callable:
    """Announce the whole file, send as far as `at`, drop the connection."""
    return lambda handler, content: handler.send_file(content, stop_at=at, **how)


def without_ranges(handler, content):
    handler.send_file(content, ranges=False)


def new_version(content: bytes) -> Callable:
    return lambda handler, _: handler.send_file(content, etag="v2")


def trickle(pieces: int, every: float) -> Callable:
    def send(handler, content):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.send_header("ETag", '"v1"')
        handler.end_headers()
        for place in range(pieces):
            handler.write(content[place : place + 1])
            time.sleep(every)

    return send


def pausing(at: int, released: Callable[[], bool]) -> Callable:
    """Send as far as `at`, and the rest when `released` says so."""

    def send(handler, content):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.send_header("ETag", '"v1"')
        handler.end_headers()
        handler.write(content[:at])
        while not released():
            time.sleep(0.02)
        handler.write(content[at:])

    return send


def silence(seconds: float) -> Callable:
    return lambda handler, content: time.sleep(seconds)


def chunked_without_end(handler, content):
    """A body without Content-Length that stops half-way, as a proxy's may."""
    handler.protocol_version = "HTTP/1.1"
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    half = content[: len(content) // 2]
    handler.write(f"{len(half):x}\r\n".encode() + half + b"\r\n")


def dataverse_listing(files: dict[str, bytes], digest_of: Callable[[bytes], str]) -> bytes:
    """The reply of a Dataverse server about files by path; ids count from 1."""
    rows = []
    for number, (path, content) in enumerate(files.items(), start=1):
        folder, _, name = path.rpartition("/")
        rows.append(
            {"label": name, "restricted": False, **({"directoryLabel": folder} if folder else {}), "dataFile": {
                "id": number, "filename": name, "contentType": "application/gzip", "filesize": len(content),
                "checksum": {"type": "SHA-1", "value": digest_of(content)},
            }}
        )  # fmt: skip
    return json.dumps({"status": "OK", "data": {"latestVersion": {"files": rows}}}).encode()
