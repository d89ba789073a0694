"""The reproduction report: bands, misses, order and protocol choices, worked out by hand or from the paper."""

import math

import pandas as pd
import pytest
import yaml
from places import ROOT

from uad.config import resolve
from uad.config.protocols import CHOICES
from uad.reporting.comparison import compare, orders
from uad.reporting.markdown import render_part
from uad.reporting.paper_numbers import PAPER_MODALITY, paper_tables
from uad.reporting.protocol_text import choices_parts, value_in_force
from uad.reporting.reproduction import About, reproduction_report
from uad.reporting.tables import COLUMNS

MODELS = ["Thresh", "AnoGAN", "VAE", "SVAE", "AE", "DAE", "DDPM", "pDDPM", "cDDPM"]


def arm(name, paper_model="", ssl=False):
    return {"arm": name, "method": name, "paper_model": paper_model, "ssl": ssl, "control": False, "label": name}


ARMS = [*(arm(model.lower(), model) for model in MODELS), arm("cddpm-ssl", "cDDPM", ssl=True)]


def long_table(number, arms=ARMS, change=lambda cell: cell.mean):
    """A long table whose means are the paper's, changed; only rows that an arm stands for.

    A paper row of Table 2 without pre-training goes to the arm without it.
    """
    names = {(entry["paper_model"], str(int(entry["ssl"]))): entry["arm"] for entry in arms if entry["paper_model"]}
    paper = paper_tables()
    rows = []
    for cell in paper[paper["table"] == str(number)].itertuples():
        name = names.get((cell.model, cell.ssl or "0"))
        if name is None:
            continue
        mean = change(cell)
        rows.append({
            **dict.fromkeys(COLUMNS, math.nan), "arm": name, "ens": int(cell.ens), "ssl": int(cell.ssl or 0),
            "removed": cell.removed, "cohort": cell.cohort, "modality": PAPER_MODALITY[cell.cohort],
            "metric": cell.metric, "mean": mean, "status": "missing" if math.isnan(mean) else "ok", "n_folds": 1,
            "n_undefined": 0, "missing_folds": "", "star": 0, "lpips_backbone": "", "against": "", "band": "",
        })  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


SIZES = pd.DataFrame([
    {"cohort": "wmh", "modality": "t1", "kind": "pathological", "fold": 0, "split": split, "scans": scans,
     "excluded": 0, "excluded_subjects": "", "paper": paper}
    for split, scans, paper in (("train", 0, math.nan), ("val", 15, 15), ("test", 44, 45), ("unused", 0, math.nan))
])  # fmt: skip


@pytest.fixture(scope="module")
def config():
    """The full study as plain types."""
    return resolve(yaml.safe_load((ROOT / "config.yaml").read_text())).model_dump(mode="json")


PAPERS = ("ixi", "brats21", "mslub", "atlas", "wmh")


def report_of(tables, config, arms=ARMS, phantom=False, papers=PAPERS):
    return reproduction_report({1: SIZES, **tables}, arms, About("full", "clean", phantom, papers, config))


def section(text, title):
    return text.split(f"## {title}")[1].split("\n## ")[0]


# --- cells ----------------------------------------------------------------------------------------


def test_the_papers_own_numbers_are_all_inside():
    comparison = compare({number: long_table(number) for number in (2, 3, 4)}, ARMS)
    assert comparison.groupby("table")["state"].value_counts().to_dict() == {
        (2, "within"): 56, (3, "within"): 104, (4, "within"): 48,
    }  # fmt: skip
    assert (comparison["difference"] == 0).all()
    assert [order.tau for order in orders(comparison)] == pytest.approx([1.0] * 8)


