"""Brain extraction of a shard in one process, as the workflow does it, against HD-BET's command line per scan.

Both sides are programs of their own, so that starting Python and loading the network count.  The command line takes
most of a minute per scan, whichever it is, so it gets a few of them.  As a program, this file is our side:
`python brain_extraction.py <folder with scans> <folder for masks>`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from uad.common.volumes import Volume, read_image, read_label, reorient, write_volume
from uad.phantoms import atlas
from uad.preprocessing.hd_bet import HdBet

SCANS, THEIR_SCANS, VOXEL_MM = 20, 3, 3.0
PARAMETERS = Path(__file__).parents[1] / "demo" / "hd_bet"  # the phantoms' network, in HD-BET's format


def extract(scans: Path, masks: Path) -> None:
    hd_bet = HdBet(str(PARAMETERS), None, test_time_augmentation=False, device="cpu", threads=1)
    for path in sorted(scans.glob("*.nii.gz")):
        scan = read_image(path)
        write_volume(masks / path.name, scan.with_data(hd_bet.mask(scan)))


class Shard:
    """Phantom heads with their skulls in a temporary folder, and both ways to extract their brains."""

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory()  # lives as long as the shard
        folder = Path(self._temporary.name)
        self.scans = folder / "scans"
        for side in ("scans", "ours", "theirs"):
            (folder / side).mkdir()
        self.folder = folder
        for index in range(SCANS):
            image, scene = atlas.scan(0, index, "t1", VOXEL_MM)
            upright = reorient(Volume(image.astype(np.float32), scene.grid.affine), "LPI")  # as HD-BET asks for
            write_volume(self.scans / f"head{index:02}.nii.gz", upright)
        home = folder / "home" / "hd-bet_params"  # where the command line looks for its parameters
        home.mkdir(parents=True)
        (home / "release_2.0.0").symlink_to(PARAMETERS)
        self.environment = {
            **os.environ, "HOME": str(home.parent), "OMP_NUM_THREADS": "1", "nnUNet_def_n_proc": "1"
        }  # fmt: skip

    def ours(self) -> list[np.ndarray]:
        self._run(sys.executable, __file__, self.scans, self.folder / "ours")
        return [read_label(path).data for path in sorted((self.folder / "ours").glob("*.nii.gz"))]

    def theirs(self) -> list[np.ndarray]:
        program = Path(sys.executable).with_name("hd-bet")
        for path in sorted(self.scans.glob("*.nii.gz"))[:THEIR_SCANS]:
            mask = self.folder / "theirs" / path.name
            self._run(
                program, "-i", path, "-o", mask, "-device", "cpu", "--disable_tta", "--save_bet_mask", "--no_bet_image"
            )
        return [read_label(path).data for path in sorted((self.folder / "theirs").glob("*_bet.nii.gz"))]

    def _run(self, *command: object) -> None:
        subprocess.run([str(part) for part in command], check=True, env=self.environment, capture_output=True)


if __name__ == "__main__":
    extract(Path(sys.argv[1]), Path(sys.argv[2]))
