"""The configuration: one function per row of docs/bad-input.md makes the defect and runs into it."""

from __future__ import annotations

import errno
import os
import tempfile

import pytest
from bad_files import case, nifti, own

from uad.config import refuse_twice, resolve


@case
def key_twice(tmp_path):
    (tmp_path / "mine.yaml").write_text("cohorts:\n  wmh: null\ncohorts:\n  atlas: null\n")
    refuse_twice(tmp_path / "mine.yaml")


@case
def block_is_list(tmp_path):
    resolve({"cohorts": ["mine"]})


@case
def path_break(tmp_path):
    resolve({"data_dir": "a\nb", "cohorts": {}, "arms": {}})


@case
def path_brace(tmp_path):
    resolve({"data_dir": "{a}", "cohorts": {}, "arms": {}})


@case
def read_only(tmp_path):
    def refuse(*arguments, **options):  # root may write everywhere
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "mkstemp", refuse)
        own(tmp_path, nifti())
