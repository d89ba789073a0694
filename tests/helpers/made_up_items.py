"""Items of the source table in small: what their servers send, and a folder that is provided from one."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest
import xlwt
from local_server import LocalServer, dataverse_listing

from uad.cohorts import ADAPTERS, ingest
from uad.common.errors import InputError
from uad.download.download import Downloader, Patience
from uad.download.inventory import Inventory, Need
from uad.download.plan import state_of
from uad.download.provide import provide
from uad.download.sources import Settings, read_sources

KEY = "open sesame 42"


def nifti(name: str, label: bool = False) -> bytes:
    """A 4x4x4 scan whose voxels follow from its name."""
    values = np.frombuffer(hashlib.sha256(name.encode()).digest() * 2, np.uint8).reshape(4, 4, 4)
    image = nibabel.Nifti1Image((values > 200).astype(np.uint8) if label else values, np.eye(4))
    return gzip.compress(image.to_bytes(), mtime=0)


def scans(*names: str) -> dict[str, bytes]:
    return {name: nifti(name, any(word in name for word in ("seg", "gt", "mask", "wmh"))) for name in names}


def tar(members: dict[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def sha1(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def ages() -> bytes:
    book = xlwt.Workbook()
    sheet = book.add_sheet("Table")
    for row, cells in enumerate([("IXI_ID", "AGE"), (2, 35.8), (12, 38.7)]):
        for column, cell in enumerate(cells):
            sheet.write(row, column, cell)
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def encrypted(content: bytes, folder: Path, *options: str) -> bytes:
    (folder / "plain").write_bytes(content)
    subprocess.run(
        ["openssl", "aes-256-cbc", "-md", "sha256", "-a", "-salt", *options, "-in", "plain", "-out", "secret",
         "-pass", "env:TEST_KEY"],
        cwd=folder, env=os.environ | {"TEST_KEY": KEY}, check=True, capture_output=True,
    )  # fmt: skip
    return (folder / "secret").read_bytes()


IXI = {
    "/IXI-T1.tar": tar(scans("IXI002-Guys-0828-T1.nii.gz", "IXI012-HH-1211-T1.nii.gz")),
    "/IXI-T2.tar": tar(scans("IXI002-Guys-0828-T2.nii.gz", "IXI012-HH-1211-T2.nii.gz")),
    "/IXI.xls": ages(),
}
MSLUB = {
    f"/coregistered/{name}": content
    for n in range(1, 31)
    for name, content in scans(f"patient{n:02d}/T2W.nii.gz", f"patient{n:02d}/consensus_gt.nii.gz").items()
}
WMH = scans(
    "training/Utrecht/0/orig/3DT1.nii.gz",
    "training/Utrecht/0/wmh.nii.gz",
    "training/Amsterdam/GE3T/100/orig/3DT1.nii.gz",
    "training/Amsterdam/GE3T/100/wmh.nii.gz",
    "training/Singapore/50/orig/3DT1.nii.gz",
    "training/Singapore/50/wmh.nii.gz",
)
WMH_OTHERS = scans(
    "training/Utrecht/0/pre/FLAIR.nii.gz",
    "test/Amsterdam/Philips_VU .PETMR_01./160/orig/3DT1.nii.gz",
    "test/Amsterdam/GE3T/110/orig/3DT1.nii.gz",
) | {"readme.pdf": b"%PDF"}
ATLAS_STEM = "ATLAS_2/Training/R001/sub-r001s001/ses-1/anat/sub-r001s001_ses-1_space-MNI152NLin2009aSym"
ATLAS = tar(scans(f"{ATLAS_STEM}_T1w.nii.gz", f"{ATLAS_STEM}_label-L_desc-T1lesion_mask.nii.gz"), "w:gz")
BRATS = tar(scans(*(f"./BraTS2021_00000/BraTS2021_00000_{kind}.nii.gz" for kind in ("t1", "t2", "seg"))))


def dataverse_files() -> dict[str, bytes]:
    files = WMH | WMH_OTHERS
    listing = {"/api/datasets/:persistentId/": dataverse_listing(files, sha1)}
    return listing | {f"/api/access/datafile/{n}": content for n, content in enumerate(files.values(), start=1)}


class Item:
    """An item that is provided from a local server."""

    def __init__(self, folder: Path, item: str, files: dict[str, bytes], *modalities: str):
        self.folder = folder / item
        self.server, self.item, self.modalities, self.said = LocalServer(files), item, modalities, []
        self.offline, self.base = False, None

    def settings(self) -> Settings:
        known = {file.name for file in read_sources()[self.item].files}
        served = {path[1:]: sha256(content) for path, content in self.server.files.items() if path[1:] in known}
        return Settings(self.offline, {self.item: self.base or self.server.url}, served)

    def inventory(self) -> Inventory:
        return Inventory(Need(self.item, self.item, self.folder, self.modalities), self.settings())

    def provide(self) -> None:
        downloader = Downloader(self.said.append, Patience(timeout=5, attempts=2, back_off=0.01), lambda _: None)
        provide(self.inventory(), self.said.append, downloader)

    def refused(self) -> str:
        with pytest.raises(InputError) as caught:
            self.provide()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def state(self):
        return state_of(Need(self.item, self.item, self.folder, self.modalities), self.settings())

    def paths(self) -> set[str]:
        return {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()}

    def subjects(self) -> list[str]:
        table, _ = ingest(
            ADAPTERS[self.item](), self.folder, self.folder.parent / "unpacked", self.modalities,
            self.folder.parent / "table.tsv", published=False,
        )  # fmt: skip
        return list(table["subject"])


def write_settings(path: Path, item: str, folder: Path, settings: Settings, modalities: Sequence[str] = ()) -> Path:
    """The file that the Snakefile writes for the programs that fetch."""
    needs = [{"item": item, "name": item, "folder": str(folder), "modalities": list(modalities)}]
    content = {"run": "test", "data_dir": str(folder.parent), "needs": needs, "offline": settings.offline,
               "base_url": dict(settings.base_url), "sha256": dict(settings.sha256)}  # fmt: skip
    path.write_text(json.dumps(content))
    return path
