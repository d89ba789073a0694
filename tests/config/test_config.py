"""The configuration: protocols, overlays, and one clear line per mistake."""

import json
import subprocess
import sys

import pytest
import yaml
from places import ROOT
from write_schema import schema_text

from uad.common.errors import InputError
from uad.config import arm_settings, in_order_of, load, pretraining_settings, resolve
from uad.config.data_stages import ingest_settings, planted_settings, register_settings
from uad.config.load import merge
from uad.config.model import Config
from uad.config.places import stroke_masks_folder
from uad.config.protocols import CHOICES, FIXED, protocol_values

FULL = yaml.safe_load((ROOT / "config.yaml").read_text())


def resolved(**overlay):
    return resolve(merge(FULL, overlay))


def planted(of="ixi", **keys):
    """An overlay with cohort x, planted into `of`."""
    cohort = {"adapter": "folder", "source": "planted", "modalities": ["t1"], "subjects": 4}
    return {"planted": {"of": of}, "cohorts": {"x": cohort | {"splits": {"val": 1, "test": 1}} | keys}}


def head(method="mhd", **keys):
    """An overlay with arm x, which starts from another."""
    return {"arms": {"x": {"method": method} | keys}}


def test_the_shipped_files_are_valid_and_ask_for_the_paper():
    config = load(ROOT / "config.yaml")
    sizes = {name: (c.splits.train, c.splits.val, c.splits.test) for name, c in config.cohorts.items()}
    # docs/paper.md#splits, Table 1 of the paper
    assert sizes == {
        "ixi": (358, 44, 158), "brats21": (0, 100, 1151), "mslub": (0, 10, 20), "atlas": (0, 175, 480),
        "wmh": (0, 15, 45),
    }  # fmt: skip
    assert config.folds == 5 and config.cohorts["ixi"].modalities == ["t1", "t2"]
    assert config.pack.crop == (192, 192, 100) and config.pack.factor == 0.5
    demo = load(ROOT / "config.yaml", ROOT / "demo/config.yaml")
    assert all(cohort.source == "phantom" for cohort in demo.cohorts.values())


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        ({"traning": {}}, "unknown key at top level: 'traning' is not known. Did you mean 'train'?"),
        ({"train": {"learning_rte": 1}}, "at train: 'learning_rte' is not known. Did you mean 'learning_rate'?"),
        ({"execution": {"devices": 2}}, "at execution: 'devices' is not known"),
        ({"arms": {"x": {"method": "cdpm"}}}, "arms.x.method: 'cdpm' is not known. Did you mean 'cddpm'? Known: ae, "),
        ({"arms": {"x": {"method": "ae", "params": {"zdim": 3}}}}, "arms.x.params: 'zdim' is not known. Did you mean"),
        ({"arms": {"x": {"method": "ae", "train": {"steps": 3}}}}, "arms.x.train: 'steps' is not known. Did you mean"),
        (
            {"arms": {"x": {"method": "ae", "train": {"without_sites": ["Guy"]}}}},
            "arms.x.train.without_sites: 'Guy' is not known. Did you mean 'Guys'? Known: Guys, HH, IOP",
        ),
        (
            {"arms": {"pca": {"train": {"without_sites": ["HH"]}}}},
            "arms.pca.train.without_sites: method maps has no training here that could leave a site out",
        ),
        ({"protocol": "cleen"}, "protocol: Input should be 'clean', 'authors' or 'paper' (got 'cleen')"),
        ({"cohorts": {"ixi": {"healthy": True}}}, "`healthy` is for adapter `folder`"),
        ({"train_cohort": "ixy"}, "`train_cohort` names `ixy`, which is not under `cohorts`"),
        ({"inference": {"single": 400}}, "noise levels that `t_test` lacks: [400]"),
        ({"train_by_method": {"dddpm": {}}}, "train_by_method.dddpm: 'dddpm' is not known. Did you mean 'ddpm'?"),
        ({"report": {"viewer_scans": 6}}, "report.viewer_scans: has to be a whole number from 0 to 5, or all (got 6)"),
        ({"report": {"viewer_scans": "al"}}, "report.viewer_scans: has to be a whole number from 0 to 5, or all (got"),
        ({"folds": 0}, "folds: Input should be greater than 0 (got 0)"),
        ({"train": {"learning_rate": "fast"}}, "train.learning_rate: Input should be a valid number"),
        ({"cohorts": {"Ixi 2": {}}}, "cohorts.Ixi 2"),
        (planted(adapter="atlas"), "cohorts.x: `source: planted` makes a BIDS folder: set `adapter: folder` instead"),
        (planted(modalities=["t2"]), "cohorts.x: `source: planted` knows how a stroke looks on T1 only"),
        (planted(modalities=["t1", "t2"]), "set `modalities: [t1]`, not [t1, t2]"),
        (planted(healthy=True), "cohorts.x: `healthy: true` contradicts `source: planted`"),
        (planted(raw="/x"), "cohorts.x: `raw` is not for `source: planted`"),
        (planted(person="(.*)"), "cohorts.x: `person` is not for `source: planted`"),
        (planted(stripped=True), "cohorts.x.stripped has to be false, as for cohorts.ixi, whose scans it has"),
        (planted(of=None), "`planted.of` has to name a healthy cohort under `cohorts` (got None)"),
        (planted(of="ixy"), "`planted.of` has to name a healthy cohort under `cohorts` (got 'ixy')"),
        (planted(of="atlas"), "`planted.of` names `atlas`, which is no healthy cohort with T1"),
        (planted(of="x"), "`planted.of` names `x`, which is no healthy cohort with T1"),
        ({"planted": {"contrast": [0.8, 0.3]}}, "planted: `contrast` [0.8, 0.3] has to be [lowest, highest]"),
        ({"planted": {"contrast": [0.3, 1.5]}}, "planted.contrast.1: Input should be less than or equal to 1"),
        ({"planted": {"per_scan": 2}}, "unknown key at planted: 'per_scan' is not known"),
        ({"arms": {"svae": {"params": {"chunk": 12}}}}, "params.chunk: 12 does not divide train.batch_size, 32"),
        (head(), "arms.x.from: method mhd needs the name of an arm to start from"),
        (head(**{"from": "ddpn"}), "arms.x.from: 'ddpn' is not known. Did you mean 'ddpm'?"),
        (head(**{"from": "x"}), "arms.x.from: arm x starts from another arm itself; name that one"),
        (head(**{"from": "ae"}), "arms.x.from: arm ae has no noise levels; name a diffusion arm"),
        (head(method="iqa", **{"from": "pca"}), "arms.x.from: arm pca gives no reconstruction; name an arm that does"),
        (head(method="ae", **{"from": "ddpm"}), "arms.x.from: method ae starts from no arm of another"),
        (head(method="ddpm", params={"objective": "x0"}, **{"from": "ddpm"}), "arms.x.params: comes from arm ddpm, as"),
        (head(method="ddpm", inference={"t_test": [100]}), "arms.x.inference: `single` and `ensemble` use noise"),
        (head(method="ddpm", inference={"single": 250}), "arms.x.inference.single: the tables print one level"),
        (head(method="ddpm", inference={"t_tst": [100]}), "arms.x.inference: 't_tst' is not known. Did you mean"),
        (head(method="iqa", params={"reading": "400"}, **{"from": "ddpm"}), "arms.x.params.reading: '400' is not"),
        ({"inference": {"combine": ["mean"]}}, "inference.combine.0: Input should be 'gmean' or 'max' (got 'mean')"),
    ],
)  # fmt: skip
def test_a_mistake_gets_one_line(overlay, message):
    with pytest.raises(InputError) as error:
        resolved(**overlay)
    assert message in str(error.value)
    assert all(line.startswith("config: ") for line in str(error.value).splitlines())


