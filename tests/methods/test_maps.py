"""Maps that another program made: where they are, what is refused, which options reach the program."""

import re
import shlex

import numpy as np
import pytest

from uad.common.errors import InputError
from uad.common.files import sha256_of
from uad.methods import Scan, load_method

MAPS = load_method("maps")


SHAPE = (3, 5, 4)
SCAN = Scan("s1", np.zeros(SHAPE, np.float32), np.ones(SHAPE, bool), np.zeros(SHAPE, np.uint8))


def write_rows(folder, rows):
    """A table of maps as any program would write it."""
    lines = ["\t".join(row) for row in [("cohort", "subject", "file", "sha256"), *rows]]
    (folder / "t2.tsv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def listed(tmp_path):
    """A method with a table of two maps of the same subject name in two cohorts; the map of wmh is twice as large."""
    values = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    rows = []
    for factor, cohort in enumerate(("ixi", "wmh"), start=1):
        np.save(tmp_path / f"{cohort}.npy", factor * values)
        rows.append((cohort, "s1", f"{cohort}.npy", sha256_of(tmp_path / f"{cohort}.npy")))
    write_rows(tmp_path, rows)
    method = MAPS(MAPS.Params(table=str(tmp_path / "{modality}.tsv")))
    return method, values, rows, tmp_path


def map_of(method, cohort):
    method.enter(cohort, "t2", 0)
    return method.draw(SCAN, np.random.default_rng(0))


def test_a_table_says_where_the_maps_are(listed):
    method, values, _, folder = listed
    assert np.array_equal(map_of(method, "ixi"), values) and np.array_equal(map_of(method, "wmh"), 2 * values)
    assert not method.per_fold and method.input_files(["ixi", "wmh"], "t2", 0) == [str(folder / "t2.tsv")]


def test_a_table_that_does_not_fit_is_refused(listed):
    method, values, rows, folder = listed
    with pytest.raises(InputError, match=r"t2.tsv: lists no map of s1 \(atlas\)"):
        map_of(method, "atlas")
    np.save(folder / "ixi.npy", values + 1)
    with pytest.raises(InputError, match=r"ixi.npy: changed since .*t2.tsv was written"):
        map_of(method, "ixi")
    (folder / "ixi.npy").unlink()
    with pytest.raises(InputError, match=r"ixi.npy: missing, though .*t2.tsv lists it"):
        map_of(method, "ixi")
    write_rows(folder, [*rows, rows[1]])
    with pytest.raises(InputError, match="lists s1 of wmh twice"):
        map_of(method, "wmh")
    (folder / "t2.tsv").write_text("subject\tfile\ns1\twmh.npy\n")
    with pytest.raises(InputError, match="columns must be cohort, subject, file, sha256, not subject, file"):
        map_of(method, "wmh")
    (folder / "t2.tsv").unlink()
    with pytest.raises(InputError, match=r"t2\.tsv: does not exist"):
        map_of(method, "wmh")


@pytest.mark.parametrize("name", ["s1.npy", "s1.nii.gz"])
def test_a_damaged_map_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"no array at all")
    with pytest.raises(InputError, match=f"{name}: cannot be read"):
        map_of(MAPS(MAPS.Params(folder=str(tmp_path))), "ixi")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "name either"),
        ({"folder": "a", "table": "{modality}"}, "name either"),
        ({"table": "maps.tsv"}, "its path holds {modality}"),
        ({"table": "{modality}/{cohort}.tsv"}, "not {cohort}"),
        ({"folder": "a/{chort}"}, "{chort} is not known, only {results}, {arm}, {cohort}, {modality}, {fold}"),
        ({"folder": "a", "options": {"k": 1}}, "are for the program that makes a `table`"),
        ({"table": "{modality}", "options": {"k": [1]}}, "options"),
    ],
)
def test_a_wrong_source_is_refused_before_anything_runs(params, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        MAPS.Params(**params)


def test_options_reach_the_program_as_they_are():
    options = {"components": 8, "rate": 1e-3, "name": "a b; rm $HOME"}
    arguments = MAPS(MAPS.Params(table="{modality}", options=options)).arguments()
    assert shlex.split(arguments) == ["--components", "8", "--rate", "0.001", "--name", "a b; rm $HOME"]