def test_every_cell_is_inside_outside_or_not_run():
    def change(cell):
        if cell.model == "DAE":
            return math.nan
        return cell.mean + (8 if cell.model == "AE" and cell.metric == "dice" else 0)

    arms = [entry for entry in ARMS if entry["arm"] not in ("anogan", "cddpm-ssl")]
    comparison = compare({3: long_table(3, arms, change)}, arms)
    assert len(comparison) == 208  # the paper's cells, answered or not
    three = comparison[comparison["table"] == 3].set_index(["row", "cohort", "metric"])
    assert three.loc[("AE", "brats21", "dice"), ["state", "half"]].tolist() == ["outside", 3.88]
    assert three.loc[("AE", "brats21", "dice"), "miss"] == pytest.approx(8 / 3.88)
    assert three.loc[("AE", "brats21", "auprc"), "state"] == "within"
    whys = three[three["state"] == "not run"].groupby("row", sort=False)["why"].unique()
    assert {row: list(why) for row, why in whys.items()} == {
        "AnoGAN": ["no arm of the run stands for this row"],
        "DAE": ["the arm has no scores"],
        "cDDPM SSL": ["no arm of the run stands for this row"],
        "cDDPM ENS SSL": ["no arm of the run stands for this row"],
    }
    others = comparison[comparison["table"] != 3]
    assert set(others["why"]) == {"the table was not asked for"} and set(others["state"]) == {"not run"}


def test_cohorts_that_are_absent_are_named():
    table = long_table(3)
    comparison = compare({3: table[table["cohort"] != "wmh"]}, ARMS)
    wmh = comparison[(comparison["table"] == 3) & (comparison["cohort"] == "wmh")]
    assert set(wmh["why"]) == {"WMH (T1) is not in the run"}


def test_two_arms_may_answer_one_cell():
    """Table 2 does not say which cDDPM it shows: both stand beside it."""
    table = long_table(2)
    both = pd.concat([table, table[table["arm"] == "cddpm"].assign(arm="cddpm-ssl", ssl=1, mean=0.0)])
    cells = compare({2: both}, ARMS).query("table == 2 and row == 'cDDPM ENS' and metric == 'ssim'")
    assert list(cells["arm"]) == ["cddpm", "cddpm-ssl"] and list(cells["state"]) == ["within", "outside"]


# --- order ----------------------------------------------------------------------------------------


def test_order_needs_a_tau_of_four_fifths_on_brats():
    """Swapping neighbours turns one of the 13 * 12 / 2 pairs: tau falls by 2 / 78 each."""
    dice = paper_tables().query("table == '3' and metric == 'dice' and cohort == 'brats21'")
    ranked = list(dice["mean"].sort_values())

    def verdict(turned):
        """The lowest rows in reverse order: n rows turn n (n - 1) / 2 pairs."""
        places = dict(zip(ranked, [*reversed(ranked[:turned]), *ranked[turned:]], strict=True))

        def change(cell):
            return places[cell.mean] if (cell.cohort, cell.metric) == ("brats21", "dice") else cell.mean

        found = orders(compare({3: long_table(3, change=change)}, ARMS))
        return next(order for order in found if (order.cohort, order.metric) == ("brats21", "dice"))

    four, five = verdict(4), verdict(5)
    assert (four.tau, four.verdict) == (pytest.approx(1 - 12 / 78), "reproduced")
    assert (five.tau, five.verdict) == (pytest.approx(1 - 20 / 78), "not reproduced")
    assert (four.rows, four.printed) == (13, 13)


def test_order_is_over_the_rows_that_were_run():
    arms = [arm("ae", "AE"), arm("vae", "VAE"), arm("thresh", "Thresh")]
    found = orders(compare({3: long_table(3, arms, lambda cell: -cell.mean)}, arms))
    mslub = next(order for order in found if (order.cohort, order.metric) == ("mslub", "dice"))
    assert (mslub.rows, mslub.tau, mslub.verdict) == (3, -1.0, "")
    two = orders(compare({3: long_table(3, arms[:2])}, arms[:2]))
    assert all(math.isnan(order.tau) and order.verdict == "" for order in two)


# --- text -----------------------------------------------------------------------------------------