def test_strokes_are_planted_into_a_healthy_cohort():
    config = resolved(**planted())
    assert config.is_healthy("ixi") and not config.is_healthy("x")
    assert config.planted.contrast == (0.3, 0.8) and stroke_masks_folder(config) == "data/raw/stroke-masks"
    # what is planted is no part of the other stages' settings: nothing that is made is made again
    assert planted_settings(config, "x")["subjects"] == 4 and "planted" not in ingest_settings(config, "ixi")["cohort"]


def test_yaml_11_numbers_are_understood():
    # YAML 1.1 reads 1e-5 without a dot as text
    assert yaml.safe_load("1e-5") == "1e-5"
    assert resolved(train={"learning_rate": "1e-5"}).train.learning_rate == 1e-5


def test_an_overlay_removes_an_arm_with_null():
    assert "ae" not in resolved(arms={"ae": None}).arms


def test_an_overlay_keeps_the_order_of_the_arms():
    overlaid = {"arms": {"new": {"method": "ae"}, "ae": FULL["arms"]["ae"], "thresh": FULL["arms"]["thresh"]}}
    assert list(in_order_of(overlaid, FULL)["arms"]) == ["thresh", "ae", "new"]


def test_protocols_set_their_column_and_named_keys_win():
    # docs/protocols.md: text, code, our choice
    assert [resolved(protocol=p).train.learning_rate for p in ("paper", "authors", "clean")] == [
        1e-5,
        1e-4,
        1e-4,
    ]
    assert [resolved(protocol=p).diffusion.condition.dim for p in ("paper", "authors", "clean")] == [
        128,
        512,
        512,
    ]
    authors = resolved(protocol="authors")
    assert authors.preprocess.registration.label_interpolation == "linear"
    assert authors.diffusion.noise.shared and not resolved().diffusion.noise.shared
    assert arm_settings(authors, "cddpm")["train"]["precision"] == "16-mixed"
    assert arm_settings(authors, "ddpm")["train"]["precision"] == "32-true"
    assert resolved(protocol="authors", diffusion={"condition": {"dim": 64}}).diffusion.condition.dim == 64
    assert resolved(protocol="paper").postprocess.component_max_size == 6  # "< 7"


