"""Both ways to add a baseline: the template and the code of docs/add-a-baseline.md, PCA, and which jobs they add.

Plans are made in a copy of the repository whose demo counts as finished: empty files, touched by Snakemake.
"""

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from places import ROOT, SCRIPTS

from uad.common.errors import InputError
from uad.common.files import sha256_of
from uad.config import arm_settings, load
from uad.methods import Scan, known_methods, load_method

pytestmark = pytest.mark.whole_run

PAGE = (ROOT / "docs" / "add-a-baseline.md").read_text()
METHODS = Path("workflow_scripts/uad/methods")
PCA = SCRIPTS / "baselines" / "pca.py"
MAPS = load_method("maps")
DEMO = ["demo/config.yaml"]


def blocks(language):
    """The page's code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def arms_of(block):
    return yaml.safe_load(block)["arms"]


def pca_arm():
    (arms,) = (arms_of(block) for block in blocks("yaml") if arms_of(block).get("pca"))
    return arms["pca"]


def run(folder, *command):
    done = subprocess.run([sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def copied(folder):
    """What a user's clone holds, as far as these tests need it."""
    for name in ("demo", "rules", "envs", "docs", "workflow_scripts", "tests/methods", "tests/helpers"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("config.yaml", "Snakefile", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return folder


def snakemake(folder, overlays, *arguments):
    code, output = run(folder, "snakemake", "--cores", "1", "--configfile", *overlays, *arguments)
    assert code == 0, output
    return output


def plan(folder, *overlays):
    """Job counts per rule of a dry run without the total; empty when there is nothing to do."""
    output = snakemake(folder, [*DEMO, *overlays], "-n", "--quiet", "rules")
    table = output.split("Job stats:")[-1] if "Job stats:" in output else ""
    counts = {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)}
    counts.pop("total", None)
    return counts


# --- way one: a method ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy with the template as `mine`, the page's method as `smooth` and the page's card."""
    folder = copied(tmp_path_factory.mktemp("clone"))
    shutil.copy(folder / METHODS / "_template.py", folder / METHODS / "mine.py")
    (method,) = blocks("python")
    (folder / METHODS / "smooth.py").write_text(method)
    (card,) = blocks("markdown")
    (folder / "docs" / "methods" / "mine.md").write_text(card)
    return folder


def test_the_template_is_not_a_method():
    assert (ROOT / METHODS / "_template.py").exists() and "_template" not in known_methods()


def test_the_contract_runs_on_template_page_and_card(clone):
    code, output = run(
        clone, "pytest", "-q", "-p", "no:cacheprovider", "tests/methods/test_methods.py",
        "tests/methods/test_method_cards.py",
        "-k", "mine or (smooth and test_methods)", "--junitxml", "ran.xml",
    )  # fmt: skip
    assert code == 0, output
    ran = (clone / "ran.xml").read_text()
    passed = {name for name, body in re.findall(r'name="(\w+\[\w+\])"[^>]*?(/>|>)', ran) if body == "/>"}
    for name, contract in (("mine", 6), ("smooth", 2)):
        assert len([test for test in passed if f"[{name}]" in test and "card" not in test]) >= contract
    assert {f"test_card_{what}[mine]" for what in (
        "says_what_the_method_is", "lists_the_keys_with_their_defaults", "has_the_counted_parameters_and_operations"
    )} <= passed  # fmt: skip


@pytest.fixture(scope="module")
def finished(clone):
    """The copy with a demo of Thresh, AE and PCA that Snakemake takes for finished."""
    others = yaml.safe_load((clone / "config.yaml").read_text())["arms"].keys() - {"thresh", "ae"}
    (clone / "pca.yaml").write_text(yaml.safe_dump({"arms": {**dict.fromkeys(others), "pca-8": pca_arm()}}))
    summary = snakemake(clone, [*DEMO, "pca.yaml"], "--summary")
    for file in re.findall(r"^(results/\S+)\t", summary, re.MULTILINE):
        (clone / file).parent.mkdir(parents=True, exist_ok=True)
        (clone / file).touch()
    snakemake(clone, [*DEMO, "pca.yaml"], "--touch", "--forceall", "--quiet", "all")
    assert plan(clone, "pca.yaml") == {}
    return clone


def jobs_on_the_page():
    """What the page shows as the plan of a new arm: its own jobs, and one of each that shows all arms."""
    (table,) = re.findall(r"\n\n((?:    \w+ +\d+.*\n)+)", PAGE)
    jobs = {line.split()[0]: int(line.split()[1]) for line in table.splitlines()}
    own = {rule: count for rule, count in jobs.items() if count != 1}
    assert own == {"train": 2, "reconstruct": 2, "score": 2}  # T1 and T2, one fold
    return jobs


def test_a_new_arm_adds_its_own_jobs_only(finished):
    (overlay,) = (block for block in blocks("yaml") if list(arms_of(block)) == ["mine"])
    (finished / "mine.yaml").write_text(overlay)
    assert plan(finished, "pca.yaml", "mine.yaml") == jobs_on_the_page()


@pytest.mark.parametrize(
    ("arm", "params", "made"), [("ae", {"z_dim": 16}, "train"), ("pca-8", {"options": {"components": 9}}, "pca")]
)
def test_a_changed_arm_runs_alone(finished, arm, params, made):
    (finished / "change.yaml").write_text(yaml.safe_dump({"arms": {arm: {"params": params}}}))
    expected = {made if rule == "train" else rule: count for rule, count in jobs_on_the_page().items()}
    assert plan(finished, "pca.yaml", "change.yaml") == expected


def test_the_overlay_with_the_controls_trains_one_arm(clone):
    (overlay,) = (block for block in blocks("yaml") if "run" in yaml.safe_load(block))
    (clone / "controls.yaml").write_text(overlay)
    jobs = plan(clone, "controls.yaml")
    assert jobs["train"] == 2 and "pretrain" not in jobs  # `mine`, on T1 and T2
    assert jobs["score"] == jobs["reconstruct"] == 2 * 6  # beside it Thresh and four controls


# --- way two: a rule --------------------------------------------------------------------------------


def test_the_arm_s_paths_follow_run_and_name(tmp_path):
    (tmp_path / "pca.yaml").write_text(yaml.safe_dump({"run": "other", "arms": {"pca-16": pca_arm()}}))
    config = load(ROOT / "config.yaml", tmp_path / "pca.yaml")
    params = arm_settings(config, "pca-16")["params"]
    assert params["table"] == "results/other/baselines/pca/pca-16/{modality}/fold{fold}/maps.tsv"
    method = MAPS(MAPS.Params(**params))
    assert method.input_files(["ixi", "wmh"], "t1", 3) == ["results/other/baselines/pca/pca-16/t1/fold3/maps.tsv"]
    assert method.per_fold and method.arguments() == "--components 128"


def test_the_page_s_rule_is_picked_up(clone):
    (rule,) = blocks("snakemake")
    (clone / "rules" / "baselines" / "theirs.smk").write_text(rule)
    (clone / "theirs").mkdir()
    (clone / "theirs" / "make_maps.m").write_text("")
    arm = {"method": "maps", "params": {"table": pca_arm()["params"]["table"].replace("/pca/", "/theirs/")}}
    (clone / "theirs.yaml").write_text(yaml.safe_dump({"run": "theirs", "arms": {"theirs": arm}}))
    output = snakemake(clone, [*DEMO, "theirs.yaml"], "-n", "--printshellcmds")
    assert len(re.findall(r"^rule theirs:", output, re.MULTILINE)) == 2
    assert (
        "matlab -batch \"addpath('theirs'); make_maps('results/theirs', 't1', 0,"
        " 'results/theirs/baselines/theirs/theirs/t1/fold0/maps.tsv')\"" in output
    )


def test_a_table_that_no_rule_makes_stops_the_run(clone):
    arm = {"method": "maps", "params": {"table": "{results}/baselines/pac/{modality}.tsv"}}
    (clone / "wrong.yaml").write_text(yaml.safe_dump({"arms": {"wrong": arm}}))
    code, output = run(clone, "snakemake", "-n", "--cores", "1", "--configfile", *DEMO, "wrong.yaml")
    assert code != 0 and "Traceback" not in output
    message = "arms.wrong.params: results/demo/baselines/pac/t1.tsv does not exist and no rule makes it"
    assert message in output


# --- reading maps ---------------------------------------------------------------------------------------


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
    return method.anomaly_map(SCAN, np.random.default_rng(0))


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


# --- PCA --------------------------------------------------------------------------------------------


PCA_SHAPE = (4, 12, 10)
COHORTS = {
    "ixi": {"h0": "train", "h1": "train", "h2": "train", "h3": "val", "h4": "test"},
    "wmh": {"w0": "val", "w1": "test", "failed": "test"},
}


def save_run(folder, cohort, images, masks, splits):
    """Store and split table of a cohort; `splits` is {(subject, fold): split}, images of some subjects may lack."""
    for name in ("store", "splits"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    np.save(folder / "store" / f"{cohort}_t2.images.npy", np.stack(list(images.values())))
    np.save(folder / "store" / f"{cohort}_t2.masks.npy", np.stack(list(masks.values())).astype(np.uint8))
    rows = "".join(f"{row}\t{subject}\t\t\t\t0\n" for row, subject in enumerate(images))
    (folder / "store" / f"{cohort}_t2.tsv").write_text("row\tsubject\tsite\tscanner\tage\tlesion_ml\n" + rows)
    rows = "".join(f"{subject}\t{split}\t{fold}\n" for (subject, fold), split in splits.items())
    (folder / "splits" / f"{cohort}.tsv").write_text("subject\tsplit\tfold\n" + rows)


@pytest.fixture
def packed(tmp_path):
    """Two cohorts of noise inside a brain that leaves the first slice empty; fold 1 trains on another subject."""
    rng = np.random.default_rng(4)
    images, masks = {}, {}
    for cohort, members in COHORTS.items():
        present = [subject for subject in members if subject != "failed"]
        masks[cohort] = {subject: rng.random(PCA_SHAPE) < 0.9 for subject in present}
        for mask in masks[cohort].values():
            mask[0] = False
        images[cohort] = {
            subject: (rng.random(PCA_SHAPE) * masks[cohort][subject]).astype(np.float16) for subject in present
        }
        splits = {(subject, fold): split for subject, split in members.items() for fold in (0, 1)}
        if cohort == "ixi":
            splits |= {("h2", 1): "val", ("h3", 1): "train"}
        save_run(tmp_path, cohort, images[cohort], masks[cohort], splits)
    return tmp_path, images, masks


def run_pca(folder, fold, components, cohorts=("ixi", "wmh"), out="maps", more=()):
    table = folder / out / f"t2-{fold}" / "maps.tsv"
    table.parent.mkdir(parents=True, exist_ok=True)
    settings = f"--modality t2 --fold {fold} --components {components}".split()
    splits = [str(folder / "splits" / f"{cohort}.tsv") for cohort in cohorts]
    command = [sys.executable, str(PCA), "--stores", *map(str, folder.glob("store/*")), "--splits", *splits,
               "--train-cohort", "ixi", *settings, *more, "--table", str(table)]  # fmt: skip
    return table, subprocess.run(command, capture_output=True, text=True)


def maps_in(table, cohort, shapes):
    """Maps of a cohort as the arm reads them."""
    method = MAPS(MAPS.Params(table=str(table.parents[1] / "{modality}-{fold}" / table.name)))
    method.enter(cohort, "t2", int(table.parent.name[-1]))
    rng = np.random.default_rng(0)
    return {s: method.anomaly_map(Scan(s, image, image > 0, image), rng) for s, image in shapes.items()}


@pytest.mark.parametrize(("fold", "training"), [(0, ["h0", "h1", "h2"]), (1, ["h0", "h1", "h3"])])
def test_pca_equals_a_singular_value_decomposition(packed, fold, training):
    folder, images, masks = packed
    table, done = run_pca(folder, fold, components=5)
    assert done.returncode == 0, done.stderr
    slices = np.concatenate([images["ixi"][subject][1:] for subject in training]).reshape(9, -1).astype(np.float64)
    mean = slices.mean(0)
    components = np.linalg.svd(slices - mean, full_matrices=False)[2][:5]
    scored = {"ixi": sorted({"h2", "h3", "h4"} - set(training)), "wmh": ["w0", "w1"]}
    for cohort, subjects in scored.items():
        found = maps_in(table, cohort, {subject: images[cohort][subject] for subject in subjects})
        for subject in subjects:
            flat = images[cohort][subject].reshape(4, -1).astype(np.float64) - mean
            expected = np.abs(flat - flat @ components.T @ components).reshape(PCA_SHAPE) * masks[cohort][subject]
            np.testing.assert_allclose(found[subject], expected, atol=1e-5)
            assert np.load(table.parent / cohort / f"{subject}.npy").dtype == np.float32
    listed = [line.split("\t")[:2] for line in table.read_text().splitlines()[1:]]
    assert listed == [[cohort, subject] for cohort, subjects in scored.items() for subject in subjects]
    assert json.loads((table.parent / "provenance.json").read_text())["arguments"]["components"] == 5


def test_pca_makes_the_same_maps_twice(packed):
    first, second = (run_pca(packed[0], 0, 5, out=out)[0] for out in ("one", "two"))
    assert first.read_text() == second.read_text()  # the table holds the hash of every map


def test_pca_in_batches_finds_the_healthy_space_and_what_lies_outside(tmp_path, monkeypatch):
    """Healthy slices are sums of three patterns; a test slice has an anomaly at right angles to them."""
    spec = importlib.util.spec_from_file_location("pca", PCA)
    pca = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pca)
    monkeypatch.setattr(pca, "SLICES_PER_BATCH", 7)
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((120, 4)))[0].T
    weights = rng.standard_normal((10, 4, 3))
    images = {f"h{n}": (weights[n] @ basis[:3]).reshape(PCA_SHAPE) for n in range(10)}
    masks = {subject: np.ones(PCA_SHAPE) for subject in images}
    save_run(tmp_path, "ixi", images, masks, {})
    fitted = pca.fit(pca.packed(tmp_path, "ixi", "t2"), list(images), components=3)
    assert fitted.n_samples_seen_ == 40
    np.testing.assert_allclose(pca.residual(fitted, images["h0"], masks["h0"]), 0, atol=1e-6)
    anomaly = np.broadcast_to(0.5 * basis[3].reshape(1, 12, 10), PCA_SHAPE)
    found = pca.residual(fitted, images["h0"] + anomaly, masks["h0"])
    np.testing.assert_allclose(found, np.abs(anomaly), atol=1e-6)


@pytest.mark.parametrize("components", [0, 10])
def test_pca_says_how_many_components_there_can_be(packed, components):
    table, done = run_pca(packed[0], 0, components)
    assert done.returncode == 1 and not table.exists()
    assert done.stderr == (
        f"error: --components {components}: must be 1 to 9, the number of training slices (9) or of pixels (120)\n"
    )


def test_pca_refuses_options_it_does_not_know(packed):
    table, done = run_pca(packed[0], 0, 5, more=["--component", "3"])
    assert done.returncode == 2 and "unrecognized arguments: --component 3" in done.stderr and not table.exists()
