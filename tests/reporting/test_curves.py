"""Learning curves: the files are checked, and what is drawn are the numbers of the files."""

from __future__ import annotations

import matplotlib.colors
import numpy as np
import pandas as pd
import pytest
from drawn_figures import texts_of

from uad.common.errors import InputError
from uad.reporting import style
from uad.reporting.curves import learning_curves_figure, read_curve, read_curves

pytestmark = pytest.mark.slow

ARMS = [
    {"arm": name, "label": label, "control": name == "chance"}
    for name, label in (("thresh", "Thresh"), ("ae", "AE"), ("vae", "VAE"), ("gan", "GAN"), ("chance", "chance"))
]


def curve(validation, **columns):
    steps = 100 * np.arange(1, len(validation) + 1)
    return pd.DataFrame({"step": steps, **columns, "val_loss": validation}).astype(float).astype({"step": int})


def plain(validation, **terms):
    return curve(validation, train_loss=np.add(validation, 0.5), **terms)


def gan():
    nan = np.nan
    return curve(
        [nan, 0.4, 0.3],
        train_loss_critic=[-3, -2, nan],  # the critic still trained before the second row
        train_loss_encoder=[nan, 0.5, 0.35],
        critic_distance=[3, 2, nan],
    )


def panel_of(figure, title):
    (panel,) = [axes for axes in figure.axes if axes.get_title(loc="left") == title]
    return panel


def test_curve_is_read_with_empty_cells(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("step,train_loss_critic,val_loss\n100,-1.5,\n200,,0.25\n")
    read = read_curve(path)
    assert read["step"].tolist() == [100, 200]
    assert np.isnan(read["val_loss"][0]) and read["val_loss"][1] == 0.25
    assert read["train_loss_critic"][0] == -1.5


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "not a readable"),
        ("", "not a readable"),
        ("step,train_loss,val_loss\n100,x,1\n", "not a readable"),
        ("step,train_loss,val_loss\n,1,1\n", "not a readable"),
        ("train_loss,val_loss\n1,1\n", "not a readable"),
        ("step,val_loss\n100,1\n", "without train_loss"),
        ("step,train_loss\n100,1\n", "without val_loss"),
        ("step,train_loss,val_loss\n", "without rows"),
        ("step,train_loss,val_loss\n200,1,1\n100,1,1\n", "do not rise"),
        ("step,train_loss,val_loss\n100,1,1\n100,1,1\n", "do not rise"),
    ],
)
def test_damaged_curve_is_refused(tmp_path, content, problem):
    path = tmp_path / "log.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=problem) as error:
        read_curve(path)
    assert str(path) in str(error.value) and "train the arm again" in str(error.value)


def test_curves_are_sorted_by_what_their_paths_say(tmp_path):
    paths = [
        tmp_path / part / "log.csv" for part in ("models/ae/t1/fold0", "models/ae/t1/fold12", "pretrained/gan/t2/fold0")
    ]
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True)
        path.write_text(f"step,train_loss,val_loss\n{number + 1},1,1\n")
    curves = read_curves(paths)
    steps = {
        (*key, arm, fold): int(curve["step"][0])
        for key, arms in curves.items()
        for arm, folds in arms.items()
        for fold, curve in folds.items()
    }
    assert steps == {
        ("models", "t1", "ae", 0): 1,
        ("models", "t1", "ae", 12): 2,
        ("pretrained", "t2", "gan", 0): 3,
    }


def test_folds_are_lines_in_the_arms_colour_and_the_lowest_validation_is_marked():
    folds = {0: plain([0.9, 0.4, 0.6]), 1: plain([0.8, 0.7, 0.5])}
    figure = learning_curves_figure({"ae": folds}, ARMS, [0, 1], "T2")
    panel = panel_of(figure, "AE")
    colour = style.looks(ARMS)["ae"].colour
    assert panel.get_ylabel() == "loss" and panel.get_xlabel() == "training step"
    drawn = [list(line.get_ydata()) for line in panel.lines if line.get_linestyle() == "-"]
    assert drawn == [
        pytest.approx(values) for values in ([1.4, 0.9, 1.1], [0.9, 0.4, 0.6], [1.3, 1.2, 1.0], [0.8, 0.7, 0.5])
    ]
    assert {matplotlib.colors.to_hex(line.get_color()) for line in panel.lines[:2]} == {colour.lower()}
    marks = [(np.ravel(line.get_xdata())[0], np.ravel(line.get_ydata())[0]) for line in panel.lines[2::3]]
    assert marks == [(200, 0.4), (300, 0.5)]
    assert not any("Missing" in text for text in texts_of(figure))


