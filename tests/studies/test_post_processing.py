"""The study of post-processing on made-up rows with answers by hand."""

import numpy as np
import pandas as pd
import pytest
from made_up_evidence import evidence_of

from uad.scoring.postprocessing import PostProcessing
from uad.studies import load_study
from uad.studies.post_processing import order_agreement, variance_shares

STUDY = load_study("post-processing")


def test_the_grid_has_every_pipeline_once():
    study = STUDY(STUDY.Params(median=[0, 5], erosion=[0, 2], components=[0, 7]))
    pipelines = study.pipelines(PostProcessing())
    # none, median, erosion, and both in two orders, each with two limits of components
    assert len(pipelines) == 5 * 2 and len(set(pipelines.values())) == 10
    assert pipelines["erosion 2, median 5, components 7"].order == ("erode", "median")
    assert pipelines["median 5, erosion 2, components 7"].order == ("median", "erode")
    assert pipelines["components 0"].order == ()
    assert pipelines["erosion 2, components 0"].erosion == 2


def test_even_windows_are_refused():
    with pytest.raises(ValueError, match=r"even windows \[4\]"):
        STUDY.Params(median=[3, 4])


def rows_of(dice):
    """Measured rows of Dice by (arm, pipeline, split): a list of one value per scan."""
    return pd.DataFrame(
        {"arm": arm, "modality": "t2", "fold": 0, "cohort": "wmh", "variant": variant, "split": split, "dice": value,
         "subject": f"{split}{number}", "threshold": 0.1}
        for (arm, variant, split), values in dice.items()
        for number, value in enumerate(values)
    )  # fmt: skip


DICE = {
    ("ddpm", "published", "val"): [0.3, 0.5], ("ddpm", "published", "test"): [0.4, 0.5, 0.6],
    ("ddpm", "large", "val"): [0.5, 0.5], ("ddpm", "large", "test"): [0.5, 0.5, 0.8],
    ("ddpm", "small", "val"): [0.1, 0.2], ("ddpm", "small", "test"): [0.9, 0.9, 0.9],
    ("ae", "published", "val"): [0.3, 0.3], ("ae", "published", "test"): [0.3, 0.3, 0.3],
    ("ae", "large", "val"): [0.3, 0.3], ("ae", "large", "test"): [0.2, 0.2, 0.2],
    ("ae", "small", "val"): [0.1, 0.2], ("ae", "small", "test"): [0.1, 0.1, 0.1],
}  # fmt: skip


def test_a_pipeline_is_chosen_on_validation_and_judged_on_test():
    answer = STUDY(STUDY.Params()).answer(evidence_of(["ddpm", "ae"], measured=rows_of(DICE)))
    ddpm, ae = answer.rows["choices"].to_dict("records")
    assert ddpm["chosen"] == "large" and ddpm["oracle"] == "small"
    assert ddpm["published_dice"] == pytest.approx(0.5)
    assert ddpm["gain"] == pytest.approx(0.1) and ddpm["oracle_gain"] == pytest.approx(0.4)
    assert ddpm["gain_low"] <= ddpm["gain"] <= ddpm["gain_high"]
    assert (ddpm["n_test"], ddpm["n_val"], ddpm["n_folds"]) == (3, 2, 1)
    assert ae["chosen"] == "published" and ae["gain"] == 0  # a tie keeps what is published
    assert not any(sentence.startswith("AE") for sentence in answer.found)


def test_scans_of_one_person_count_once():
    evidence = evidence_of(["ddpm"], measured=rows_of({key: DICE[key] for key in DICE if key[0] == "ddpm"}),
                           person={"test0": "a", "test1": "a", "test2": "b"})  # fmt: skip
    (choice,) = STUDY(STUDY.Params()).answer(evidence).rows["choices"].to_dict("records")
    # gains 0.1, 0 and 0.2: the first two are of one person
    assert choice["n_test"] == 2 and choice["gain"] == pytest.approx((0.05 + 0.2) / 2)


def test_agreement_of_orders_is_the_mean_kendall_tau():
    same = pd.DataFrame({"a": [1, 2], "b": [2, 3], "c": [3, 4]})
    assert order_agreement(same) == 1
    turned = pd.DataFrame({"a": [1, 3], "b": [2, 2], "c": [3, 1]})
    assert order_agreement(turned) == -1
    # under three pipelines: +1 for one pair, -1 for two
    assert order_agreement(pd.concat([same, turned.tail(1)])) == pytest.approx(-1 / 3)
    assert np.isnan(order_agreement(same[["a"]]))


def test_shares_of_variance_are_those_of_main_effects():
    pipeline, arm, subject = np.array([0.0, 2.0]), np.array([0.0, 1.0]), np.array([0.0, 0.0, 3.0])
    shares = variance_shares(pipeline[:, None, None] + arm[:, None] + subject)
    variances = np.array([pipeline.var(), arm.var(), subject.var()])
    assert list(shares.values()) == pytest.approx(variances / variances.sum())
    interaction = np.array([[1.0, -1.0], [-1.0, 1.0]])[:, :, None] * np.ones(2)
    assert list(variance_shares(interaction).values()) == [0, 0, 0]
    assert np.isnan(list(variance_shares(np.ones((2, 2, 2))).values())).all()
