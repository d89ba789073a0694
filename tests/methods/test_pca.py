"""PCA, the baseline that is a program of its own: its maps against a singular value decomposition."""

import importlib.util
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from places import SCRIPTS

from uad.methods import Scan, load_method

pytestmark = pytest.mark.slow

PCA = SCRIPTS / "baselines" / "pca.py"
MAPS = load_method("maps")


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
    return {s: method.draw(Scan(s, image, image > 0, image), rng) for s, image in shapes.items()}


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
    arguments = SimpleNamespace(modality="t2", stores=list((tmp_path / "store").iterdir()))
    fitted = pca.fit(pca.packed(arguments, "ixi"), list(images), components=3)
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
