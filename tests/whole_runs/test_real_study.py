"""Ten real scans with the settings of the real study, from the `folder` adapter to Table 3.

The scans are not part of the project: IXI (CC BY-SA 3.0), TCGA-LGG (CC BY 3.0) in the release of Buda et al. 2019,
stroke masks of OpenNeuro ds004889 (CC0).
"""

import numpy as np
import pandas as pd
import pytest
from places import ROOT
from real_data import SHARED
from small_run import CONFIG, Bench

REAL = SHARED / "data" / "real"
ATLAS = SHARED / "data" / "sri24" / "spgr.nii.gz"
WANTED = {"ixi-hh": 6, "lgg": 4}
SCANS = WANTED | {"planted": 2}  # into the two test scans of ixi-hh

pytestmark = [
    pytest.mark.whole_run,
    pytest.mark.skipif(
        not all((REAL / name).is_dir() for name in (*WANTED, "stroke-masks")) or not ATLAS.is_file(),
        reason=f"real scans are not at {REAL} (not part of the project)",
    ),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The results of a run on the first subjects of both cohorts."""
    bench = Bench(tmp_path_factory.mktemp("real"), "few")
    for name, count in WANTED.items():
        for subject in sorted(path.name for path in (REAL / name).glob("sub-*"))[:count]:
            for place in (f"{name}/{subject}", f"{name}/derivatives/{subject}"):
                link = bench.folder / "data" / "raw" / place
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(REAL / place)
    masks = bench.folder / "data" / "raw" / "stroke-masks"
    masks.mkdir()
    for path in sorted((REAL / "stroke-masks").glob("*.nii.gz"))[100::20]:  # not the smallest, which 4 mm do not show
        (masks / path.name).symlink_to(path)
    bench.overlays.append(str(ROOT / "real" / "config.yaml"))
    bench.overlay({
        "run": "few", "folds": 1,
        "cohorts": {
            "ixi-hh": {"subjects": 6, "splits": {"train": 3, "val": 1, "test": 2}},
            "lgg": {"subjects": 4, "splits": {"val": 1, "test": 3}},
            "oasis": None,
            "planted": {"subjects": 2, "splits": {"val": 1, "test": 1}},
        },
        "sources": {"offline": True},
        "preprocess": {"atlas": {"image": str(ATLAS)}, "registration": {"iterations": [100, 50, 0, 0]}},
        "train": {"max_steps": 8, "validate_every": 4},
        "arms": dict.fromkeys(set(CONFIG["arms"]) - {"thresh", "ae", "oracle"}),
        "perceptual": {"weights": None, "sha256": None},
        "tables": {"permutation_rounds": 50, "ablation": False},
    })  # fmt: skip
    code, output = bench.run()
    assert code == 0, output
    return bench.results


def test_every_scan_is_on_the_atlas(results):
    for name, count in SCANS.items():
        quality = pd.read_csv(results / "preprocessed" / name / "quality.tsv", sep="\t")
        assert len(quality) == count and (quality["status"] == "ok").all()
        assert (quality["atlas_dice"] > 0.85).all()
        assert quality["brain_ml"].between(800, 2100).all()  # adults, with what deepbet counts as brain


def test_table_3_has_the_gliomas_and_the_planted_strokes(results):
    table = pd.read_csv(results / "tables" / "table3.csv")
    rows = pd.concat(pd.read_parquet(path) for path in results.glob("metrics/*/t1/fold0.parquet"))
    tested = rows[(rows["split"] == "test") & (rows["variant"] == "full")]
    assert set(tested["cohort"]) == set(SCANS)
    dice = tested[tested["cohort"] == "lgg"].groupby("arm")["dice"]
    assert (dice.count() == 3).all()
    assert dice.mean()["oracle"] == pytest.approx(1)
    assert 0 <= dice.mean()["thresh"] < 1 and np.isfinite(dice.mean()["ae"])
    assert table.to_csv().count("lgg") >= 3 and table.to_csv().count("planted") >= 3
    strokes = tested[(tested["cohort"] == "planted") & (tested["arm"] == "oracle")]
    assert (strokes["lesion_ml"] > 0).all() and strokes["dice"].mean() == pytest.approx(1)
