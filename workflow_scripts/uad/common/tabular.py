"""Tables as text files: the one place where the project reads and writes them.

A cell is text unless its column is asked for as numbers: ids such as `001`, `1.0`, `NA` or `null` stay what they are.
Our tables are UTF-8; those of other people may have other encodings.
"""

from __future__ import annotations

import codecs
import io
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from uad.common.errors import InputError
from uad.common.files import atomic_path

if TYPE_CHECKING:  # the Snakefile imports modules that import this one
    import pandas as pd

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SEPARATORS = {".csv": ","}  # any other name: tab


def read_table(
    path: str | Path, *, numbers: Collection[str] = (), integers: Collection[str] = (), missing: Collection[str] = ()
) -> pd.DataFrame:
    """A table with a head line; every cell is text and empty cells are "", except in the named columns.

    Args:
        path: `.csv` is separated by commas, anything else by tabs.
        numbers: columns that become float; empty cells are NaN. A name that the table lacks is ignored.
        integers: columns that become int.
        missing: words that stand for an empty cell, e.g. `n/a` of BIDS.

    Raises:
        InputError: no such file, no text, rows that do not fit the head line, or a cell that is not a number.
    """
    import pandas as pd

    text = read_text(path)
    separator = _SEPARATORS.get(Path(path).suffix, "\t")
    try:
        with warnings.catch_warnings():
            # where every row is longer than the head line, pandas only warns and drops what is over
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(io.StringIO(text), sep=separator, dtype=str, keep_default_na=False, index_col=False)
    except (ValueError, pd.errors.ParserWarning) as error:  # the parser's errors are ValueErrors
        raise InputError(f"{path}: cannot be read as a table ({str(error).strip().splitlines()[0]})") from error
    table = table.fillna("")  # rows that are shorter than the head line
    if missing:
        table = table.replace(list(missing), "")
    for column in [*numbers, *integers]:
        if column not in table:
            continue
        try:
            values = pd.to_numeric(table[column].replace("", None))
            table[column] = values.astype(int if column in integers else float)
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}: column {column} holds something that is not a number ({error})") from error
    return table


def read_text(path: str | Path) -> str:
    """The text of a file that a person may have written: UTF-8 or UTF-16 by its mark, UTF-8, or else Windows-1252.

    Raises:
        InputError: the file cannot be opened, or holds bytes that are not text.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path}: does not exist; run the stage that writes it, or correct the path") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), None)
    for candidate in [encoding] if encoding else ["utf-8", "cp1252"]:
        try:
            text = content.decode(candidate)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise InputError(f"{path}: is not text in UTF-8, UTF-16 or Windows-1252; save it as UTF-8")


def write_table(table: pd.DataFrame, path: str | Path, *, float_format: str | None = None) -> None:
    """Write a table atomically as UTF-8 with Unix newlines; the same table gives the same bytes.

    Args:
        path: `.csv` is separated by commas, anything else by tabs.
        float_format: of numbers, e.g. `%.6g`; default: as many digits as each needs.
    """
    separator = _SEPARATORS.get(Path(path).suffix, "\t")
    with atomic_path(path) as temporary:
        table.to_csv(temporary, sep=separator, index=False, float_format=float_format, lineterminator="\n")
