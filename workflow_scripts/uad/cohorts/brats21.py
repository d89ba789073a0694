"""BraTS 2021 Task 1 training data: glioma, skull-stripped and in SRI24 space."""

from __future__ import annotations

import re

from uad.cohorts.base import Adapter, Part
from uad.cohorts.promise import Promise


class Brats21(Adapter):
    """Case folders `BraTS2021_NNNNN` at the root (Kaggle), in one folder (Synapse), in collections (TCIA)."""

    name = "brats21"
    modalities = ("t1", "t2")
    expected_subjects = 1251
    stripped = True
    registered = True
    promise = Promise(
        shapes=((240, 240, 155),),
        affine=((-1, 0, 0, 0), (0, -1, 0, 239), (0, 0, 1, 0)),
        voxel_mm=(1, 1),
        firm=True,
        label_values=(1, 2, 4),
        meanings=((1, "necrotic core"), (2, "oedema"), (4, "enhancing tumour")),
    )
    parts = (
        Part(
            re.compile(
                r"(?:(?:^|/)BraTS2021_TrainingSet/(?P<collection>[^/]+)/|^|/)"
                r"(?P<subject>BraTS2021_\d{5})/(?P=subject)_(?P<kind>t1|t2|seg)\.nii\.gz$"
            ),
            (
                "BraTS2021_Training_Data.tar",
                "RSNA_ASNR_MICCAI_BraTS2021_TrainingData*.zip",
                "RSNA-ASNR-MICCAI-BraTS-2021*.zip",
                "RSNA-ASNR-MICCAI-BraTS-2021*.tar*",
                "brats-2021-task1.zip",
                "archive.zip",
            ),
            gigabytes=142,  # TCIA's package of both tasks, of which the NIfTI files are 13.4
            members=500_000,  # with the DICOM slices of task 2
        ),
    )
    kinds = {"t1": "t1", "t2": "t2", "seg": "label"}
    how_to_get = (
        "Place one of these in the cohort's raw folder: BraTS2021_Training_Data.tar (Kaggle, "
        "dschettler8845/brats-2021-task1), the Synapse zip (syn25829067), or the TCIA folder "
        "RSNA-ASNR-MICCAI-BraTS-2021 (doi 10.7937/jc8x-9874). Licence CC BY 4.0; cite Baid et al., "
        "arXiv 2107.02314."
    )

    def site_of(self, match: re.Match[str]) -> str:
        return match["collection"] or ""
