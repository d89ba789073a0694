"""What `--profile slurm` needs on this machine."""

from __future__ import annotations

import shutil
from collections.abc import Collection

_UNEDITED = "CHANGE-ME"


def missing_for_slurm(accounts: Collection[str | None]) -> list[str]:
    """What is missing, one sentence each; empty when jobs can be submitted.

    Args:
        accounts: `slurm_account` of the jobs or of the profile; None: the cluster uses none.
    """
    missing = []
    if _UNEDITED in accounts:
        missing.append(
            f"slurm/config.yaml: slurm_account is still {_UNEDITED}; write your account there, or delete the line "
            "where none is in use (EDIT 1)"
        )
    if shutil.which("sbatch") is None:
        missing.append("sbatch is not found here; start on a machine that submits jobs, usually the login node")
    return missing