def test_misses_come_first_and_largest_first(config):
    shift = {"AE": 8.0, "VAE": 50.0}  # of 3.88 and of 2.52: 2.1 and 19.8 bands

    def change(cell):
        return cell.mean + shift.get(cell.model, 0) * (cell.metric == "dice" and cell.cohort == "brats21")

    text = report_of({3: long_table(3, change=change)}, config)
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert titles[:4] == ["## In short", "## Misses: outside the band (2)", "## Not run (104)",
                          "## Inside the band (102)"]  # fmt: skip
    misses = section(text, "Misses")
    assert misses.index("| VAE |") < misses.index("| AE |")
    assert "| 3 | VAE | vae | BraTS21 (T2) | Dice (%) | 78.81 | 28.81 ± 1.26 | ≠ +50.00 | ± 2.52 |" in misses
    assert "Rows of Table 3 missed (Dice outside the band on at least one cohort): VAE, AE." in text
    assert "| Table 3 | 102 | 2 | 0 |" in text and "| Table 4 | 0 | 0 | 48 |" in text
    assert "≈ +0.00" in section(text, "Inside") and "phantom" not in text.lower().split("## protocol")[0]
    assert "| WMH (T1) | pathological | – | 15 (15) | 44 (45) | 0 | – |" in section(text, "Sizes")


def test_a_run_that_reproduces_everything_says_so(config):
    text = report_of({number: long_table(number) for number in (2, 3, 4)}, config)
    assert "## Misses: outside the band (0)\n\nNone." in text and "## Not run (0)\n\nNone." in text
    assert "Order of the arms on BraTS21 **reproduced**: Kendall's tau of Dice is 1.00" in text
    assert "missed (Dice outside the band on at least one cohort): none." in text


def test_missing_folds_and_empty_volumes_are_told(config):
    table = long_table(3)
    table.loc[table["arm"] == "ae", ["missing_folds", "status"]] = ["1;3", "partial"]
    table.loc[table["cohort"] == "atlas", "n_undefined"] = 4
    left_out = section(text := report_of({3: table}, config), "Volumes and folds left out")
    assert "- ae: no scores of fold 1, 3 in 8 cells." in left_out
    assert "- ATLAS (T1): 4 test volumes without a lesion voxel have no Dice and no AUPRC." in left_out
    table.loc[table["metric"] == "dice", "n_undefined"] = 0  # where their Dice counts as 0
    assert "- ATLAS (T1): 4 test volumes without a lesion voxel have no AUPRC." in report_of({3: table}, config)
    assert "31.51 ± 1.94" in text and "† ae: missing folds: 1;3." in text


@pytest.mark.parametrize(("phantom", "words"), [(True, "These are phantoms"), (False, "No cohort of this run")])
def test_what_is_not_the_papers_data_is_not_compared(config, phantom, words):
    text = report_of({3: long_table(3)}, config, phantom=phantom, papers=())
    assert f"**{words}" in text and "## In short" not in text and "## Misses" not in text
    assert "## Protocol choices in force" in text and "31.51" not in text


def test_only_cohorts_with_the_papers_data_are_compared(config):
    text = report_of({3: long_table(3)}, config, papers=("ixi", "brats21"))
    assert "WMH (T1) is not in the run" in section(text, "Not run")
    assert "BraTS21 (T2)" in section(text, "Inside the band") and "WMH" not in section(text, "Inside the band")


# --- protocol -------------------------------------------------------------------------------------


def choices_of(protocol, config):
    return "\n\n".join(map(render_part, choices_parts(protocol, config)))


def test_choices_are_those_the_resolved_configuration_has(config):
    text = choices_of("clean", config)
    assert "departs from protocol clean nowhere" in text
    for choice in CHOICES:
        assert f"| `{choice.key}` |" in text
    changed = choices_of("authors", config)
    head = changed.split("As the protocol has them:")[0]
    assert '| `preprocess.registration.label_interpolation` | `"nearestNeighbor"` | `"linear"` |' in head
    assert "`postprocess.order`" not in head  # the same in both


def test_value_in_force_of_a_key_that_is_not_set():
    assert value_in_force({"a": {"b": 3}}, "a.b") == 3
    assert value_in_force({"a": {"b": 3}}, "a.c") is None and value_in_force({"a": 1}, "a.b") is None
