"""Fetching the atlas from a local server that behaves well and badly."""

import functools
import http.server
import threading
import zipfile

import pytest

from uad.errors import InputError
from uad.files import sha256_of
from uad.preprocessing.fetch_atlas import fetch_atlas
from uad.preprocessing.templates import find_atlas


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "server"
    folder.mkdir()
    with zipfile.ZipFile(folder / "atlas.zip", "w") as archive:
        archive.writestr("spgr.nii", b"the atlas")
    (folder / "page.zip").write_text("<html>please log in</html>")
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}", folder
        running.shutdown()


def fetch(url, sha256, target, member="spgr.nii"):
    fetch_atlas(url, sha256, member, target, lambda _: None)


def test_the_right_file_arrives(server, tmp_path):
    url, folder = server
    target = tmp_path / "data" / "sri24" / "spgr.nii"
    fetch(f"{url}/atlas.zip", sha256_of(folder / "atlas.zip"), target)
    assert target.read_bytes() == b"the atlas"
    assert find_atlas("sri24", tmp_path / "data") == target


@pytest.mark.parametrize(
    ("page", "member", "message"),
    [
        ("page.zip", "spgr.nii", "expected 000000000000"),
        ("gone.zip", "spgr.nii", "cannot be fetched .HTTP Error 404"),
    ],
)
def test_anything_else_is_refused_and_leaves_nothing(server, tmp_path, page, member, message):
    url, _ = server
    with pytest.raises(InputError, match=message):
        fetch(f"{url}/{page}", "0" * 64, tmp_path / "spgr.nii", member)
    assert not (tmp_path / "spgr.nii").exists()


def test_an_archive_without_the_member_is_refused(server, tmp_path):
    url, folder = server
    with pytest.raises(InputError, match="holds no late"):
        fetch(f"{url}/atlas.zip", sha256_of(folder / "atlas.zip"), tmp_path / "late.nii", "late.nii")
    assert list(tmp_path.iterdir()) == [folder]


def test_no_server_is_said_in_one_line(tmp_path):
    with pytest.raises(InputError, match="cannot be fetched"):
        fetch("http://127.0.0.1:9/atlas.zip", "0" * 64, tmp_path / "spgr.nii")


def test_a_missing_atlas_says_how_to_get_it(tmp_path):
    with pytest.raises(InputError, match="NITRC project sri24"):
        find_atlas("sri24", tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        find_atlas(str(tmp_path / "mine.nii"), tmp_path)
    assert find_atlas("mni152", tmp_path).exists()
