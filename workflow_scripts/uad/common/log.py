"""What a job says while it works: lines on stderr, which its rule shows and keeps in the job's log."""

from __future__ import annotations

import logging
from collections.abc import Callable


def job_log(job: str) -> Callable[[str], None]:
    """Takes the lines of a job; each begins with the job's name in brackets."""
    logger = logging.getLogger(f"uadbench.{job}")
    logger.propagate = False  # what other libraries log does not pass through here
    logger.setLevel(logging.INFO)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"[{job}] %(message)s"))
    logger.handlers = [handler]
    return logger.info