def test_a_key_of_train_is_meant_for_all_arms():
    # D2: 1200 epochs of 11 or 12 steps for cDDPM and SparK in the code
    steps = {
        p: arm_settings(resolved(protocol=p), "cddpm")["train"]["max_steps"] for p in ("paper", "authors", "clean")
    }
    assert steps == {"paper": 1600 * 11, "authors": 1200 * 12, "clean": 1200 * 11}
    pretraining = pretraining_settings(resolved(), "cddpm-ssl")["train"]
    assert pretraining["max_steps"] == 1200 * 11 and not pretraining["augment"]
    shorter = resolved(train={"max_steps": 5})
    assert all(arm_settings(shorter, arm)["train"]["max_steps"] == 5 for arm in ("ddpm", "cddpm"))
    assert pretraining_settings(shorter, "cddpm-ssl")["train"]["max_steps"] == 5
    both = resolved(train={"max_steps": 5}, train_by_method={"spark": {"max_steps": 3}})
    assert pretraining_settings(both, "cddpm-ssl")["train"]["max_steps"] == 3


def test_every_d_number_of_the_paper_is_covered():
    numbers = {n.strip() for choice in CHOICES for n in choice.id.split(",")} | set(FIXED)
    assert numbers == {f"D{i}" for i in range(1, 39)}


@pytest.mark.parametrize("protocol", ["paper", "authors", "clean"])
def test_protocol_keys_are_keys_of_the_configuration(protocol):
    config = Config.model_validate(merge(FULL, protocol_values(protocol)))
    assert config.protocol == "clean"  # the column says nothing about its own name


def test_protocol_page_documents_every_choice():
    page = (ROOT / "docs/protocols.md").read_text().splitlines()

    def cell(value):
        text = str(value).lower() if isinstance(value, bool) else str(value)
        return "–" if value is None else f"`{text}`"

    for choice in CHOICES:
        values = [cell(value) for value in (choice.paper, choice.authors, choice.clean)]
        assert f"| {' | '.join([choice.id, f'`{choice.key}`', *values, choice.about])} |" in page
    assert all(f"| {number} | {text} |" in page for number, text in FIXED.items())


