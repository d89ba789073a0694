"""Downloads from a local server that behaves well and badly."""

from __future__ import annotations

import errno
import hashlib
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from local_server import (
    LocalServer,
    chunked_without_end,
    cut,
    disguised_page,
    new_version,
    page,
    redirect,
    serve,
    silence,
    status,
    trickle,
    without_ranges,
)

from uad.common.errors import InputError
from uad.download import transfer
from uad.download.credentials import Credential
from uad.download.download import Downloader, Patience
from uad.download.sources import RemoteFile

CONTENT = bytes(range(256)) * 4000  # 1,024,000 bytes, no gzip, no HTML
SHA256 = hashlib.sha256(CONTENT).hexdigest()
QUICK = Patience(timeout=0.4, attempts=3, back_off=0.01, longest_pause=5, slowest=1000, slow_seconds=0.3)


@pytest.fixture
def server():
    with serve(LocalServer({"/data.bin": CONTENT})) as running:
        yield running


class Fetching:
    """One file, fetched; notes what was said and how long was waited."""

    def __init__(self, server, tmp_path):
        self.server, self.target = server, tmp_path / "in" / "data.bin"
        self.said, self.pauses = [], []

    def file(self, **changes):
        facts = {"urls": (f"{self.server.url}/data.bin",), "bytes": len(CONTENT), "digest": ("sha256", SHA256)}
        return RemoteFile("data.bin", **(facts | changes))

    def run(self, *tricks, credential=None, **changes):
        self.server.tricks["/data.bin"] = list(tricks)
        downloader = Downloader(self.said.append, QUICK, self.pauses.append)
        return downloader.fetch(self.file(**changes), self.target, credential=credential, hint="Place it by hand")

    def refused(self, *tricks, **changes):
        """The error's one line; nothing has the final name."""
        with pytest.raises(InputError) as caught:
            self.run(*tricks, **changes)
        assert not self.target.exists()
        assert "\n" not in str(caught.value) and "Place it by hand" in str(caught.value)
        return str(caught.value)

    def leftovers(self):
        return sorted(path.name for path in self.target.parent.iterdir())


@pytest.fixture
def fetching(server, tmp_path):
    return Fetching(server, tmp_path)


def test_the_file_arrives_whole_and_alone(fetching):
    assert fetching.run() == f"{fetching.server.url}/data.bin"
    assert fetching.target.read_bytes() == CONTENT and fetching.leftovers() == ["data.bin"]
    assert fetching.server.sent("/data.bin") == len(CONTENT)
    assert any("data.bin: 1.0 MB in" in line for line in fetching.said)


def test_a_dropped_connection_is_taken_up_where_it_broke(fetching):
    fetching.run(cut(300_000), cut(700_000))
    assert fetching.target.read_bytes() == CONTENT
    assert fetching.server.sent("/data.bin") == len(CONTENT)  # no byte twice
    assert fetching.server.ranges("/data.bin") == [None, "bytes=300000-", "bytes=700000-"]
    assert fetching.server.requests[1].headers["If-Range"] == '"v1"'


def test_a_server_without_ranges_starts_again_cleanly(fetching):
    fetching.run(cut(300_000), without_ranges)
    assert fetching.target.read_bytes() == CONTENT
    assert any("downloading from the start" in line for line in fetching.said)


def test_two_versions_are_never_joined(fetching):
    newer = CONTENT[::-1]
    fetching.run(cut(300_000), new_version(newer), digest=("sha256", hashlib.sha256(newer).hexdigest()))
    assert fetching.target.read_bytes() == newer


def test_without_a_version_nothing_is_continued(fetching):
    fetching.server.etags = False
    fetching.run(cut(300_000))
    assert fetching.target.read_bytes() == CONTENT
    assert fetching.server.ranges("/data.bin") == [None, None]


@pytest.mark.parametrize("trick", [status(416), status(206, Content_Range="bytes 5-9/10")])
def test_a_part_that_the_server_cannot_continue_is_thrown_away(fetching, trick):
    fetching.run(cut(300_000), trick)
    assert fetching.target.read_bytes() == CONTENT


def test_a_download_that_keeps_breaking_keeps_what_it_has(fetching):
    line = fetching.refused(cut(300_000), *[status(503)] * 9)
    assert "has an internal problem (503)" in line and "300 kB are kept" in line
    assert fetching.leftovers() == ["data.bin.part", "data.bin.part.json"]
    before = fetching.server.sent("/data.bin")
    fetching.run()
    assert fetching.target.read_bytes() == CONTENT and fetching.leftovers() == ["data.bin"]
    assert fetching.server.sent("/data.bin") - before == len(CONTENT) - 300_000


def test_progress_makes_attempts_count_anew(fetching):
    fetching.run(*[cut(at) for at in range(100_000, 900_000, 100_000)])  # eight breaks, three attempts
    assert fetching.server.sent("/data.bin") == len(CONTENT)


