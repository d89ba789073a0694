"""`make test-download`: all five cohorts from a local server to their stores, through Snakemake.

Nothing is placed by hand but the key of ATLAS and an archive of BraTS.  The servers' files are coarse phantoms in the
layouts of the data sets; the iterations of registration and bias field are cut, as their results are tested elsewhere.
"""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import yaml
from local_server import LocalServer, dataverse_listing, pausing, serve
from made_up_items import KEY, encrypted, sha1, sha256, tar, zipped
from places import ROOT
from scipy.ndimage import affine_transform

from uad.cohorts import ADAPTERS
from uad.download.sources import read_sources
from uad.phantoms import write_phantom_cohort
from uad.phantoms.archives import nifti_bytes
from uad.preprocessing.templates import find_atlas

RESULTS = ROOT / "results" / "download-test"
SUBJECTS = {"ixi": 3, "brats21": 3, "mslub": 30, "atlas": 3, "wmh": 3}
STORES = {"ixi_t1": 3, "ixi_t2": 3, "brats21_t2": 3, "mslub_t2": 30, "atlas_t1": 3, "wmh_t1": 3}
MNI_MIDDLE = np.array([0.0, -18.0, 8.0])  # mm
BROKEN_AT = 100_000  # bytes of IXI-T1.tar that come before the first run is interrupted