def test_terms_have_panels_of_their_own_and_gaps_are_named():
    curves = {"ae": {}, "vae": {0: plain([0.2, 0.1], kl=[3, 4])}}
    figure = learning_curves_figure(curves, ARMS, [0, 1, 2], "T1")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["AE", "VAE", "VAE: kl"]
    assert list(panel_of(figure, "VAE: kl").lines[0].get_ydata()) == [3, 4]
    texts = texts_of(figure)
    assert texts.count("missing") == 1  # the empty panel of AE
    assert "Missing: AE (all folds); VAE (fold 1, 2)" in texts


def test_the_part_that_validation_judges_shares_its_panel():
    figure = learning_curves_figure({"gan": {0: gan()}}, ARMS, [0], "T2")
    titles = ["GAN: encoder", "GAN: critic", "GAN: critic distance"]
    assert [axes.get_title(loc="left") for axes in figure.axes] == titles
    encoder, critic = figure.axes[:2]
    assert [list(line.get_ydata()) for line in encoder.lines[:2]] == [[0.5, 0.35], [0.4, 0.3]]
    assert [list(line.get_xdata()) for line in encoder.lines[:2]] == [[200, 300], [200, 300]]
    assert list(critic.lines[0].get_ydata()) == [-3, -2]


def test_a_panel_of_single_values_says_them_in_place_of_empty_axes():
    one = {"ae": {0: plain([0.25]), 1: plain([0.5])}, "vae": {0: plain([0.5, 0.25])}}
    figure = learning_curves_figure(one, ARMS, [0, 1], "T2")
    single = panel_of(figure, "AE")
    assert not single.lines and not single.get_xticks().size
    said = "one value each:\nfold 0: 0.75\nfold 0: 0.25\nfold 1: 1\nfold 1: 0.5"  # training is 0.5 above validation
    assert [text.get_text() for text in single.texts] == [said]
    assert panel_of(figure, "VAE").lines


def test_wide_positive_values_get_a_logarithmic_axis_and_others_do_not():
    curves = {"ae": {0: plain([10, 0.1])}, "vae": {0: plain([0.4, 0.3], distance=[-50, 50])}}
    figure = learning_curves_figure(curves, ARMS, [0], "T2")
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "linear", "linear"]


def test_pretraining_comes_before_its_arm():
    figure = learning_curves_figure({"ae": {0: plain([1, 0.5])}}, ARMS, [0], "T2", {"ae": {0: plain([0.3, 0.2])}})
    first, second = figure.axes
    assert first.get_title(loc="left") == "AE, pre-training" and second.get_title(loc="left") == "AE"
    assert list(first.lines[1].get_ydata()) == [0.3, 0.2]


def test_nothing_is_cut_off_and_equal_input_gives_equal_bytes(tmp_path):
    terms = {"distance of the critic": [1, 2], "norm of the gradient of it": [2, 1]}
    curves = {"ae": {0: plain([1, 0.5])}, "vae": {0: plain([2, 1], **terms)}, "gan": {0: gan()}}
    figure = learning_curves_figure(curves, ARMS, [0, 1], "T2")
    figure.draw_without_rendering()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(box.x0, box.y0) > -0.01 and box.x1 < width + 0.01 and box.y1 < height + 0.01
    written = []
    for name in ("a", "b"):
        paths = style.save(learning_curves_figure(curves, ARMS, [0, 1], "T2"), tmp_path / name)
        written.append([path.read_bytes() for path in paths])
    assert written[0] == written[1]


def test_without_a_trained_arm_the_figure_is_refused():
    with pytest.raises(InputError, match="no arm was trained"):
        learning_curves_figure({}, ARMS, [0], "T2")
