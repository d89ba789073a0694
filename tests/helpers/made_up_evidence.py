"""Evidence of a study from made-up rows."""

import pandas as pd

from uad.studies import Evidence

COMMON = {"control": False, "per_fold": True, "params": {}, "train_cohort": "ixi", "without_sites": []}
LABELS = {"ae": "AE", "ddpm": "DDPM", "pddpm": "pDDPM", "cddpm": "cDDPM"}


def evidence_of(arms, scores=None, lesions=None, measured=None, person=(), healthy=(("ixi", "t2"),),
                pathological=(("wmh", "t2"),), folds=1, site=()):  # fmt: skip
    """Evidence on the scans that the rows name; a scan is a person of its own unless `person` says who it is.

    Args:
        person, site: subject -> its person and site.
    """
    tables = [table for table in (scores, lesions, measured) if table is not None]
    scans = pd.concat([table[["cohort", "modality", "subject"]] for table in tables]).drop_duplicates(ignore_index=True)
    known = dict(person)
    scans = scans.assign(
        person=[known.get(subject, subject) for subject in scans["subject"]],
        site=[dict(site).get(subject, "") for subject in scans["subject"]],
        age=float("nan"), lesion_ml=1.0,
    )  # fmt: skip
    return Evidence(
        arms=[{"arm": arm, "method": arm, "label": LABELS.get(arm, arm), **COMMON} for arm in arms],
        scores=pd.DataFrame() if scores is None else scores,
        lesions=pd.DataFrame() if lesions is None else lesions,
        measured=pd.DataFrame() if measured is None else measured,
        scans=scans, healthy=list(healthy), pathological=list(pathological), folds=range(folds), single="500",
        rounds=200, seed=0,
    )  # fmt: skip
