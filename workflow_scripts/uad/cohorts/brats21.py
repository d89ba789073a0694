"""BraTS 2021 Task 1 training data: glioma, skull-stripped and in SRI24 space."""

from __future__ import annotations

import re

from uad.cohorts.base import Adapter, Part


class Brats21(Adapter):
    """Case folders `BraTS2021_NNNNN` at the root (Kaggle), in one folder (Synapse), in collections (TCIA)."""

    name = "brats21"
    modalities = ("t1", "t2")
    expected_subjects = 1251
    stripped = True
    registered = True
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