def test_protocols_train_and_score_as_their_source_does():
    """Values from the released code (`authors`) and the text (`paper`), read independently of this program."""
    paper, authors, clean = (resolved(protocol=p) for p in ("paper", "authors", "clean"))
    # AdamW in their Spark_2D.py, Adam in the text
    optimizers = [pretraining_settings(c, "cddpm-ssl")["params"]["optimizer"] for c in (paper, authors, clean)]
    assert optimizers == ["adam", "adamw", "adamw"]
    # 385 rows in batches of 32, the last incomplete: validated after each of these epochs
    assert [c.train.validate_every for c in (paper, authors, clean)] == [100, 385 // 32, 100]
    assert arm_settings(authors, "cddpm")["train"]["validate_every"] == 12
    assert [c.postprocess.mask_without_erosion for c in (paper, authors, clean)] == [True, False, True]
    assert [c.tables.dice_without_lesion for c in (paper, authors, clean)] == ["left_out", "zero", "left_out"]
    assert [c.cohorts["wmh"].exclude_label for c in (paper, authors, clean)] == [2, None, 2]


def test_a_row_about_a_data_set_makes_no_cohort_and_keeps_to_its_adapter():
    assert "wmh" not in resolved(cohorts={"wmh": None}).cohorts
    assert list(resolved().cohorts) == list(FULL["cohorts"])  # tables show the cohorts in this order
    own = {"adapter": "folder", "modalities": ["t1"], "subjects": 9, "splits": {"val": 3, "test": 6}}
    mine = resolved(cohorts={"wmh": own, "lesions": FULL["cohorts"]["wmh"]}).cohorts
    assert mine["wmh"].exclude_label is None and mine["lesions"].exclude_label == 2
    assert resolved(cohorts={"wmh": {"exclude_label": 3}}).cohorts["wmh"].exclude_label == 3
    assert resolved(cohorts={"wmh": {"exclude_label": None}}).cohorts["wmh"].exclude_label is None


def test_sites_are_left_out_of_pretraining_too_and_of_no_other_recipe():
    config = resolved(arms={"x": {"method": "cddpm", "params": {"spark": {}}, "train": {"without_sites": ["HH"]}}})
    assert arm_settings(config, "x")["train"]["without_sites"] == ["HH"]
    assert pretraining_settings(config, "x")["train"]["without_sites"] == ["HH"]
    # another key in a settings file would be another recipe for every model that there is
    assert "without_sites" not in arm_settings(config, "cddpm-ssl")["train"]
    assert "without_sites" not in pretraining_settings(config, "cddpm-ssl")["train"]
    assert "without_sites" not in config.train.model_dump(mode="json")
    # of a folder only the packed scans know the sites
    folder = {"adapter": "folder", "healthy": True, "modalities": ["t1"], "subjects": 9}
    folder["splits"] = {"train": 5, "val": 2, "test": 2}
    train = {"without_sites": ["Leeds"]}
    own = resolved(cohorts={"own": folder}, train_cohort="own", arms={"x": {"method": "ae", "train": train}})
    assert arm_settings(own, "x")["train"]["without_sites"] == ["Leeds"]


def test_the_schema_file_is_current():
    assert (ROOT / "config.schema.json").read_text() == schema_text(), "run `make schema`"
    assert json.loads(schema_text())["additionalProperties"] is False


def test_loading_the_configuration_imports_nothing_heavy():
    code = (
        "import sys; from uad.config import load, arm_settings; from uad.cohorts import ADAPTERS;"
        "c = load('config.yaml'); [arm_settings(c, a) for a in c.arms];"
        "print([m for m in ('torch', 'nibabel', 'ants', 'pandas', 'lightning') if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert run.stdout.strip() == "[]"


def test_registration_knows_how_stripped_scans_got_their_mask():
    # docs/protocols.md D12: a scan masked by `get_mask` is not multiplied by it
    config = resolve(merge(FULL, {"protocol": "authors"}))
    assert register_settings(config, "brats21")["preprocess"]["stripped_mask"] == "get_mask"
