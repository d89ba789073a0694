"""Where data lie that are not part of the project: `UADBENCH_SHARED`, or the folder `shared` beside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

from places import ROOT

SHARED = Path(os.environ.get("UADBENCH_SHARED", ROOT.parent / "shared"))