def test_pauses_double_and_retry_after_is_obeyed(fetching):
    fetching.run(status(503), status(502))
    assert fetching.pauses == [0.01, 0.02]
    fetching.pauses.clear()
    fetching.target.unlink()
    fetching.run(status(429, Retry_After="3"))
    assert fetching.pauses == [3]
    fetching.pauses.clear()
    fetching.target.unlink()
    http_date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 4))
    fetching.run(status(503, Retry_After=http_date))
    assert 2 < fetching.pauses[0] <= 4


def test_a_server_that_wants_hours_of_patience_is_left(fetching):
    assert "too many requests (429); run again later" in fetching.refused(status(429, Retry_After="7200"))
    assert fetching.pauses == []


@pytest.mark.parametrize(
    ("code", "words", "requests"),
    [
        (401, "requires a login (401)", 1),
        (403, "refuses access (403)", 1),
        (404, "does not have this file (404)", 1),
        (407, "is behind a proxy that requires a login (407)", 1),
        (410, "does not have this file any more (410)", 1),
        (429, "received too many requests (429)", 3),
        (503, "has an internal problem (503)", 3),
    ],
)
def test_each_refusal_has_its_own_words(fetching, code, words, requests):
    line = fetching.refused(*[status(code)] * 9)
    assert line.startswith(f"{fetching.server.url}/data.bin: the server {words}")
    assert len(fetching.server.requests) == requests
    assert fetching.leftovers() == []


@pytest.mark.parametrize("trick", [page, disguised_page])
@pytest.mark.parametrize("known", [True, False])
def test_a_web_page_with_code_200_is_no_file(fetching, trick, known):
    facts = {} if known else {"bytes": None, "digest": None}
    assert "got a web page instead of the file" in fetching.refused(trick, **facts)
    assert fetching.leftovers() == []


def test_a_redirect_to_a_login_page_is_named_without_its_query(fetching):
    fetching.server.tricks["/login"] = [page]
    line = fetching.refused(redirect("/login?next=data&signature=hush"))
    assert (
        f"got a web page instead of the file, after a redirect to {fetching.server.url}/login (a login page?)" in line
    )
    assert "hush" not in line


def test_a_redirect_in_a_circle_ends(fetching):
    assert "redirects in a loop" in fetching.refused(*[redirect("/data.bin")] * 99)


def test_a_page_does_not_cost_the_part(fetching):
    fetching.refused(cut(300_000), page)
    assert "data.bin.part" in fetching.leftovers()
    fetching.run()
    assert fetching.server.sent("/data.bin") < len(CONTENT) + 1000


def test_another_file_of_the_same_size_is_refused(fetching):
    fetching.server.files["/data.bin"] = CONTENT[::-1]
    line = fetching.refused()
    assert f"expected {SHA256[:12]}..." in line and hashlib.sha256(CONTENT[::-1]).hexdigest()[:12] in line
    assert fetching.leftovers() == []


def test_another_size_is_refused_before_it_is_fetched(fetching):
    fetching.server.files["/data.bin"] = CONTENT[:-1]
    assert f"offers {len(CONTENT) - 1} bytes, expected {len(CONTENT)}" in fetching.refused()


def test_a_part_that_went_bad_is_not_trusted(fetching):
    fetching.refused(cut(300_000), *[status(503)] * 9)
    part = fetching.target.with_name("data.bin.part")
    part.write_bytes(b"x" + part.read_bytes()[1:])
    assert "run again to download it from the start" in fetching.refused()
    fetching.run()
    assert fetching.target.read_bytes() == CONTENT


def test_md5_and_sha1_count_too(fetching):
    for algorithm in ("md5", "sha1"):
        fetching.run(digest=(algorithm, hashlib.new(algorithm, CONTENT).hexdigest()))
        fetching.target.unlink()
        assert "expected 000000000000" in fetching.refused(digest=(algorithm, "0" * 40))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.zip", b"\x1f\x8b" + b"x" * 600, "not a .zip file"),
        ("a.nii.gz", b"PK" + b"x" * 600, "not a .gz file"),
        ("a.tar", b"x" * 1000, "not a .tar file"),
        ("a.xls", b"PK" + b"x" * 600, "not a .xls file"),
        ("a.nii.gz", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    ],
)
def test_a_file_without_hash_must_at_least_be_of_its_kind(tmp_path, name, content, words):
    with serve(LocalServer({f"/{name}": content})) as server:
        file = RemoteFile(name, (f"{server.url}/{name}",))
        with pytest.raises(InputError, match=words):
            Downloader(print, QUICK).fetch(file, tmp_path / name)
        assert not list(tmp_path.iterdir())


def test_a_body_that_just_ends_is_no_file(fetching):
    fetching.run(chunked_without_end)
    assert fetching.target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("trick", "words"),
    [(trickle(30, 0.05), "only"), (silence(1), "no data for 0 s")],
)
def test_a_server_that_is_too_slow_is_asked_again(fetching, trick, words):
    fetching.run(trick)
    assert fetching.target.read_bytes() == CONTENT
    assert any(words in line and "retrying" in line for line in fetching.said)


