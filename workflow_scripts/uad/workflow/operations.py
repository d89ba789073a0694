"""Likely hours of trainings and reconstructions, computed from operations, not measured.

Operations are counted on the run's own networks, a multiply-add as two.  A training step counts as three forward
passes: one forward, two backward.  For f-AnoGAN, whose parts train in turns, this is rough.
"""

from __future__ import annotations

import time
from math import prod

import torch

from uad.common.packed import WHOLE_VOLUME
from uad.config import arm_settings, build_method, inference_of
from uad.config.model import Config
from uad.inference.cost import flop_per_sample, flop_per_slice
from uad.methods import Head
from uad.preprocessing.pack import final_shape

# Dense peak in TFLOP/s: mixed precision; float32, where convolutions use TF32 if the card has it.  NVIDIA's data sheets
# of A100 SXM (2021), H100 SXM (2023) and V100 SXM (2018).
PEAK = {"a100": (312, 156), "h100": (989, 494), "v100": (125, 15.7)}
EFFICIENCY = 0.35  # assumed share of the peak that large convolutions reach
CPU_SHARE = 0.8  # of a product of matrices that a training reaches; 0.85 measured with real/config.yaml in float32
_STEP = 3  # forward passes that a training step is worth
_DRAW = 0.042 / 32  # seconds of one CPU thread per augmented slice (docs/performance.md); drawn while the card works
_DRAW_OF_VOLUME = 20 * _DRAW  # of all 50 slices of 96 x 96; the ratio was measured
# Per scan of 1 mm: HD-BET on a GPU takes 5 to 10 s; the others measured on one CPU thread (docs/cluster.md)
_SECONDS_PER_SCAN = {"skull_strip": 10, "register": 66, "pack": 2}


def likely_hours(config: Config) -> dict[tuple[str, str], float]:
    """Hours of one job by (rule, arm or cohort), where they can be computed; GPU jobs on a card of `execution.card`."""
    mixed, single = PEAK[config.execution.card]
    hours = _preprocessing_hours(config)
    for (rule, arm), flop in operations(config).items():
        train = arm_settings(config, arm)["train"]
        half = rule == "train" and train["precision"] != "32-true"
        seconds = flop / ((mixed if half else single) * 1e12 * EFFICIENCY)
        if rule == "train":
            slices, workers = train["max_steps"] * train["batch_size"], max(config.execution.train_threads - 1, 1)
            draw = _DRAW_OF_VOLUME if build_method(config, arm).context == WHOLE_VOLUME else _DRAW
            seconds = max(seconds, slices * draw / workers)
        hours[rule, arm] = seconds / 3600
    return hours


def _preprocessing_hours(config: Config) -> dict[tuple[str, str], float]:
    hours: dict[tuple[str, str], float] = {}
    for name, cohort in config.cohorts.items():
        shard = cohort.subjects * len(cohort.modalities) / len(config.shards(name))
        scans = {"skull_strip": shard, "register": shard / config.execution.preprocess_threads, "pack": cohort.subjects}
        hours |= {(rule, name): scans[rule] * seconds / 3600 for rule, seconds in _SECONDS_PER_SCAN.items()}
    return hours


def operations(config: Config) -> dict[tuple[str, str], float]:
    """Operations of one job by (rule, arm): the trainings, and the reconstructions of the arms that run a network."""
    width, height, depth = final_shape(config.pack)
    counts = {}
    for arm in config.arms:
        method = build_method(config, arm)
        trained = method.source if isinstance(method, Head) else method
        if not (method.trains or method.starts_from == "weights"):
            continue
        try:
            flop = flop_per_slice(trained, (height, width), depth)
            trained_flop = flop_per_sample(trained, (height, width), depth)
        except (RuntimeError, TypeError):  # a network of the user's own that needs values: its time limit stands
            continue
        if method.trains and config.arms[arm].from_ is None:
            train = arm_settings(config, arm)["train"]
            counts["train", arm] = _STEP * trained_flop * train["max_steps"] * train["batch_size"]
        passes = method.passes if method is trained else method.passes * trained.passes
        inference = inference_of(config, arm)
        levels = len(inference.t_test) * inference.samples if method.reads_noise_levels else 1
        counts["reconstruct", arm] = flop * levels * passes * depth * _scored_scans(config)
    return counts


def _scored_scans(config: Config) -> float:
    """Validation and test scans of one job: those of the larger modality."""
    by_modality = [
        sum(c.splits.val + c.splits.test for c in config.cohorts.values() if modality in c.modalities)
        for modality in config.cohorts[config.train_cohort].modalities
    ]
    return max(by_modality)


def cpu_flop_per_second() -> float:
    """What this machine's CPU reaches in a product of matrices, the best of three."""
    matrix, best = torch.rand(1024, 1024), float("inf")
    for _ in range(3):
        start = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - start)
    return 2 * prod((1024, 1024, 1024)) / best
