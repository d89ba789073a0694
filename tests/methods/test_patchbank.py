"""The patch bank, a program of its own: against scikit-learn, and what a bank with a place in the brain must do."""

import hashlib
import importlib.util
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from places import SCRIPTS
from scipy import ndimage
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from uad.methods import Scan, load_method
from uad.networks.resnet import ResNetEncoder

PROGRAM = SCRIPTS / "baselines" / "patchbank.py"
SHAPE = (6, 14, 12)
COHORTS = {
    "ixi": {"h0": "train", "h1": "train", "h2": "train", "h3": "val", "h4": "test"},
    "wmh": {"w0": "val", "w1": "test", "failed": "test"},
}


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("patchbank", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def made_up(seed, *, brain=0.9):
    """Noise inside a brain that leaves the first slice empty."""
    rng = np.random.default_rng(seed)
    mask = rng.random(SHAPE) < brain
    mask[0] = False
    return (rng.random(SHAPE) * mask).astype(np.float16), mask.astype(np.uint8)


def options(**more):
    return SimpleNamespace(**{"bank": 10**6, "reach": 1, "stride": 2, "dims": 8, "seed": 3, "weights": None, **more})


def fitted(program, scans, **more):
    """The extractor and the bank of some scans: images and masks."""
    images, masks = (np.stack(arrays) for arrays in zip(*scans, strict=True))
    store = program.Packed(images, masks, {f"h{n}": n for n in range(len(scans))})
    extractor = program.descriptor(options(**more), store)
    return extractor, program.fit(options(**more), extractor, store, list(store.rows))


def test_a_descriptor_holds_the_patches_around_a_place(program):
    image = np.random.default_rng(0).random((2, 40, 36)).astype(np.float32)
    store = program.Packed(image[None], image[None] > 0, {})
    extractor = program.descriptor(options(stride=4), store)
    values = extractor.features(image)
    assert values.shape == (2, 10, 9, 75) and values.dtype == np.float32
    at = values[1, 5, 4].reshape(3, 5, 5)  # around pixel (20, 16)
    assert np.array_equal(at[0], image[1, 18:23, 14:19])
    for number, (scale, sigma) in enumerate([(2, 0.5), (4, 1.5)], start=1):
        smooth = ndimage.gaussian_filter(image[1], sigma, mode="constant")
        window = smooth[20 - 2 * scale : 21 + 2 * scale : scale, 16 - 2 * scale : 17 + 2 * scale : scale]
        np.testing.assert_allclose(at[number], window, atol=1e-6)
    assert (values[0, 0, 0].reshape(3, 5, 5)[:, :2] == 0).all()  # beyond the slice


def test_features_are_turned_to_their_principal_components(program):
    rng = np.random.default_rng(0)
    features = (rng.standard_normal((500, 6)) @ rng.standard_normal((6, 6)) + 3).astype(np.float32)
    shift, turn = program.principal(features, 4)
    expected = PCA(4).fit(features).transform(features)
    np.testing.assert_allclose(np.abs((features - shift) @ turn), np.abs(expected), atol=1e-4)


def test_own_patches_score_0_and_the_map_with_them(program):
    scans = [made_up(n) for n in range(3)]
    extractor, bank = fitted(program, scans)
    for image, mask in scans:
        found = program.distances(extractor, bank, image, mask)
        assert found.shape == (6, 7, 6) and found.max() < 1e-5  # BLAS rounds by the number of rows
        assert program.drawn_up(extractor, found, mask, 1.0).max() < 1e-5


def test_scores_are_those_of_scikit_learn(program, monkeypatch):
    monkeypatch.setattr(program, "QUERIES", 5)
    scans = [made_up(n) for n in range(3)]
    extractor, bank = fitted(program, scans)
    image, mask = made_up(9)
    found = program.distances(extractor, bank, image, mask)
    inside = extractor.inside(mask)
    assert (found[~inside] == 0).all() and inside[1:].any((1, 2)).all()
    seen = bank.seen(extractor.features(image.astype(np.float32)))
    for z in range(1, SHAPE[0]):
        near = [
            bank.seen(extractor.features(healthy.astype(np.float32))[other][extractor.inside(brain)[other]])
            for healthy, brain in scans
            for other in range(max(z - 1, 0), min(z + 2, SHAPE[0]))
        ]
        search = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(np.concatenate(near))
        np.testing.assert_allclose(found[z][inside[z]], search.kneighbors(seen[z][inside[z]])[0][:, 0], rtol=1e-4)


@pytest.mark.parametrize(("away", "known"), [(0, True), (2, True), (3, False)])
def test_a_patch_is_known_at_its_slice_and_nearby(program, away, known):
    """The bright slice of a healthy scan, moved: two slices further it is still healthy with a reach of two."""
    healthy, mask = made_up(0, brain=2.0)
    healthy[2] *= 3
    extractor, bank = fitted(program, [(healthy, mask)], reach=2)
    image = healthy.copy()
    image[2 + away] = healthy[2]
    found = program.distances(extractor, bank, image, mask)[2 + away]
    assert found.max() < 1e-5 if known else found.max() > 0.1


def test_the_bank_is_bounded_and_drawn_by_the_seed(program):
    scans = [made_up(n) for n in range(3)]
    banks = [fitted(program, scans, bank=30, seed=seed)[1].by_slice for seed in (1, 1, 2)]
    assert [len(features) for features in banks[0]] == [0] + [10] * 5  # 30 in three slices
    assert all(np.array_equal(a, b) for a, b in zip(banks[0], banks[1], strict=True))
    assert not np.array_equal(banks[0][3], banks[2][3])


@pytest.mark.parametrize("places", [np.arange(0, 14, 2.0), (np.arange(4) + 0.5) / 4 * 14 - 0.5])
def test_drawing_up_is_linear_between_places_and_keeps_constants(program, places):
    extractor = program.Extractor(places, places, None)
    mask = np.ones((1, 14, 14), np.uint8)
    mask[:, :, 9:] = 0
    found = np.full((1, len(places), len(places)), 2.0)
    flat = program.drawn_up(extractor, found, mask, 1.0)
    assert np.allclose(flat[mask > 0], 2) and (flat[mask == 0] == 0).all() and flat.dtype == np.float32
    ramp = program.drawn_up(extractor, np.broadcast_to(places[:, None], found[0].shape)[None], mask * 0 + 1, 0)
    inner = slice(int(np.ceil(places[0])), int(places[-1]) + 1)
    np.testing.assert_allclose(ramp[0, inner], np.arange(14)[inner, None] * np.ones(14), atol=1e-5)


def torchvisions(network):
    """The weights of our ResNet-18 under torchvision's names."""
    state = {}
    for name, value in network.state_dict().items():
        parts = name.split(".")
        if parts[0] == "stem":
            state[{"0": "conv1", "1": "bn1"}[parts[1]] + "." + parts[2]] = value
        elif parts[0] == "stages":
            layers = {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2"}
            inner = layers[parts[4]] if parts[3] == "branch" else f"downsample.{parts[4]}"
            state[f"layer{int(parts[1]) + 1}.{parts[2]}.{inner}.{parts[5]}"] = value
    return state


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    network = ResNetEncoder(18, in_channels=3).eval()
    for name, value in network.state_dict().items():
        if value.dtype == torch.float32 and value.ndim == 1:
            value.uniform_(0.5, 1.5) if "var" in name else value.normal_(std=0.2)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(torchvisions(network), path)
    return network, path, hashlib.sha256(path.read_bytes()).hexdigest()


def test_stages_are_those_of_a_resnet_18(program, weights):
    network, path, _ = weights
    x = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        second, third = program.stages(torch.load(path), x)
        expected = network.features(x)
    torch.testing.assert_close(second, expected[1])
    torch.testing.assert_close(third, expected[2])


def save_run(folder):
    """Stores and split tables of two cohorts, one subject of which failed in preprocessing."""
    images, number = {}, 0
    for cohort, members in COHORTS.items():
        present = [subject for subject in members if subject != "failed"]
        scans = [made_up(number := number + 1) for _ in present]
        images[cohort] = dict(zip(present, scans, strict=True))
        for name in ("store", "splits"):
            (folder / name).mkdir(exist_ok=True)
        for kind, arrays in zip(("images", "masks"), zip(*scans, strict=True), strict=True):
            np.save(folder / "store" / f"{cohort}_t2.{kind}.npy", np.stack(arrays))
        rows = "".join(f"{row}\t{subject}\t\t\t\t0\n" for row, subject in enumerate(present))
        (folder / "store" / f"{cohort}_t2.tsv").write_text("row\tsubject\tsite\tscanner\tage\tlesion_ml\n" + rows)
        rows = "".join(f"{subject}\t{split}\t0\n" for subject, split in members.items())
        (folder / "splits" / f"{cohort}.tsv").write_text("subject\tsplit\tfold\n" + rows)
    return images


def run(folder, *more, out="maps"):
    table = folder / out / "t2-0" / "maps.tsv"
    table.parent.mkdir(parents=True, exist_ok=True)
    splits = [str(folder / "splits" / f"{cohort}.tsv") for cohort in COHORTS]
    settings = ["--train-cohort", "ixi", "--modality", "t2", "--fold", "0", "--seed", "1"]
    command = [sys.executable, str(PROGRAM), "--stores", *map(str, folder.glob("store/*")), "--splits", *splits,
               *settings, *more, "--table", str(table)]  # fmt: skip
    return table, subprocess.run(command, capture_output=True, text=True)


@pytest.mark.slow
def test_maps_of_all_scans_are_written_and_the_same_twice(tmp_path):
    images = save_run(tmp_path)
    (table, done), (again, _) = (run(tmp_path, "--dims", "8", "--bank", "60", out=out) for out in ("one", "two"))
    assert done.returncode == 0, done.stderr
    assert table.read_text() == again.read_text()  # the table holds the hash of every map
    maps = load_method("maps")
    method = maps(maps.Params(table=str(table.parents[1] / "{modality}-{fold}" / table.name)))
    for cohort, subjects in {"ixi": ["h3", "h4"], "wmh": ["w0", "w1"]}.items():
        method.enter(cohort, "t2", 0)
        for subject in subjects:
            image, mask = images[cohort][subject]
            found = method.draw(Scan(subject, image, mask > 0, mask), np.random.default_rng(0))
            assert found[mask > 0].max() > 0 and (found[mask == 0] == 0).all()
    assert len(table.read_text().splitlines()) == 5
    record = json.loads((table.parent / "provenance.json").read_text())
    assert record["arguments"]["bank"] == 60 and record["places"] == [0] + [12] * 5


@pytest.mark.slow
def test_a_resnet_is_used_if_it_is_the_one_that_was_named(tmp_path, weights):
    save_run(tmp_path)
    _, path, digest = weights
    table, done = run(tmp_path, "--weights", str(path), "--sha256", digest)
    assert done.returncode == 0 and "384 numbers each" in done.stderr, done.stderr
    table, done = run(tmp_path, "--weights", str(path), "--sha256", "0" * 64, out="other")
    assert done.returncode == 1 and f"its SHA-256 is {digest}" in done.stderr and not table.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--neighbours", "3"], "unrecognized arguments: --neighbours 3"),
        (["--bank", "0"], "argument --bank: 0: must be 1 or more"),
        (["--dims", "76"], "--dims 76: must be 1 to 75"),
        (["--weights", "none.pth"], "--weights none.pth: no such file"),
    ],
)
def test_options_that_cannot_be_are_refused(tmp_path, more, message):
    save_run(tmp_path)
    table, done = run(tmp_path, *more)
    assert done.returncode in (1, 2) and message in done.stderr and not table.exists()
