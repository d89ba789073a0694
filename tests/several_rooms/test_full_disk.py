"""A full disk: one line that names file and room, nothing half-written, and a rerun that goes on once there is room."""

import contextlib
import os
import subprocess

import numpy as np
import pandas as pd
import pytest
import torch
from packed_arrays import store_of

from uad.common.errors import DiskFull, run_program
from uad.common.files import atomic_path
from uad.common.store import new_array
from uad.config.model import TrainSettings
from uad.inference.arm import Arm
from uad.inference.run import run_on_cohort
from uad.methods import load_method
from uad.networks.weights import save_model
from uad.preprocessing.scan import Scan
from uad.preprocessing.shard import run_shard
from uad.training.loop import train_arm
from uad.training.slices import SliceSource

MB = 1_000_000
NOISE = np.random.default_rng(0)


class Disk:
    """A file system in memory that can be made larger."""

    def __init__(self, path):
        self.path = path

    def mount(self, megabytes, *more):
        options = ",".join([*more, f"size={megabytes * MB}"])
        return subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.path], capture_output=True, text=True
        )

    def grow(self, megabytes):
        subprocess.run(["mount", "-o", f"remount,size={megabytes * MB}", self.path], check=True)

    def files(self):
        return sorted(str(path.relative_to(self.path)) for path in self.path.rglob("*") if path.is_file())


