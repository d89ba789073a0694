"""Where the atlas file is: SRI24 for the paper, the MNI152 map that nilearn ships for the demo."""

from __future__ import annotations

from pathlib import Path

from uad.common.errors import InputError
from uad.config.places import placed_sri24

_SRI24_HINT = (
    "download sri24_anatomy_nifti.zip from the NITRC project sri24 (CC BY-SA 3.0, cite Rohlfing et al. 2010), "
    "and unpack spgr.nii there, or set preprocess.atlas.image to a file"
)


def find_atlas(image: str, data_dir: str | Path) -> Path:
    """The template behind `preprocess.atlas.image`: `sri24`, `mni152` or the path of a NIfTI file.

    Raises:
        InputError: the file is not there; says how to get it.
    """
    if image == "mni152":
        import nilearn

        return Path(nilearn.__file__).parent / "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
    if image == "sri24":
        found = placed_sri24(data_dir)
        if found is None:
            raise InputError(f"{Path(data_dir) / 'sri24'}: no SRI24 template here; {_SRI24_HINT}")
        return found
    if not Path(image).exists():
        raise InputError(f"{image}: this atlas does not exist; correct preprocess.atlas.image")
    return Path(image)
