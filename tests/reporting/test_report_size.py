"""The report of a run as large as the paper's: it opens at once, and its folder stays small.

The numbers are made up, 1,900 test scans in 13 arms with two readings each and five folds.  The viewer's volumes are
made of one scan and multiplied: writing all of them would take minutes.
"""

import numpy as np
import pandas as pd
import pytest
import test_report_browser as browsers

import made_up_run as run  # isort: skip
from uad.config.model import ReportSettings
from uad.reporting.page import build, scans

pytestmark = browsers.pytestmark
SCANS, ARMS, FOLDS = 1900, 13, 5
READINGS = ("500", "ens")
PLACES, WITH_LESIONS = 6, 4  # IXI in T1 and T2; BraTS21, MSLUB, ATLAS, WMH
SHAPE = (50, 96, 96)  # Z, Y, X on the packed grid
OPENS_S, FOLDER_MB = 3, 300


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    results = tmp_path_factory.mktemp("large") / "made-up"
    inputs = run.write_run(results)
    subjects = [*run.SCANS, *(f"sub-{number:04d}" for number in range(SCANS - len(run.SCANS)))]
    _enlarge_store(results / "store", subjects)
    arms = [{**run.ARMS[0], "arm": f"arm{place}", "label": f"Arm {place}"} for place in range(ARMS)]
    rows = _rows([arm["arm"] for arm in arms], subjects)
    rows.to_parquet(inputs["scores"][0], index=False)
    inputs["viewer"] = [_same_kept(results, arm["arm"]) for arm in arms]
    settings = {**run.SETTINGS, "arms": arms, "folds": FOLDS, "healthy": []}
    long = pd.read_csv(results / "tables" / "table3.csv").assign(arm="arm0")
    long.to_csv(results / "tables" / "table3.csv", index=False)
    build.build_report(settings, build.Inputs(**inputs), results / "report", lambda line: None)
    return results / "report"


def _enlarge_store(store, subjects):
    for kind in ("images", "masks", "labels"):
        file = store / f"brats21_t2.{kind}.npy"
        np.save(file, np.resize(np.load(file), (len(subjects), *run.SHAPE)))
    index = {"row": range(len(subjects)), "subject": subjects, "site": "Plain", "scanner": "", "age": 40}
    pd.DataFrame({**index, "lesion_ml": 5.0}).to_csv(store / "brats21_t2.tsv", sep="\t", index=False)


def _rows(arms, subjects):
    """One row per arm, reading, fold and scan; the scores are random."""
    keys = pd.MultiIndex.from_product([arms, READINGS, range(FOLDS), subjects])
    rows = keys.to_frame(index=False, name=["arm", "t_test", "fold", "subject"])
    like = run.score_rows().query("cohort == 'brats21' and split == 'test'").iloc[0]
    constant = {name: value for name, value in like.items() if name not in rows}
    draws = np.random.default_rng(0)
    scores = ("dice", "auprc", "lesion_ml", "predicted_ml", "false_positive_ml", "false_positives")
    return rows.assign(**{**constant, **{name: draws.random(len(rows)) for name in scores}})


def _same_kept(results, arm):
    file = results / "viewer" / arm / "t2" / "fold0.npz"
    file.parent.mkdir(parents=True)
    file.write_bytes((results / "viewer" / "near" / "t2" / "fold0.npz").read_bytes())
    return file


def _brain_shaped():
    """An ellipsoid of random intensities that touches the box, half of its volume: [Z, Y, X]."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, size) for size in SHAPE), indexing="ij")
    return np.where(z**2 + y**2 + x**2 <= 1, np.random.default_rng(0).random(SHAPE, np.float32), 0)


def test_the_page_of_the_full_study_opens_at_once(folder):
    with browsers.chromium(*browsers.SOFTWARE_WEBGL) as browser:
        browser.get((folder / "index.html").as_uri())
        opened = browser.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd / 1000")
        assert 0 < opened < OPENS_S
        browser.execute_script("document.getElementById('scans').scrollIntoView()")
        wait = browsers.WebDriverWait(browser, OPENS_S, poll_frequency=0.1)
        wait.until(lambda _: browser.find_element("id", "scans-message").text == f"100 of {SCANS} scans")
        assert len(browser.find_elements("css selector", "#scans-table tbody tr")) == 100
        browser.find_element("id", "scans-more").click()
        assert len(browser.find_elements("css selector", "#scans-table tbody tr")) == 200


def test_the_folder_of_the_full_study_stays_small(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "volumes"]
    rest = sum(path.stat().st_size for path in files)
    image = len(scans.nifti_base64(_brain_shaped(), 2.0))  # label, mask and prediction are small beside it
    shown = ReportSettings().viewer_scans
    common = PLACES * shown * (1 + ARMS * len(READINGS))  # the scan, and each reading's reconstruction
    extremes = WITH_LESIONS * ARMS * 3 * 2  # worst, median and best: the scan and one reconstruction
    assert image > 250_000  # the random volumes are hard to compress
    assert rest + image * (common + extremes) < FOLDER_MB * 1e6
