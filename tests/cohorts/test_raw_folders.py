"""Folders as people have them: links, names that lie, raw files that change; the plan of one's own folder."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml
from places import ROOT
from small_run import OVERLAY, Bench, made_up_scan, save

from uad.cohorts.base import walk
from uad.cohorts.changes import state_of_folder, token_of, write_record
from uad.common.errors import InputError
from uad.common.nifti import read_header
from uad.common.volumes import label_values, read_image
from uad.config import resolve
from uad.download.needs import fetches_hd_bet
from uad.download.own import OwnFolder
from uad.download.plan import report
from uad.download.sources import Settings

VOXELS = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
AFFINE = np.diag([2.0, 3.0, 4.0, 1.0])


def nifti(kind=nib.Nifti1Image) -> bytes:
    return kind(VOXELS, AFFINE).to_bytes()


def place(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# --- links ------------------------------------------------------------------------------------------------


def test_loops_end_and_every_folder_is_read_once(tmp_path):
    raw = tmp_path / "raw"
    place(raw / "sub-1/a.nii")
    (raw / "code").mkdir()
    for link, target in {"code/up": "..", "code/over": "../..", "aaa": "sub-1", "sub-1/me": "."}.items():
        (raw / link).symlink_to(target)
    notes: list[str] = []
    assert list(walk(raw, notes=notes)) == ["sub-1/a.nii"]  # by its real name, though the link `aaa` comes first
    assert notes == ["passed over, link to a folder that is read already: aaa/, code/over/, code/up/, sub-1/me/"]


def test_a_linked_folder_is_read_and_what_leads_nowhere_is_named(tmp_path):
    raw = tmp_path / "raw"
    place(tmp_path / "other/b.nii")
    raw.mkdir()
    for link, target in {"in": "../other", "sub-9": "/gone", "participants.tsv": "/gone", "s_t2.nii": "/gone"}.items():
        (raw / link).symlink_to(target)
    (raw / "circle").symlink_to("circle")
    notes: list[str] = []
    assert list(walk(raw, notes=notes)) == ["in/b.nii", "s_t2.nii"]  # the scan stays, to be refused by name
    assert notes == ["passed over, link to what is not there: circle, participants.tsv, sub-9"]


def test_a_name_that_is_no_text_is_named(tmp_path):
    (tmp_path / os.fsdecode(b"M\xfcller_t2.nii")).write_bytes(b"")
    notes: list[str] = []
    assert walk(tmp_path, notes=notes) == {}
    assert "not UTF-8" in notes[0] and "M\\udcfcller_t2.nii" in notes[0]


# --- names that lie ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("name", ["zipped.nii", "plain.nii.gz", "ZIPPED.NII.GZ", "PLAIN.NII"])
def test_bytes_count_and_not_the_name(tmp_path, kind, name):
    zipped = name in ("zipped.nii", "ZIPPED.NII.GZ")
    path = place(tmp_path / name, gzip.compress(nifti(kind)) if zipped else nifti(kind))
    np.testing.assert_array_equal(read_image(path).data, VOXELS)
    np.testing.assert_array_equal(read_header(path).affine, AFFINE)
    assert label_values(path) == list(range(VOXELS.size))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (bz2.compress(nifti()), "bzip2"),
        (lzma.compress(nifti()), "xz"),
        (b"\x28\xb5\x2f\xfd" + bytes(20), "Zstandard"),
        (b"NRRD0004\ntype: short\n", "NRRD"),
        (bytes(128) + b"DICM" + bytes(100), "DICOM"),
        (b"CDF\x01" + bytes(100), "MINC"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "MINC 2"),
        (b"PK\x03\x04" + bytes(100), "zip archive"),
        (nib.AnalyzeImage(VOXELS, AFFINE).header.binaryblock, "Analyze"),
        (nib.Nifti1Pair(VOXELS, AFFINE).header.binaryblock, "pair of files"),
    ],
)
@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_a_whole_file_of_another_format_is_named_and_not_fetched_again(tmp_path, content, what, name):
    with pytest.raises(InputError) as error:
        read_header(place(tmp_path / name, content))
    assert what in str(error.value) and "fetch it again" not in str(error.value)


# --- changes ----------------------------------------------------------------------------------------------


@pytest.fixture
def raw(tmp_path):
    for number in range(3):
        place(tmp_path / f"raw/s{number}_t2.nii.gz", bytes([number]) * 100)
    write(tmp_path, "new")
    return tmp_path / "raw"


def write(tmp_path, token):
    raw, unpacked = tmp_path / "raw", tmp_path / "unpacked"
    write_record(tmp_path / "record.json", raw, unpacked, token, state_of_folder(raw, unpacked))


def token(tmp_path):
    return token_of(tmp_path / "record.json", tmp_path / "raw", tmp_path / "unpacked")


def corrected(raw):
    place(raw / "s1_t2.nii.gz", b"\x09" * 100)  # as long as before


@pytest.mark.parametrize(
    "change",
    [
        corrected,
        lambda raw: place(raw / "s1_t2.nii.gz", b"longer" * 100),
        lambda raw: place(raw / "s3_t2.nii.gz"),
        lambda raw: (raw / "s2_t2.nii.gz").unlink(),
        lambda raw: place(raw / "participants.tsv"),
    ],
)
def test_what_changed_came_or_went_is_noticed_until_ingest_has_read_it(tmp_path, raw, change):
    assert token(tmp_path) == "new"
    change(raw)
    changed = token(tmp_path)
    assert changed != "new" and changed == token(tmp_path)
    write(tmp_path, changed)
    assert token(tmp_path) == changed


def test_a_touched_file_and_a_note_change_nothing(tmp_path, raw):
    os.utime(raw / "s1_t2.nii.gz", ns=(1, 1))
    place(raw / "README.txt")
    assert token(tmp_path) == "new"
    assert state_of_folder(raw, "")["s1_t2.nii.gz"][1] == 1
    assert "1,\n1," not in (tmp_path / "record.json").read_text() and token(tmp_path) == "new"


@pytest.mark.timing
def test_four_thousand_files_take_little_time(tmp_path):
    for number in range(4000):
        place(tmp_path / f"raw/sub-{number // 4}/anat/{number}.nii.gz")
    write(tmp_path, "new")
    start = time.perf_counter()
    assert token(tmp_path) == "new"
    seconds = time.perf_counter() - start
    print(f"4000 files: {seconds:.2f} s")
    assert seconds < 5


# --- the plan and the configuration -----------------------------------------------------------------------


def own(tmp_path, *, masks=2, labels=1) -> OwnFolder:
    for number in range(2):
        place(tmp_path / f"raw/s{number}_t2.nii.gz")
        for kind, count in (("mask", masks), ("seg", labels)):
            if number < count:
                place(tmp_path / f"raw/s{number}_{kind}.nii.gz")
    return OwnFolder("mine", str(tmp_path / "raw"), ("t2",), 2, healthy=False)


def test_the_plan_says_what_is_in_a_folder_of_ones_own(tmp_path):
    text = " ".join(report([], Settings(), tmp_path, [own(tmp_path)]).split())
    for words in ("mine (your own scans): present", "2 subjects", "2 t2", "2 brain masks", "1 lesion masks",
                  "without a lesion mask, so left out: s1"):  # fmt: skip
        assert words in text


@pytest.mark.parametrize("made", [False, True])
def test_the_plan_of_a_folder_without_scans_asks_for_them(tmp_path, made):
    folder = tmp_path / "nowhere"
    if made:
        folder.mkdir()
    text = report([], Settings(), tmp_path, [OwnFolder("mine", str(folder), ("t2",), 2, healthy=False)])
    assert "mine (your own scans): needs you" in text and str(folder) in text
    assert "Nothing to download" not in text


def config(**changes):
    raw = yaml.safe_load((ROOT / "config.yaml").read_text())
    mine = {"adapter": "folder", "modalities": ["t2"], "subjects": 2, "splits": {"val": 1, "test": 1}}
    raw["cohorts"]["mine"] = mine | changes
    return raw


@pytest.mark.parametrize(("masks", "fetched"), [(2, False), (1, True), (0, True)])
def test_masks_for_all_scans_need_no_hd_bet(tmp_path, masks, fetched):
    folder = own(tmp_path, masks=masks).folder
    assert fetches_hd_bet(resolve(config(raw=folder)), "mine", lambda name: folder) is fetched


def test_a_tilde_is_the_home_folder_and_a_brace_in_an_output_is_refused(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert resolve(config(raw="~/a (b) [c] {d} 'e' $f")).cohorts["mine"].raw == "/home/me/a (b) [c] {d} 'e' $f"
    with pytest.raises(InputError, match=r"^config: data_dir: holds a brace.*$"):
        resolve(config() | {"data_dir": "/data/{x}"})


def test_every_path_of_a_shell_line_is_quoted():
    words = re.compile(r"\{((?:params|input|output)[^}]*)\}")
    # quoted where they are made
    joined = {"params.model", "params.outputs", "params.backbone", "params.start_from", "params.options"}
    found = 0
    for path in (ROOT / "rules").glob("**/*.smk"):
        for block in re.findall(r"    shell:\n((?:        .*\n)+)", path.read_text()):
            for word in words.findall(block):
                found += 1
                assert word.endswith(":q") or word in joined, f"{path.name}: {word}"
    assert found > 60


# --- a real small run -------------------------------------------------------------------------------------


@pytest.mark.whole_run
def test_a_nasty_folder_runs_and_only_a_changed_scan_makes_the_store_again(tmp_path):
    bench = Bench(tmp_path, "nasty")
    nasty = tmp_path / "my 'scans' (ä) [2] $HOME ~ \"x\" & ;"
    for number in range(4):
        save(nasty / "raw" / f"h{number}_t2.nii.gz", made_up_scan(number)[0])
    healthy = OVERLAY["cohorts"]["healthy"] | {"raw": str(nasty / "raw")}
    bench.overlay(OVERLAY | {
        "run": "nasty", "data_dir": str(nasty / "data"), "pack": {"crop": [30, 34, 26], "factor": 1},
        "cohorts": OVERLAY["cohorts"] | {"healthy": healthy},
    })  # fmt: skip
    store = bench.results / "store" / "healthy_t2.tsv"
    target = str(store.relative_to(tmp_path))

    def run():
        code, output = bench.run("--", target)
        assert code == 0, output
        return output

    run()
    images = store.with_suffix(".images.npy")
    first = images.read_bytes()
    assert "Nothing to be done" in run()
    os.utime(nasty / "raw/h1_t2.nii.gz")
    assert "Nothing to be done" in run()
    save(nasty / "raw/h1_t2.nii.gz", made_up_scan(9)[0])
    assert "Nothing to be done" not in run() and images.read_bytes() != first
    assert "Nothing to be done" in run()
    (nasty / "raw/h3_t2.nii.gz").unlink()
    run()
    assert "h3" not in store.read_text() and "h2" in store.read_text()