def test_no_server_and_no_name_are_told_apart(fetching):
    gone = ("http://127.0.0.1:9/data.bin",)
    assert "no server answers" in fetching.refused(urls=gone)
    fetching.pauses.clear()
    assert "name cannot be resolved" in fetching.refused(urls=("http://no-such-host.invalid/data.bin",))
    assert not fetching.pauses  # asking again would not help


def test_the_mirror_is_asked_when_the_first_address_fails(fetching):
    other = f"{fetching.server.url}/mirror.bin"
    fetching.server.files["/mirror.bin"] = CONTENT
    assert fetching.run(status(404), urls=(f"{fetching.server.url}/data.bin", other)) == other
    assert any(line.endswith(f"does not have this file (404); trying {other}") for line in fetching.said)
    fetching.target.unlink()
    fetching.server.files.pop("/mirror.bin")
    line = fetching.refused(status(403), urls=(f"{fetching.server.url}/data.bin", other))
    assert "data.bin: the server refuses access (403); " in line and "mirror.bin: the server does not have" in line


def test_a_proxy_of_the_environment_is_used(fetching, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, fetching.server.url)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    fetching.run(urls=("http://data.example.invalid/data.bin",))  # the proxy gets the whole address
    assert fetching.server.requests[0].headers["Host"] == "data.example.invalid"


def test_a_local_folder_is_a_mirror(fetching, tmp_path):
    (tmp_path / "mirror").mkdir()
    place = tmp_path / "mirror" / "data.bin"
    assert "does not exist" in fetching.refused(urls=(place.as_uri(),))
    place.write_bytes(CONTENT[:-1])
    assert f"has {len(CONTENT) - 1} bytes" in fetching.refused(urls=(str(place),))
    place.write_bytes(CONTENT[::-1])
    assert "expected" in fetching.refused(urls=(str(place),))
    place.write_bytes(CONTENT)
    fetching.run(urls=(place.as_uri(),))
    assert fetching.target.read_bytes() == CONTENT and fetching.leftovers() == ["data.bin"]


# --- the disk -------------------------------------------------------------------------------------


def test_too_little_space_is_said_before_anything_is_written(fetching, monkeypatch):
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(InputError, match=r"the disk is full \(1.0 MB more are needed, 1.0 kB are free\)"):
        fetching.run()
    assert not fetching.target.exists()


def test_a_disk_that_fills_up(small_disk, fetching, monkeypatch):
    free = SimpleNamespace(free=10**9)  # another process filled it meanwhile
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda _: free)
    with pytest.raises(
        InputError, match=r"data.bin: the disk is full \(No space left on device\); make room"
    ) as caught:
        fetching.run()
    assert "\n" not in str(caught.value) and not fetching.target.exists()


def test_a_folder_that_cannot_be_written_to(fetching, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(transfer.os, "replace", refuse)
    with pytest.raises(InputError, match=r"cannot be written \(Read-only file system\)"):
        fetching.run()


# --- kill and run again ---------------------------------------------------------------------------

KILLED = """
import sys
from pathlib import Path
from uad.download.download import Downloader
from uad.download.sources import RemoteFile
Downloader(print).fetch(RemoteFile("data.bin", (sys.argv[1],), digest=("sha256", sys.argv[2])), Path(sys.argv[3]))
"""


def hold(at, seconds):
    def send(handler, content):
        handler.send_file(content, stop_at=at)
        time.sleep(seconds)

    return send


def test_a_killed_download_does_not_fetch_its_first_part_twice(fetching):
    fetching.server.tricks["/data.bin"] = [hold(600_000, 20)]
    part = fetching.target.with_name("data.bin.part")
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, f"{fetching.server.url}/data.bin", SHA256, str(fetching.target)],
    )
    deadline = time.monotonic() + 15
    while not (part.exists() and part.stat().st_size > 0) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = part.stat().st_size
    assert 0 < kept <= 600_000 and not fetching.target.exists()
    before = fetching.server.sent("/data.bin")
    fetching.run()
    assert fetching.target.read_bytes() == CONTENT
    assert fetching.server.sent("/data.bin") - before == len(CONTENT) - kept
    assert fetching.server.ranges("/data.bin") == [None, f"bytes={kept}-"]


# --- credentials ----------------------------------------------------------------------------------


def test_a_credential_goes_to_its_host_only(fetching):
    fetching.run(credential=Credential(("127.0.0.1",), "Bearer s3cret"))
    assert fetching.server.requests[0].headers["Authorization"] == "Bearer s3cret"
    fetching.target.unlink()
    with serve(LocalServer({"/data.bin": CONTENT})) as store:
        away = store.url.replace("127.0.0.1", "localhost") + "/data.bin?signature=hush"
        fetching.run(redirect(away), credential=Credential(("127.0.0.1",), "Bearer s3cret"))
        assert "Authorization" not in store.requests[0].headers
    fetching.target.unlink()
    fetching.run(credential=Credential(("www.kaggle.com",), "Bearer s3cret"))
    assert "Authorization" not in fetching.server.requests[-1].headers
    assert "s3cret" not in repr(Credential(("a",), "Bearer s3cret")) and not any("hush" in s for s in fetching.said)
