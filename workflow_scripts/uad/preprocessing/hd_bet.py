"""Brain extraction by HD-BET 2 (Isensee et al. 2019).  docs/paper.md#hd-bet

The network runs through HD-BET's own code, but in this process and in memory: its command line starts a dozen
workers per call, and its parameter file is a pickle that it loads unchecked.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import torch

from uad.common.errors import InputError
from uad.common.files import sha256_of
from uad.common.memory import keep_freed_memory
from uad.common.pinned import pinned_sha256
from uad.common.volumes import Volume, itk_code, reorient

_PARAMETER_FILES = ("dataset.json", "plans.json", "fold_all/checkpoint_final.pth")


class HdBet:
    """The loaded network.

    Args:
        parameters: folder with dataset.json, plans.json and fold_all/checkpoint_final.pth.
        sha256: expected hash of the checkpoint, checked before it is loaded; None: the one that was pinned when it
            was fetched, if it was.
        test_time_augmentation: average over mirrored inputs (8 times slower).
        device: "cpu" or "cuda".
        threads: CPU threads of the prediction.

    Raises:
        InputError: a file is missing or the hash differs.
    """

    def __init__(
        self, parameters: str, sha256: str | None, test_time_augmentation: bool, device: str, threads: int
    ) -> None:
        folder = checked_parameters(parameters, sha256)
        # Importing HD-BET reassigns sys.stdout, which leaving this context undoes; building it prints.
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            import HD_BET.hd_bet_prediction as prediction

            prediction.folder_with_parameter_files = str(folder)
            self._predictor = prediction.get_hdbet_predictor(test_time_augmentation, torch.device(device))
        self._predictor.allow_tqdm = False
        torch.backends.cudnn.benchmark = False  # its choice of algorithm varies from run to run
        torch.set_num_threads(threads)  # HD-BET asked for all cores
        if device == "cpu":
            keep_freed_memory()

    def mask(self, volume: Volume) -> np.ndarray:
        """Brain mask uint8 {0, 1} [X, Y, Z] of a head scan in any orientation."""
        upright = reorient(volume, "LPI")  # like MNI152, as HD-BET's readme asks; ITK code of nibabel RAS
        zyx = np.ascontiguousarray(upright.data.transpose(2, 1, 0), dtype=np.float32)
        spacing = [float(value) for value in upright.spacing[::-1]]
        labels = self._predictor.predict_single_npy_array(zyx[None], {"spacing": spacing})
        brain = upright.with_data((np.asarray(labels).transpose(2, 1, 0) > 0).astype(np.uint8))
        return reorient(brain, itk_code(volume)).data


def checked_parameters(parameters: str, sha256: str | None) -> Path:
    """The parameter folder after its files have been found and its checkpoint's hash has been compared."""
    folder = Path(parameters)
    for name in _PARAMETER_FILES:
        if not (folder / name).is_file():
            raise InputError(
                f"{folder / name}: does not exist; preprocess.hd_bet.parameters has to name a folder with "
                f"{', '.join(_PARAMETER_FILES)}"
            )
    checkpoint = folder / _PARAMETER_FILES[-1]
    sha256 = sha256 or pinned_sha256(checkpoint, folder)
    if sha256 is not None and sha256_of(checkpoint) != sha256:
        raise InputError(
            f"{checkpoint}: sha256 is {sha256_of(checkpoint)}, not {sha256}; it was not loaded. Fetch it "
            "again, or correct preprocess.hd_bet.sha256 if you trust it"
        )
    return folder


def choose_device(device: str) -> str:
    """Resolve "auto": it becomes "cuda" where a GPU can be used, else "cpu".

    Raises:
        InputError: "cuda" without a usable GPU.
    """
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise InputError("preprocess.hd_bet.device: cuda is not available here; use auto or cpu")
    if device == "auto":
        return "cuda" if available else "cpu"
    return device
