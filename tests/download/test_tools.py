"""Atlas, weights and split files, and the programs that fetch and plan."""

from __future__ import annotations

import runpy
import shutil
import sys

from local_server import cut, status
from made_up_items import sha256, write_settings, zipped
from places import SCRIPTS

from uad.common.pinned import pinned_sha256
from uad.download.sources import Settings, read_sources

HD_BET = {"dataset.json": b"{}", "plans.json": b"{}", "fold_all/checkpoint_final.pth": b"weights"}


def test_hd_bet_is_unpacked_and_its_checkpoint_pinned(item):
    hd_bet = item("hd-bet", {"/release_v1.5.0.zip": zipped(HD_BET | {"extra.txt": b"x", "../evil": b""})})
    hd_bet.settings = lambda: Settings(base_url={"hd-bet": hd_bet.server.url})
    assert "would be written outside the target folder" in hd_bet.refused()
    shutil.rmtree(hd_bet.folder)
    hd_bet.server.files["/release_v1.5.0.zip"] = zipped(HD_BET | {"extra.txt": b"x"})
    hd_bet.provide()
    assert hd_bet.paths() == {*HD_BET, "fetched.json"}
    checkpoint = hd_bet.folder / "fold_all/checkpoint_final.pth"
    assert pinned_sha256(checkpoint, hd_bet.folder) == sha256(b"weights")
    assert any(f"pinned fold_all/checkpoint_final.pth: sha256 {sha256(b'weights')}" in line for line in hd_bet.said)
    assert hd_bet.state().status == "present"


def test_an_archive_without_its_members_is_refused(item):
    sri24 = item("sri24", {"/sri24_anatomy_nifti.zip": zipped({"late.nii": b"T2"})})
    assert "holds no spgr.nii" in sri24.refused() and "spgr.nii" not in sri24.paths()
    shutil.rmtree(sri24.folder)
    sri24.server.files["/sri24_anatomy_nifti.zip"] = zipped({"late.nii": b"T2", "spgr.nii": b"T1"})
    sri24.provide()
    assert (sri24.folder / "spgr.nii").read_bytes() == b"T1" and sri24.paths() == {"spgr.nii", "fetched.json"}


def test_the_other_tools_come_as_they_are(item):
    medicalnet = item("medicalnet", {"/resnet_10_23dataset.pth": b"weights"})
    medicalnet.server.tricks["/resnet_10_23dataset.pth"] = [cut(3)]
    medicalnet.provide()
    assert medicalnet.paths() == {"resnet_10_23dataset.pth", "fetched.json"}
    names = [file.name for file in read_sources()["authors-splits"].files]
    splits = item("authors-splits", {f"/{name}": name.encode() for name in names})
    splits.provide()
    assert splits.paths() == {*names, "fetched.json"} and len(names) == 20


def test_downloading_and_planning_are_programs(item, tmp_path, monkeypatch, capsys):
    names = {file.name for file in read_sources()["authors-splits"].files}
    splits = item("authors-splits", {f"/{name}": name.encode() for name in names})
    sources = write_settings(tmp_path / "sources.json", "authors-splits", splits.folder, splits.settings())
    target = splits.folder / "WMH_val.csv"

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        try:
            runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
        except SystemExit as stopped:
            return stopped.code, capsys.readouterr()
        return 0, capsys.readouterr()

    code, said = run("plan", "--sources", sources)
    assert code == 0 and "authors-splits" in said.out and "fetchable" in said.out
    code, _ = run("download_item", "--item", "authors-splits", "--files", target, "--sources", sources)
    assert code == 0 and target.read_text() == "WMH_val.csv"
    target.unlink()
    splits.server.tricks["/WMH_val.csv"] = [status(403)]
    code, said = run("download_item", "--item", "authors-splits", "--files", target, "--sources", sources)
    last = said.err.splitlines()[-1]
    assert code == 1 and not target.exists() and last.startswith("error: ") and "refuses access (403)" in last
