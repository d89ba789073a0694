"""Cohorts that need a key: ATLAS is decrypted, BraTS comes with Kaggle's; keys are never shown."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from made_up_items import ATLAS, ATLAS_STEM, BRATS, KEY, encrypted, scans, tar, write_settings
from places import ROOT

from uad.common.errors import InputError
from uad.download import credentials, decrypt
from uad.download.inventory import Inventory, Need
from uad.download.plan import state_of
from uad.download.provide import provide
from uad.download.sources import Settings, read_sources

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="the program openssl is not installed")
pytestmark = pytest.mark.usefixtures("no_credentials")


@pytest.fixture(scope="module")
def atlas_archive(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.skip("the program openssl is not installed")
    return encrypted(ATLAS, tmp_path_factory.mktemp("openssl"))


def test_atlas_without_key_is_asked_for_before_hours_of_fetching(item, atlas_archive):
    atlas = item("atlas", {"/ATLAS_R2.0_encrypted.tar.gz": atlas_archive}, "t1")
    line = atlas.refused()
    assert line.startswith("atlas: ATLAS_KEY is not set") and "Ask for the key" in line and not atlas.server.requests
    assert atlas.state().status == "needs you"


def test_atlas_is_fetched_and_decrypted(item, atlas_archive, monkeypatch):
    atlas = item("atlas", {"/ATLAS_R2.0_encrypted.tar.gz": atlas_archive}, "t1")
    monkeypatch.setenv("ATLAS_KEY", "open sesame 43")
    line = atlas.refused()
    assert "wrong key in ATLAS_KEY" in line and "sesame" not in line
    assert atlas.paths() == {"ATLAS_R2.0_encrypted.tar.gz", "fetched.json"}
    monkeypatch.setenv("ATLAS_KEY", f" {KEY}\n")  # as it is copied from a mail
    assert atlas.state().status == "fetchable"
    atlas.provide()
    assert (atlas.folder / "ATLAS_R2.0.tar.gz").read_bytes() == ATLAS
    assert atlas.server.sent("/ATLAS_R2.0_encrypted.tar.gz") == len(atlas_archive)  # once
    assert atlas.subjects() == ["sub-r001s001"]
    (atlas.folder / "ATLAS_R2.0_encrypted.tar.gz").unlink()
    assert atlas.state().status == "present"
    assert not any("sesame" in line for line in atlas.said)


@needs_openssl
def test_another_encryption_is_told_from_a_wrong_key(item, monkeypatch):
    monkeypatch.setenv("ATLAS_KEY", KEY)
    other = item("atlas", {"/ATLAS_R2.0_encrypted.tar.gz": b"ccrypt" * 100}, "t1")
    assert "not an OpenSSL-encrypted file" in other.refused()


def test_atlas_without_openssl(item, atlas_archive, monkeypatch, tmp_path):
    atlas = item("atlas", {"/ATLAS_R2.0_encrypted.tar.gz": atlas_archive}, "t1")
    monkeypatch.setenv("ATLAS_KEY", KEY)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "needs the program openssl" in atlas.refused()


@pytest.mark.parametrize("known", [True, False])
def test_a_disk_that_is_too_small_for_the_decrypted_archive(small_disk, known, tmp_path, monkeypatch):
    archive = read_sources()["atlas"].encrypted
    (small_disk / archive.file).symlink_to(tmp_path / "secret")
    encrypted(os.urandom(600_000), tmp_path)
    monkeypatch.setenv("ATLAS_KEY", KEY)
    if not known:  # another process fills it while openssl writes
        monkeypatch.setattr(decrypt.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    words = r"needs 609 kB, 524 kB are free; make room" if known else r"the disk is full .*make room and run again"
    with pytest.raises(InputError, match=words) as caught:
        decrypt.decrypt(small_disk, archive, print)
    assert "\n" not in str(caught.value) and [path.name for path in small_disk.iterdir()] == [archive.file]


def test_brats_needs_a_key_or_an_archive(tmp_path):
    need = Need("brats21", "brats21", tmp_path / "brats21", ("t2",))
    with pytest.raises(InputError, match=r"KAGGLE_USERNAME and KAGGLE_KEY .* Synapse .* TCIA .* CC BY 4.0"):
        provide(Inventory(need, Settings()), print)
    assert state_of(need, Settings()).status == "needs you"
    need.folder.mkdir(exist_ok=True)
    (need.folder / "BraTS2021_Training_Data.tar").write_bytes(BRATS)
    provide(Inventory(need, Settings()), print)
    assert state_of(need, Settings()).status == "present"


def test_brats_comes_with_the_kaggle_key_or_from_a_mirror_without_it(item, monkeypatch):
    monkeypatch.setenv("KAGGLE_USERNAME", "me")
    monkeypatch.setenv("KAGGLE_KEY", "s3cret")
    brats = item("brats21", {"/BraTS2021_Training_Data.tar": BRATS}, "t2")
    assert state_of(Need("brats21", "brats21", brats.folder, ("t2",)), Settings()).status == "fetchable"
    brats.provide()
    assert brats.subjects() == ["BraTS2021_00000"]
    assert "Authorization" not in brats.server.requests[0].headers  # it is Kaggle's key, not the mirror's
    key = credentials.kaggle()
    assert key.hosts == ("www.kaggle.com", "kaggle.com") and key.header == "Basic bWU6czNjcmV0"
    assert "czNjcmV0" not in repr(key)


def test_kaggles_own_file_is_read_and_not_shown(monkeypatch, tmp_path):
    assert credentials.kaggle() is None
    folder = tmp_path / "home" / ".kaggle"
    folder.mkdir(parents=True)
    (folder / "kaggle.json").write_text(json.dumps({"username": "me", "key": "s3cret"}))
    assert credentials.kaggle().header == "Basic bWU6czNjcmV0"
    (folder / "kaggle.json").write_text('{"key": "s3cret"}')
    with pytest.raises(InputError, match="has no username and key") as caught:
        credentials.kaggle()
    assert "s3cret" not in str(caught.value)


def processes(stop: threading.Event, seen: set[str]):
    """Note the command lines of all processes until `stop`."""
    while not stop.is_set():
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    seen.add((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        time.sleep(0.005)


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="the process list is read from /proc")
def test_the_key_is_in_no_log_no_table_and_no_process_list(item, tmp_path):
    """A larger archive, so that openssl runs for a while."""
    plain = tar(scans(f"{ATLAS_STEM}_T1w.nii.gz") | {"noise.bin": os.urandom(30_000_000)}, "w:gz")
    if shutil.which("openssl") is None:
        pytest.skip("the program openssl is not installed")
    atlas = item("atlas", {"/ATLAS_R2.0_encrypted.tar.gz": encrypted(plain, tmp_path)}, "t1")
    sources = write_settings(tmp_path / "sources.json", "atlas", atlas.folder, atlas.settings(), ["t1"])
    stop, seen = threading.Event(), set()
    watcher = threading.Thread(target=processes, args=(stop, seen))
    watcher.start()
    done = subprocess.run(
        [sys.executable, "workflow_scripts/download_cohort.py", "--cohort", "atlas", "--adapter", "atlas",
         "--folder", atlas.folder, "--modalities", "t1", "--sources", sources, "--table", tmp_path / "table.tsv"],
        cwd=ROOT, env=os.environ | {"ATLAS_KEY": KEY}, capture_output=True, text=True,
    )  # fmt: skip
    stop.set()
    watcher.join()
    assert done.returncode == 0, done.stderr
    assert any("openssl aes-256-cbc" in line for line in seen)
    written = (tmp_path / "table.tsv").read_text() + (atlas.folder / "fetched.json").read_text()
    assert not any("sesame" in text for text in [*seen, done.stdout, done.stderr, written])
    assert "ATLAS_R2.0.tar.gz" in written and "fetched.json" not in (tmp_path / "table.tsv").read_text()
