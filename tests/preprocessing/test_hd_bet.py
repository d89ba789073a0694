"""HD-BET in this process: the same mask as nnU-Net's own file route, whatever the orientation of the scan.

The network is a toy with random weights in HD-BET's parameter format.
"""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import torch

from uad.common.errors import InputError
from uad.common.files import sha256_of
from uad.common.volumes import Volume, read_label, reorient, write_volume
from uad.preprocessing.hd_bet import HdBet, choose_device

ARCHITECTURE = {
    "n_stages": 2, "features_per_stage": [4, 8], "conv_op": "torch.nn.Conv3d", "kernel_sizes": [[3] * 3] * 2,
    "strides": [[1] * 3, [2] * 3], "n_conv_per_stage": [1, 1], "n_conv_per_stage_decoder": [1],
    "conv_bias": True,
    "norm_op": "torch.nn.InstanceNorm3d", "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "dropout_op": None, "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True},
}  # fmt: skip
RESAMPLING = {
    "resampling_fn_data": "resample_data_or_seg_to_shape",
    "resampling_fn_seg": "resample_data_or_seg_to_shape",
    "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
    "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
    "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
    "resampling_fn_probabilities_kwargs": {
        "is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def parameters(tmp_path_factory):
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    folder = tmp_path_factory.mktemp("hd_bet")
    kinds = {"conv_op": torch.nn.Conv3d, "norm_op": torch.nn.InstanceNorm3d, "nonlin": torch.nn.LeakyReLU}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = PlainConvUNet(1, num_classes=2, deep_supervision=True, **(ARCHITECTURE | kinds))
    checkpoint = {
        "trainer_name": "nnUNetTrainer", "init_args": {"configuration": "3d_fullres"},
        "network_weights": network.state_dict(), "inference_allowed_mirroring_axes": (0, 1, 2),
    }  # fmt: skip
    (folder / "fold_all").mkdir()
    torch.save(checkpoint, folder / "fold_all" / "checkpoint_final.pth")
    configuration = {
        "data_identifier": "toy", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2,
        "patch_size": [16] * 3,
        "spacing": [3.0] * 3, "normalization_schemes": ["ZScoreNormalization"], "use_mask_for_norm": [False],
        "batch_dice": False, **RESAMPLING,
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": ARCHITECTURE,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }  # fmt: skip
    plans = {
        "dataset_name": "toy", "plans_name": "toy", "original_median_spacing_after_transp": [3.0] * 3,
        "original_median_shape_after_transp": [20] * 3, "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration}, "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager", "foreground_intensity_properties_per_channel": {"0": {}},
    }  # fmt: skip
    dataset = {
        "channel_names": {"0": "MRI"}, "labels": {"background": 0, "brain": 1}, "numTraining": 1,
        "file_ending": ".nii.gz",
    }  # fmt: skip
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    return folder


@pytest.fixture
def scan():
    """A lopsided object in LPS orientation ("RAI") with three voxel sizes."""
    data = np.random.default_rng(0).normal(10, 2, (18, 22, 14)).astype(np.float32)
    data[3:9, 4:16, 2:11] += 100
    return Volume(data, np.diag([-3.0, -2.5, 4.0, 1.0]))


def test_same_mask_as_from_files(parameters, scan, tmp_path):
    digest = sha256_of(parameters / "fold_all" / "checkpoint_final.pth")
    hd_bet = HdBet(str(parameters), digest, False, "cpu", threads=1)
    mask = hd_bet.mask(scan)
    assert mask.dtype == np.uint8
    assert 0 < mask.mean() < 1  # a mask that says something

    upright = reorient(scan, "LPI")
    assert nib.aff2axcodes(upright.affine) == ("R", "A", "S")  # as HD-BET's readme asks
    write_volume(tmp_path / "scan.nii.gz", upright)
    files = [[str(tmp_path / "scan.nii.gz")]], [str(tmp_path / "mask.nii.gz")]
    hd_bet._predictor.predict_from_files_sequential(*files)
    expected = read_label(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(reorient(scan.with_data(mask), "LPI").data, expected.data)

    mirrored = reorient(scan, "ARS")
    np.testing.assert_array_equal(
        reorient(mirrored.with_data(hd_bet.mask(mirrored)), "RAI").data, mask
    )  # how the file stores the scan does not matter


def test_torch_keeps_the_threads_it_was_given(parameters):
    HdBet(str(parameters), None, False, "cpu", threads=1)
    assert torch.get_num_threads() == 1


def test_cuda_without_a_gpu():
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    assert choose_device("auto") == "cpu"
    with pytest.raises(InputError, match="cuda is not available"):
        choose_device("cuda")
