"""The tables of the real study in the README and docs/real-scans.md are those of the scores that are kept."""

import re

import pandas as pd
import pytest
from places import ROOT
from real_study import DIFFERENCES, FOLDER, PAGE, README, TABLE, Study, pages

SCORES = pd.read_parquet(ROOT / FOLDER / "scores.parquet")


@pytest.fixture(scope="module", autouse=True)
def at_the_root():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        yield


def rows_below(page, marker):
    """First cell -> other cells of the table below a marker."""
    text = (ROOT / page).read_text().split(marker)[1].split("<!-- end")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    columns = zip(*(row[1:] for row in rows[2:]), strict=True)
    return dict(zip(rows[0][1:], columns, strict=True)), [row[0] for row in rows[2:]]


def test_the_pages_are_up_to_date():
    for page, text in pages(Study(SCORES)).items():
        assert text == page.read_text(), f"{page}: run tools/real_study.py"


@pytest.mark.parametrize("page", [PAGE, README])
def test_a_cell_is_the_mean_over_test_scans(page):
    columns, names = rows_below(page, TABLE)
    dice = dict(zip(names, columns["gliomas<br>Dice"], strict=True))
    gliomas = SCORES[(SCORES["cohort"] == "lgg") & (SCORES["split"] == "test") & (SCORES["variant"] == "full")]
    for name, arm, reading in [("DDPM", "ddpm", "500"), ("cDDPM", "cddpm", "500"), ("cDDPM, ensemble", "cddpm", "ens")]:
        chosen = gliomas[(gliomas["arm"] == arm) & (gliomas["t_test"] == reading)]
        assert float(re.match(r"[\d.]+", dice[name])[0]) == pytest.approx(100 * chosen["dice"].mean(), abs=0.051)


def test_a_difference_is_that_of_the_means():
    columns, names = rows_below(PAGE, DIFFERENCES)
    gliomas = SCORES[(SCORES["cohort"] == "lgg") & (SCORES["t_test"] == "500")].groupby("arm")["auprc"].mean()
    wanted = [i for i, name in enumerate(names) if name == "cDDPM − DDPM"]
    (row,) = (i for i in wanted if columns["on"][i] == "gliomas" and columns["metric"][i].startswith("AUPRC"))
    found = float(re.match(r"-?[\d.]+", columns["mean [95 %] over people"][row])[0])
    assert found == pytest.approx(100 * (gliomas["cddpm"] - gliomas["ddpm"]), abs=0.051)
    assert int(columns["n"][row]) == SCORES[SCORES["cohort"] == "lgg"]["subject"].nunique()
