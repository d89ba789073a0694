"""Every row of docs/bad-input.md: the defect is made, and the message is the one that the table gives."""

from __future__ import annotations

import re

import bad_archives
import bad_configuration
import bad_folders
import bad_headers
import bad_maps
import bad_voxels
import pytest
from bad_files import CASES
from places import ROOT

from uad.common.errors import InputError

DOCUMENT = ROOT / "docs" / "bad-input.md"
ROWS = dict(re.findall(r"^\| ([a-z0-9-]+) \|[^|]*\| `([^`]+)` \|$", DOCUMENT.read_text(), re.MULTILINE))

SECTIONS = (bad_archives, bad_configuration, bad_folders, bad_headers, bad_maps, bad_voxels)  # fill CASES


def test_table_and_cases_belong_together():
    assert set(ROWS) == set(CASES)
    assert len(ROWS) >= 30
    rows = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| ") and "what is wrong" not in line]
    assert len(rows) == len(ROWS)  # no row escapes the pattern, no id is there twice


@pytest.mark.parametrize("name", ROWS)
def test_message(name, tmp_path):
    (tmp_path / "raw").mkdir()
    with pytest.raises(InputError) as error:
        CASES[name](tmp_path)
    message, *more = str(error.value).splitlines()
    assert not more or all(line.startswith("config: ") for line in more)  # one line per mistake
    place = 0
    for fragment in ROWS[name].split("…"):
        assert fragment in message[place:], message
        place = message.index(fragment, place) + len(fragment)
    assert not (tmp_path / "table.tsv").exists()