def unzipped(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def open_ms_data(archive: Path) -> dict[str, bytes]:
    """The public copy's 30 patients, from a phantom archive of three: brighter copies have other bytes."""
    members = unzipped(archive)
    files = {}
    for number in range(30):
        for kind in ("T2W", "consensus_gt"):
            source = f"patient{number % 3 + 1:02d}"
            image = nibabel.Nifti1Image.from_bytes(gzip.decompress(members[f"{source}/{source}_{kind}.nii.gz"]))
            values = np.asarray(image.dataobj)
            if kind == "T2W":
                values = (values * (1 + number / 100)).astype(np.float32)
            files[f"coregistered/patient{number + 1:02d}/{kind}.nii.gz"] = nifti_bytes(values, image.affine)
    return files


def in_atlas_space(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Values and affine of an image in MNI space, moved to the middle of the grid that BraTS shares with SRI24."""
    promise, image = ADAPTERS["brats21"].promise, nibabel.load(path)
    affine = np.vstack([promise.affine, (0, 0, 0, 1)]).astype(float)
    moved = affine.copy()
    moved[:3, 3] += MNI_MIDDLE - (affine @ [*(np.array(promise.shapes[0]) / 2), 1])[:3]
    there = np.linalg.inv(image.affine) @ moved
    values = affine_transform(np.asarray(image.dataobj), there[:3, :3], there[:3, 3], promise.shapes[0], order=0)
    return values, affine


def brats_archive(cases: Path) -> bytes:
    """Coarse cases on the grid that BraTS promises, which is held against every scan."""
    members = {}
    for number in range(SUBJECTS["brats21"]):
        name = f"BraTS2021_{2 * number:05d}"
        for kind in ("t2", "seg"):
            file = f"{name}/{name}_{kind}.nii.gz"
            members[file] = nifti_bytes(*in_atlas_space(cases / file))
    return tar(members)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    for cohort, count in SUBJECTS.items():
        write_phantom_cohort(cohort, folder / cohort, min(count, 3), seed=5, voxel_mm=4)
    return folder


@pytest.fixture(scope="module")
def server(phantoms, tmp_path_factory):
    """Every item that has to be fetched, below its name."""
    hd_bet = ROOT / "demo" / "hd_bet"
    atlas = nibabel.Nifti1Image(*in_atlas_space(find_atlas("mni152", "")))
    dataverse = unzipped(phantoms / "wmh" / "dataverse_files.zip")
    items = {
        "ixi": {path.name: path.read_bytes() for path in (phantoms / "ixi").glob("IXI*")},
        "mslub": open_ms_data(phantoms / "mslub" / "mslub.zip"),
        "atlas": {
            "ATLAS_R2.0_encrypted.tar.gz": encrypted(
                (phantoms / "atlas" / "ATLAS_R2.0.tar.gz").read_bytes(), tmp_path_factory.mktemp("openssl")
            )
        },
        "wmh": {"api/datasets/:persistentId/": dataverse_listing(dataverse, sha1)}
        | {f"api/access/datafile/{n}": content for n, content in enumerate(dataverse.values(), start=1)},
        "sri24": {"sri24_anatomy_nifti.zip": zipped({"spgr.nii": atlas.to_bytes()})},
        "hd-bet": {
            "release_v1.5.0.zip": zipped(
                {name: (hd_bet / name).read_bytes() for name in read_sources()["hd-bet"].members}
            )
        },
    }
    files = {f"/{item}/{name}": content for item, each in items.items() for name, content in each.items()}
    with serve(LocalServer(files)) as running:
        yield running


@pytest.fixture(scope="module")
def command(server, phantoms, tmp_path_factory):
    """Snakemake on the demo's configuration with the real sources."""
    folder = tmp_path_factory.mktemp("run")
    placed = folder / "data" / "raw" / "brats21"
    placed.mkdir(parents=True)
    cases = folder / "cases"
    shutil.unpack_archive(phantoms / "brats21" / "BraTS2021_Training_Data.tar", cases)
    (placed / "BraTS2021_Training_Data.tar").write_bytes(brats_archive(cases))
    items = {path.split("/")[1] for path in server.files}
    published = {file.name for source in read_sources().values() for file in source.files if file.digest or file.bytes}
    overlay = {
        "run": RESULTS.name,
        "data_dir": str(folder / "data"),
        "cohorts": {
            name: {"source": "archive", "subjects": count, "splits": {"val": 1, "test": 1}}
            for name, count in SUBJECTS.items()
        },
        "preprocess": {
            "spacing_mm": 4.0,
            "hd_bet": {"parameters": "download", "sha256": None},
            "atlas": {"image": "sri24"},
            "registration": {"iterations": [30, 10, 0, 0]},
            "n4": {"levels": 1, "iterations": 5},
        },
        "pack": {"crop": [36, 45, 26], "factor": 1.0},
        "perceptual": {"weights": None},
        "execution": {"shard_size": 50},
        "sources": {
            "base_url": {item: f"{server.url}/{item}" for item in items},
            "sha256": {
                path.split("/", 2)[2]: sha256(content)
                for path, content in server.files.items()
                if path.split("/", 2)[2] in published
            },
        },
    }
    overlay["cohorts"]["ixi"]["splits"]["train"] = 1
    (folder / "overlay.yaml").write_text(yaml.safe_dump(overlay))
    return [
        *(sys.executable, "-m", "snakemake", "--cores", "2", "--resources", "gpu=0", "--quiet", "rules", "host"),
        *("--configfile", "demo/config.yaml", str(folder / "overlay.yaml")),
    ]


@pytest.fixture(scope="module")
def run(command, server):
    """The folder of the data after a run that was interrupted while it fetched, and one that finished."""
    shutil.rmtree(RESULTS, ignore_errors=True)
    data = Path(command[-1]).parent / "data"
    environment = os.environ | {"ATLAS_KEY": KEY, "OMP_NUM_THREADS": "1"}
    server.tricks["/ixi/IXI-T1.tar"] = [pausing(BROKEN_AT, lambda: False)]
    first = subprocess.Popen(
        [*command, "--until", "download"],
        cwd=ROOT,
        env=environment,
        start_new_session=True,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job ignores it
    )
    part = data / "raw" / "ixi" / "IXI-T1.tar.part"
    deadline = time.monotonic() + 120
    while not (part.exists() and part.stat().st_size == BROKEN_AT):
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGINT)  # as Ctrl-C does
    assert first.wait(timeout=60) != 0
    whole = [*command, "--until", "pack", "flag_outliers"]
    second = subprocess.run(whole, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert second.returncode == 0, second.stdout + second.stderr
    yield data
    shutil.rmtree(RESULTS)


def test_every_store_is_there_with_its_subjects(run):
    for name, count in STORES.items():
        arrays = {kind: np.load(RESULTS / "store" / f"{name}.{kind}.npy") for kind in ("images", "masks", "labels")}
        assert len(pd.read_csv(RESULTS / "store" / f"{name}.tsv", sep="\t")) == count
        assert {array.shape for array in arrays.values()} == {(count, 26, 45, 36)}
        assert arrays["masks"].any(axis=(1, 2, 3)).all() and arrays["images"].max() <= 1
        lesions = (arrays["labels"] == 1).any(axis=(1, 2, 3))
        assert lesions.any() != name.startswith("ixi")  # not all: small ones may vanish at 4 mm


def test_no_scan_failed(run):
    for cohort in SUBJECTS:
        rows = pd.read_csv(RESULTS / "preprocessed" / cohort / "quality.tsv", sep="\t")
        assert (rows["status"] == "ok").all() and rows["atlas_dice"].min() > 0.7


def test_every_file_came_once_and_whole(run, server):
    for path, content in server.files.items():
        if server.sent(path):
            assert server.sent(path) == len(content), path
    assert server.ranges("/ixi/IXI-T1.tar") == [None, f"bytes={BROKEN_AT}-"]
    assert not [path.name for path in run.rglob("*") if ".part" in path.name]
    unasked = [path for path in server.files if not server.sent(path)]
    assert unasked and all(path.startswith("/wmh/api/access/") for path in unasked)  # FLAIR, test cases and the like


def test_the_key_is_written_nowhere(run):
    texts = [
        path for root in (run, RESULTS) for path in root.rglob("*") if path.suffix in (".json", ".tsv", ".log", ".md")
    ]
    assert any(path.name == "atlas.log" for path in texts)
    assert not [path for path in texts if KEY in path.read_text()]
