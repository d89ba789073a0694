"""The README's table and the demo's: what counts as the same, and what is written."""

import subprocess
import sys

import pytest
from PIL import Image
from places import ROOT
from readme_table import BEGIN, END, FIXED, cells_of, compare, parts_of, table_of

from uad.config.load import load

HEAD = "| Arm | ENS | SSL | BraTS21 (T2)<br>Dice (%) | ATLAS (T1)<br>Dice (%) |\n| --- | :-: | :-: | --: | --: |\n"


def table(thresh="55.34<br>(19.69)", plain="52.22", ensemble="**56.00**", ssl="–"):
    return HEAD + (
        f"| Thresh |  |  | {thresh} | 0.85 |\n| cDDPM |  |  | {plain} | 1.43 |\n"
        f"| cDDPM | ✓ |  | {ensemble} | 2.32 |\n| cDDPM | ✓ | ✓ | {ssl} | 3 |\n"
    )


def readme(text):
    return f"# Title\n\n{BEGIN}\n\n{text}\n{END}\n\n| other | table |\n"


@pytest.fixture
def demo(tmp_path):
    """A made-up demo and README in a folder of their own."""
    (tmp_path / "results/tables").mkdir(parents=True)
    (tmp_path / "results/figures").mkdir()
    (tmp_path / "config.yaml").symlink_to(ROOT / "config.yaml")
    (tmp_path / "results/tables/table3.md").write_text(table() + "\nA note. | no table\n")
    Image.new("RGB", (2200, 1000), "red").save(tmp_path / "results/figures/fig6.png")
    return tmp_path


def run(folder, *arguments):
    program = [sys.executable, ROOT / "tools/readme_table.py", "--results", "results"]
    return subprocess.run([*program, "--picture", "demo.png", *arguments], cwd=folder, capture_output=True, text=True)


def test_our_numbers_are_read_without_the_papers_and_without_stars():
    cells = cells_of(table_of(table()))
    assert cells["Thresh", "BraTS21 (T2)<br>Dice (%)"] == 55.34
    assert cells["cDDPM ENS", "BraTS21 (T2)<br>Dice (%)"] == 56
    assert cells["cDDPM ENS SSL", "ATLAS (T1)<br>Dice (%)"] == 3 and len(cells) == 8


@pytest.mark.parametrize(
    ("change", "differences"),
    [
        ({}, 0),
        ({"thresh": "55.44"}, 0),
        ({"thresh": "55.48"}, 1),
        ({"plain": "77.2"}, 0),
        ({"plain": "77.3"}, 1),
        ({"plain": "26.9", "ensemble": "81.5"}, 2),
        ({"ssl": "1.00"}, 1),  # it had no value
        ({"plain": "–"}, 1),
    ],
)
def test_rows_without_training_agree_closely_and_the_others_within_the_stated_band(demo, change, differences):
    (demo / "README.md").write_text(readme(table(**change)))
    before = (demo / "README.md").read_text()
    done = run(demo, "--check")
    assert done.returncode == (differences > 0), done.stderr
    assert len(done.stdout.splitlines()) == differences
    assert ("its table is not this demo's" in done.stderr) == (differences > 0)
    assert (demo / "README.md").read_text() == before and not (demo / "demo.png").exists()


def test_a_row_that_one_table_lacks_is_named():
    with_it = cells_of(table_of(table()))
    without = {key: value for key, value in with_it.items() if key[0] != "cDDPM ENS"}
    assert len(compare(without, with_it, set())) == len(compare(with_it, without, set())) == 2
    assert "cDDPM ENS, " in compare(without, with_it, set())[0]


def test_the_table_and_the_picture_are_written_and_the_rest_stays(demo):
    (demo / "README.md").write_text(readme(table(plain="1.00", thresh="2.00")))
    done = run(demo)
    assert done.returncode == 0, done.stderr
    assert (demo / "README.md").read_text() == readme(table())
    assert Image.open(demo / "demo.png").size == (1100, 500)
    assert run(demo, "--check").returncode == 0


def test_a_readme_without_the_marks_is_refused(demo):
    (demo / "README.md").write_text("# Title\n" + table())
    done = run(demo)
    assert done.returncode == 1 and done.stderr.startswith("error: README.md: must hold the line")


def test_the_readme_of_the_project_has_a_table_with_every_arm_of_the_demo():
    arms = load(ROOT / "config.yaml", ROOT / "demo/config.yaml").arms
    _, shown, _ = parts_of((ROOT / "README.md").read_text())
    rows = {row.removesuffix(" SSL").removesuffix(" ENS") for row, _ in cells_of(table_of(shown))}
    assert {arm.label for arm in arms.values()} == rows and set(FIXED) < set(arms)
