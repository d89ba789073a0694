"""Disk space of a whole run, from the sizes in its configuration.

Arrays are exact: bytes per value times grid times scans.  NIfTI files are compressed; the bytes per voxel below are
those of the demo's phantoms, rounded up.
"""

from __future__ import annotations

from math import inf, prod

import numpy as np
import torch

from uad.cohorts import find_adapter
from uad.config import build_method, inference_of
from uad.config.model import CohortSettings, Config, Modality
from uad.download.sources import read_sources
from uad.inference.run import TYPES
from uad.methods import Method
from uad.preprocessing.pack import final_shape

_HEAD_MM3, _BRAIN_BOX_MM3 = 9e6, 4e6  # what a scan shows; the box around the brain in the atlas
_RAW, _WITH_SKULL, _STRIPPED, _BRAIN_BOX = 1.7, 4, 1, 2  # bytes per voxel of compressed files, masks included
_WEIGHT = 4 + 2 * 12  # bytes per weight: the model; best and last checkpoint, each with Adam's two moments
_PAGE = 20e6  # bytes of the report without its volumes: assets, figures, thumbnails
_VIEWER = 0.6  # bytes per voxel of its volumes: 8 bits, compressed, in base64


def disk_bytes(config: Config) -> dict[str, float]:
    """Bytes per kind of file of a run, as if nothing were there yet.

    Sizes that nobody states (MSLUB) and folders of the user's own count nothing.

    Raises:
        InputError: an arm's parameters are refused.
    """
    return {
        **({} if config.data_of else _data(config)),
        "models": _models(config),
        "reconstructions": _reconstructions(config),
        "report": _PAGE + _viewer(config),
    }


def _data(config: Config) -> dict[str, float]:
    """What every arm starts from; a run with `data_of` has links to another's."""
    return {
        "raw and unpacked": sum(raw_bytes(config, source) for source in ("archive", "phantom", "planted")),
        "skull_stripped": sum(_skull_stripped(config, cohort) for cohort in config.cohorts.values()),
        "preprocessed": _voxels(config, _BRAIN_BOX_MM3) * _BRAIN_BOX * sum(map(_scans, config.cohorts.values())),
        "store": _store(config),
    }


def raw_bytes(config: Config, source: str) -> float:
    """Raw data of the cohorts of one `source`, unpacked ones included; none where they are another run's."""
    if config.data_of:
        return 0
    return sum(_raw(config, cohort) for cohort in config.cohorts.values() if cohort.source == source)


def _scans(cohort: CohortSettings) -> int:
    return cohort.subjects * len(cohort.modalities)


def _voxels(config: Config, volume_mm3: float) -> float:
    return volume_mm3 / config.preprocess.spacing_mm**3


def _raw(config: Config, cohort: CohortSettings) -> float:
    """Archives and what is unpacked from them."""
    if cohort.source == "phantom":
        return 2 * _scans(cohort) * _HEAD_MM3 / config.phantom.voxel_mm**3 * _RAW
    if cohort.source == "planted":  # with the untouched scan beside it
        return 2 * _scans(cohort) * _voxels(config, _HEAD_MM3) * _RAW
    source = read_sources().get(cohort.adapter)
    return (source.disk or 0) if source and cohort.raw is None else 0


def _skull_stripped(config: Config, cohort: CohortSettings) -> float:
    stripped = cohort.stripped if cohort.adapter == "folder" else find_adapter(cohort.adapter).stripped
    return _scans(cohort) * _voxels(config, _HEAD_MM3) * (_STRIPPED if stripped else _WITH_SKULL)


def _store(config: Config) -> float:
    """Image, mask and label of every scan on the final grid."""
    per_voxel = np.dtype(config.pack.dtype).itemsize + 2
    return sum(map(_scans, config.cohorts.values())) * prod(final_shape(config.pack)) * per_voxel


def _modalities(config: Config) -> list[Modality]:
    return config.cohorts[config.train_cohort].modalities


def _models(config: Config) -> float:
    """Models and checkpoints of all arms, modalities and folds; what is pre-trained included."""
    methods = [build_method(config, arm) for arm, settings in config.arms.items() if settings.from_ is None]
    trained = [m for m in methods if m.trains] + [p for m in methods if (p := m.pretraining()) is not None]
    shape = final_shape(config.pack)[1::-1]
    return sum(_weights(m, shape) for m in trained) * _WEIGHT * config.folds * len(_modalities(config))


def _weights(method: Method, shape: tuple[int, int]) -> int:
    with torch.device("meta"):  # shapes without values: no memory, no time
        return sum(weight.numel() for weight in method.network(shape).parameters())


def _reconstructions(config: Config) -> float:
    """Arrays of the validation and test volumes, one per noise level where an arm reads several."""
    volumes = sum(_scored(cohort) * len(cohort.modalities) for cohort in config.cohorts.values())
    per_voxel = 0
    for arm in config.arms:
        method = build_method(config, arm)
        levels = len(inference_of(config, arm).t_test) if method.reads_noise_levels else 1
        per_voxel += levels * (config.folds if method.per_fold else 1) * TYPES[method.gives].itemsize
    return volumes * per_voxel * prod(final_shape(config.pack))


def _scored(cohort: CohortSettings) -> float:
    return cohort.splits.val + cohort.splits.test


def _viewer(config: Config) -> float:
    """Image, mask and label of each scan shown, and two to three volumes per arm."""
    limit = inf if config.report.viewer_scans == "all" else config.report.viewer_scans
    scans = sum(min(limit, cohort.splits.test) * len(cohort.modalities) for cohort in config.cohorts.values())
    return scans * (3 + 3 * len(config.arms)) * prod(final_shape(config.pack)) * _VIEWER
