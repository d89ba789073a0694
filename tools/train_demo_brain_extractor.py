"""Train a tiny nnU-Net that extracts the brains of phantoms, in the folder layout of HD-BET 2's parameters.

python tools/train_demo_brain_extractor.py --output demo/hd_bet

It stands in for HD-BET's 120 MB network in the demo and the tests, so that HD-BET's own code runs there
unchanged.  It knows phantoms only: never use it on real scans.  docs/paper.md#hd-bet
"""

from __future__ import annotations

import argparse
import io
import json
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch.nn import functional

from uad.common.errors import run_program
from uad.common.files import atomic_path, sha256_of
from uad.phantoms import atlas, ixi, mslub, wmh

SPACING_MM = 3.0
PATCH = (64, 80, 64)  # z, y, x: a whole head at 3 mm
_HEADS = ((ixi, "t1"), (ixi, "t2"), (mslub, "t2"), (atlas, "t1"), (wmh, "t1"), (mslub, "t1"), (wmh, "t2"))
_ARCHITECTURE = {
    "n_stages": 4,
    "features_per_stage": [8, 16, 32, 48],
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [[3, 3, 3]] * 4,
    "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]],
    "n_conv_per_stage": [1, 2, 2, 2],
    "n_conv_per_stage_decoder": [1, 1, 1],
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-05, "affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
_REQUIRE_IMPORT = ["conv_op", "norm_op", "dropout_op", "nonlin"]


def training_heads(seed: int, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Phantom heads with skull, one after the other from all cohorts that have one, T1 and T2.

    Returns:
        (image float32, brain bool) pairs [Z, Y, X] at about 3 mm in nibabel L, P, S (ITK RAI) orientation,
        cut to the non-zero box and z-scored as nnU-Net does.
    """
    pairs = []
    for number in range(count):
        cohort, modality = _HEADS[number % len(_HEADS)]
        image, scene = cohort.scan(seed, number // len(_HEADS), modality, SPACING_MM)
        pairs.append(_prepared(image, scene.brain, scene.grid.affine))
    return pairs


def _prepared(image: np.ndarray, brain: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    orientation = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(affine), nib.orientations.axcodes2ornt("LPS")
    )
    spacing = np.linalg.norm(affine[:3, :3], axis=0)[np.argsort(orientation[:, 0])]
    arrays = [nib.orientations.apply_orientation(array, orientation) for array in (image, brain)]
    shape = [round(size * mm / SPACING_MM) for size, mm in zip(arrays[0].shape, spacing, strict=True)]
    tensors = torch.stack([torch.from_numpy(np.ascontiguousarray(a, dtype=np.float32)) for a in arrays])
    scan, mask = functional.interpolate(tensors[None], size=shape, mode="trilinear")[0]
    box = tuple(slice(int(i.min()), int(i.max()) + 1) for i in torch.nonzero(scan, as_tuple=True))
    scan, mask = scan[box].permute(2, 1, 0), mask[box].permute(2, 1, 0)
    return ((scan - scan.mean()) / scan.std()).numpy(), (mask > 0.5).numpy()


def train_extractor(heads: list[tuple[np.ndarray, np.ndarray]], seed: int, steps: int) -> torch.nn.Module:
    """Train the network on whole heads, one per step, with Adam and a one-cycle learning rate."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # the network draws its first weights from the global generator
        network = build_network()
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps, pct_start=0.15)
    losses = []
    for number in range(steps):
        image, brain = _augmented(rng, *heads[rng.integers(len(heads))])
        loss = _loss(network(image), brain)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if (number + 1) % 50 == 0:
            print(f"step {number + 1}/{steps}: loss {np.mean(losses[-50:]):.4f}", flush=True)
    return network.eval()


def build_network() -> torch.nn.Module:
    """The untrained network, built by nnU-Net's own factory from the plans."""
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    return get_network_from_plans(
        "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        _ARCHITECTURE,
        _REQUIRE_IMPORT,
        input_channels=1,
        output_channels=2,
        deep_supervision=False,
    )


def _loss(logits: torch.Tensor, brain: torch.Tensor) -> torch.Tensor:
    """Cross-entropy plus soft Dice loss of the brain."""
    share = logits.softmax(1)[:, 1]
    dice = (2 * (share * brain).sum() + 1) / (share.sum() + brain.sum() + 1)
    return functional.cross_entropy(logits, brain.long()) + 1 - dice


def _augmented(rng: np.random.Generator, image: np.ndarray, brain: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """One head turned, scaled, shifted and maybe mirrored into the patch, with its intensities altered.

    Mirroring left-right and front-back covers both orientations in which scans may come (LPS and RAS).
    Outside the scan the patch is 0, as nnU-Net pads.
    """
    channels = [image - image.min(), brain, np.ones_like(image)]
    tensor = torch.from_numpy(np.stack(channels).astype(np.float32))[None]
    zoom = rng.uniform(0.9, 1.12, 3) * [rng.choice([-1, 1]), rng.choice([-1, 1]), 1]
    matrix = Rotation.from_euler("xyz", rng.uniform(-0.2, 0.2, 3)).as_matrix() @ np.diag(zoom)
    # grid_sample counts from -1 to 1 over each axis, in the order x, y, z
    source, target = np.array(image.shape[::-1], float), np.array(PATCH[::-1], float)
    shift = rng.uniform(-0.08, 0.08, (3, 1))
    theta = np.concatenate([matrix * target / source[:, None], shift], axis=1)
    theta = torch.tensor(theta[None], dtype=torch.float32)
    grid = functional.affine_grid(theta, [1, 1, *PATCH], align_corners=False)
    scan, mask, covered = functional.grid_sample(tensor, grid, align_corners=False)[0]
    covered = covered > 0.5
    scan = _altered(rng, scan / scan.max())
    scan = torch.where(covered, (scan - scan[covered].mean()) / scan[covered].std(), 0)
    return scan[None, None], (mask > 0.5).float()[None]


def _altered(rng: np.random.Generator, scan: torch.Tensor) -> torch.Tensor:
    """Another gamma, a linear bias of up to 20 % per axis, more noise; `scan` is in [0, 1]."""
    scan = scan ** float(np.exp(rng.uniform(-0.35, 0.35)))
    axes = torch.meshgrid(*(torch.linspace(-1, 1, size) for size in PATCH), indexing="ij")
    bias = 1 + sum(rng.uniform(-0.2, 0.2) * axis for axis in axes)
    noise = torch.from_numpy(rng.standard_normal(PATCH, dtype=np.float32))
    return scan * bias + rng.uniform(0, 0.03) * noise


def write_parameters(network: torch.nn.Module, folder: Path) -> Path:
    """Write dataset.json, plans.json, fold_all/checkpoint_final.pth and SHA256SUMS; return the checkpoint.

    Weights are stored as float16; loading widens them again.
    """
    state = network.state_dict()
    # nnU-Net's modules refer to each other, so most weights have several names; one copy of each is stored
    halves = {value.data_ptr(): value.half() for value in state.values()}
    checkpoint = {
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": "3d_fullres"},
        "network_weights": {name: halves[value.data_ptr()] for name, value in state.items()},
        "inference_allowed_mirroring_axes": (2,),
    }
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    path = folder / "fold_all" / "checkpoint_final.pth"
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
    for name, content in {"dataset.json": _dataset(), "plans.json": _plans()}.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n")
    with atomic_path(folder / "SHA256SUMS") as temporary:
        temporary.write_text(f"{sha256_of(path)}  fold_all/checkpoint_final.pth\n")
    return path


def _dataset() -> dict[str, object]:
    return {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "brain": 1},
        "numTraining": 0,
        "file_ending": ".nii.gz",
    }


def _plans() -> dict[str, object]:
    resampling = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": False}
    configuration = {
        "data_identifier": "phantoms",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 1,
        "patch_size": list(PATCH),
        "spacing": [SPACING_MM] * 3,
        "median_image_size_in_voxels": list(PATCH),
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": resampling | {"is_seg": True},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": resampling,
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": _ARCHITECTURE,
            "_kw_requires_import": _REQUIRE_IMPORT,
        },
        "batch_dice": False,
    }
    # read only by normalisations other than the z-score
    names = ("mean", "std", "min", "max", "median", "percentile_00_5", "percentile_99_5")
    return {
        "dataset_name": "Dataset001_Phantoms",
        "plans_name": "phantomPlans",
        "original_median_spacing_after_transp": [SPACING_MM] * 3,
        "original_median_shape_after_transp": list(PATCH),
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "none",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": dict.fromkeys(names, 1.0)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", required=True, type=Path, help="folder, e.g. demo/hd_bet")
    parser.add_argument("--seed", type=int, default=2023, help="keep it apart from the demo's phantom seed")
    parser.add_argument("--heads", type=int, default=70, help="training scans")
    parser.add_argument("--steps", type=int, default=200)
    args = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    heads = training_heads(args.seed, args.heads)
    network = train_extractor(heads, args.seed, args.steps)
    path = write_parameters(network, args.output)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    run_program(main)
