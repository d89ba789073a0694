"""Blocks of settings and the types of their keys."""

from __future__ import annotations

import os
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

Probability = Annotated[float, Field(ge=0, le=1)]


def _number(value: Any) -> Any:
    """YAML 1.1 reads `1e-4` as a string; accept it as a number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def user_path(text: str) -> str:
    """A path as the user wrote it, with `~` replaced; it must fit into a table cell and a shell command."""
    if re.search(r"[\x00-\x1f\x7f]", text):
        raise ValueError("holds a line break or another control character; rename the folder")
    return os.path.expanduser(text)


def _no_braces(text: str) -> str:
    if re.search(r"[{}]", text):
        raise ValueError("holds a brace, which Snakemake reads as a wildcard; use a folder without { and }")
    return text


PositiveNumber = Annotated[float, BeforeValidator(_number), Field(gt=0)]
UserPath = Annotated[str, AfterValidator(user_path)]
RulePath = Annotated[UserPath, AfterValidator(_no_braces)]  # stands in the input or output of a rule


class Section(BaseModel):
    """A block of the configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)