@pytest.fixture
def disk(tmp_path):
    """Two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    disk = Disk(folder)
    mounted = disk.mount(2)
    if mounted.returncode:
        pytest.skip(f"needs root, to mount a small disk: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def write_bytes(path):
    path.write_bytes(NOISE.bytes(4 * MB))


def write_parquet(path):
    pd.DataFrame({"dice": NOISE.random(MB)}).to_parquet(path)


def write_map(path):
    new_array(path, np.float16, (2 * MB,))[:] = 1  # without reserved bytes this line would be the program's end


WRITERS = {"scan.nii.gz": write_bytes, "fold0.parquet": write_parquet, "ixi.npy": write_map}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_without_room_is_named_and_leaves_nothing(disk, name):
    with pytest.raises(DiskFull) as caught, atomic_path(disk.path / name) as temporary:
        WRITERS[name](temporary)
    assert str(caught.value).startswith(f"{disk.path / name}: no room on its disk: the file takes ")
    assert "MB are free" in str(caught.value) and "start again" in str(caught.value)
    assert disk.files() == []
    disk.grow(20)
    with atomic_path(disk.path / name) as temporary:
        WRITERS[name](temporary)
    assert disk.files() == [name]


def test_the_room_that_an_array_needs_is_told_exactly(disk):
    room = r"takes 4\.0 MB or more, 2\.\d MB are free"
    with pytest.raises(DiskFull, match=room), atomic_path(disk.path / "ixi.npy") as temporary:
        write_map(temporary)


def test_a_model_file_without_room(disk):
    network = torch.nn.Linear(1000, 1000)  # 4 MB, written by safetensors, which speaks Rust
    with pytest.raises(DiskFull, match=r"model\.safetensors"):
        save_model(network, disk.path / "model.safetensors", {})
    assert disk.files() == []


def test_a_program_says_it_in_one_line(disk, capsys):
    def fill():
        with atomic_path(disk.path / "a.bin") as temporary:
            write_bytes(temporary)

    def fill_without_a_name():
        write_bytes(disk.path / "b.bin")

    for program in (fill, fill_without_a_name):
        with pytest.raises(SystemExit) as stopped:
            run_program(program)
        said = capsys.readouterr().err
        assert stopped.value.code == 1 and said.startswith("error: ") and said.count("\n") == 1, said


class Copies:
    """A preprocessing step that writes a megabyte per scan."""

    def __init__(self, folder):
        self.folder = folder

    def recipe(self, scan):
        return {"scan": scan.subject}

    def run(self, scan):
        with atomic_path(self.folder / f"{scan.subject}.nii.gz") as temporary:
            temporary.write_bytes(NOISE.bytes(MB * 9 // 10))
        return {"image": f"{scan.subject}.nii.gz"}


@pytest.mark.parametrize("workers", [1, 2])
def test_preprocessing_stops_and_keeps_what_is_finished(disk, workers):
    """A scan that finds no room is no bad scan: `max_failures` must not let it go missing.

    The disk holds two scans.  Of two workers either may be the one that finds no room, with its image or its record,
    when the third scan is begun; the scan that was finished before that is kept.
    """
    scans = [Scan(subject, "t1", "", "", "", False, False, False) for subject in "abcd"]
    arguments = {"max_failures": 4, "workers": workers}
    with pytest.raises(
        DiskFull, match=r"c\.nii\.gz: no room" if workers == 1 else r"[a-d](_t1\.json|\.nii\.gz): no room"
    ):
        run_shard("ixi shard 0", scans, Copies(disk.path), disk.path / "shard-0.tsv", **arguments)
    finished = {name for name in disk.files() if name.endswith(".nii.gz")}
    assert len(finished) in ({2} if workers == 1 else {1, 2}) and "shard-0.tsv" not in disk.files()
    disk.grow(20)
    lines = []
    run_shard("ixi shard 0", scans, Copies(disk.path), disk.path / "shard-0.tsv", progress=lines.append, **arguments)
    assert sum(line.endswith("kept") for line in lines) >= 1
    table = pd.read_csv(disk.path / "shard-0.tsv", sep="\t")
    assert table["status"].tolist() == ["ok"] * 4


def test_training_stops_and_goes_on_from_its_last_whole_checkpoint(disk, tmp_path):
    volumes = NOISE.random((6, 6, 16, 16)).astype(np.float32)
    settings = TrainSettings(max_steps=8, batch_size=4, precision="32-true", validate_every=4, validation_slices=2)
    kind = load_method("ae")
    method, store = kind(kind.Params(z_dim=4)), store_of(volumes)

    def train(folder):
        lines = []
        sources = [SliceSource(store, rows, settings, 2.0, method) for rows in ([0, 1, 2, 3], [4, 5])]
        network, curve = train_arm(method, *sources, seed=1, checkpoints=folder, threads=1, progress=lines.append)
        return network.state_dict(), curve, lines

    undisturbed, its_curve, _ = train(tmp_path / "elsewhere")
    size = (tmp_path / "elsewhere" / "last.ckpt").stat().st_size
    # room for the best and the last checkpoint of the first validation, none for the second's beside them
    (disk.path / "filler").write_bytes(bytes(2 * MB - int(2.5 * size)))
    with pytest.raises(DiskFull, match=r"checkpoints/best\.ckpt: no room"):
        train(disk.path / "checkpoints")
    assert disk.files() == ["checkpoints/best.ckpt", "checkpoints/last.ckpt", "filler"]
    (disk.path / "filler").unlink()
    weights, curve, lines = train(disk.path / "checkpoints")
    assert lines[0] == "resuming at step 4"
    assert curve == its_curve and all(torch.equal(weights[key], undisturbed[key]) for key in weights)


def test_reconstruction_stops_before_it_works_in_vain(disk):
    images = NOISE.random((40, 10, 64, 64)).astype(np.float32)  # 3.3 MB as float16
    store = store_of(images)
    method = load_method("copy")
    lines = []

    def reconstruct():
        copy = Arm(method(method.Params()), None)
        run_on_cohort(copy, store, store.subjects, [], 1, disk.path / "ixi.npy", lines.append)

    with pytest.raises(DiskFull, match=r"ixi\.npy: no room on its disk: the file takes 3\.3 MB or more, 2\.\d MB"):
        reconstruct()
    assert lines == [] and disk.files() == []
    disk.grow(20)
    reconstruct()
    assert len(lines) == 40 and disk.files() == ["ixi.npy", "ixi.tsv"]


def test_the_disk_is_what_the_test_says(disk):
    """Guards the tests above: the disk is small, and everybody may write to it."""
    with contextlib.suppress(OSError):
        write_bytes(disk.path / "much.bin")
    assert os.path.getsize(disk.path / "much.bin") <= 2.1 * MB
