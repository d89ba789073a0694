"""A hint for a target that no rule makes: did you mean ...?"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Collection


def hint(target: str, rules: Collection[str], run: str, arms: Collection[str]) -> str:
    """The hint as one line.

    Args:
        target: as given on the command line.
        rules: names of all rules.
        run, arms: of the configuration.
    """
    if "/" not in target:
        close = difflib.get_close_matches(target, rules, n=1)
        meant = f"did you mean '{close[0]}'? " if close else ""
        return (
            f"{meant}A target is packed, plan, parity, scores, the name of another rule, or a file below results/{run}"
        )
    _, _, rest = target.partition(f"results/{run}/")
    if not rest:
        return f"This configuration makes files below results/{run}; give the other run's overlay, or correct the path"
    wrong = [part for part in rest.split("/")[1:2] if part not in arms]
    close = difflib.get_close_matches(wrong[0], arms, n=1) if wrong else []
    meant = f"did you mean '{close[0]}'? " if close else ""
    return f"{meant}The arms of this configuration are {', '.join(arms)}; docs/formats.md lists the files of a run"


class TargetHint(logging.Filter):
    """Adds the hint to Snakemake's message."""

    def __init__(self, rules: Collection[str], run: str, arms: Collection[str]) -> None:
        super().__init__()
        self._known = (rules, run, arms)

    def filter(self, record: logging.LogRecord) -> bool:
        found = re.search(r"No rule to produce (\S+)", record.getMessage())
        if found:
            record.msg, record.args = f"{record.getMessage()}\n{hint(found[1], *self._known)}", ()
        return True
