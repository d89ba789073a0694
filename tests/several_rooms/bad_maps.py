"""Anomaly maps of another program: one function per row of docs/bad-input.md makes the defect and runs into it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from bad_files import case

from uad.methods import Scan, load_method


def read_map(tmp_path: Path, values, edit=lambda path: None) -> None:
    """Read the map [Z, Y, X] of subject `s` for a brain in the first two thirds of y, and the verdict on all maps."""
    y = np.indices(MAP)[1]
    maps = load_method("maps")
    method = maps(maps.Params(folder=str(tmp_path)))
    if values is not None:
        np.save(tmp_path / "s.npy", values)
        edit(tmp_path / "s.npy")
    method.enter("mine", "t2", 0)
    brain = y < 16
    method.draw(Scan("s", np.float32(brain), brain, np.uint8(0 * y)), np.random.default_rng(0))
    method.doubts()


MAP = (16, 24, 20)
RANDOM = np.random.default_rng(0).random(MAP) * (np.indices(MAP)[1] < 16)


def with_first(value: float) -> np.ndarray:
    values = RANDOM.copy()
    values[0, 0, 0] = value
    return values


@case
def map_missing(tmp_path):
    read_map(tmp_path, None)


@case
def map_broken(tmp_path):
    read_map(tmp_path, RANDOM, lambda path: path.write_bytes(path.read_bytes()[:200]))


@case
def map_shape(tmp_path):
    read_map(tmp_path, RANDOM.transpose())


@case
def map_nan(tmp_path):
    read_map(tmp_path, with_first(np.nan))


@case
def map_negative(tmp_path):
    read_map(tmp_path, with_first(-1))


@case
def map_float32(tmp_path):
    read_map(tmp_path, RANDOM * 1e-40 / RANDOM.max())


@case
def map_constant(tmp_path):
    read_map(tmp_path, np.ones(MAP))


@case
def map_outside(tmp_path):
    read_map(tmp_path, np.float32(RANDOM == 0))


@case
def map_turned(tmp_path):
    read_map(tmp_path, RANDOM[:, ::-1])
