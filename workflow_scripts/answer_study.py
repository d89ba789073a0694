"""Answer a study's question from the scores of its arms."""

import argparse
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from uad.cohorts.people import person_of
from uad.common.errors import run_program
from uad.common.log import job_log
from uad.common.recipe import read_settings
from uad.common.tabular import read_table
from uad.reporting import style
from uad.reporting.experiments import load_experiments
from uad.reporting.scores import read_lesions, read_scores
from uad.scoring.arm_files import read_arm_files
from uad.studies import Evidence, load_study
from uad.studies.page import write_answer
from uad.workflow.provenance import Provenance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, type=Path)
    parser.add_argument("--scores", required=True, nargs="+", type=Path)
    parser.add_argument("--lesions", required=True, nargs="+", type=Path, help="<arm>/<modality>/fold<k>.parquet")
    parser.add_argument("--measured", nargs="*", default=[], type=Path, help="<arm>/<modality>/fold<k>.parquet")
    parser.add_argument("--experiments", nargs="*", default=[], type=Path, help="<modality>/fold<k>.npz")
    parser.add_argument("--stores", required=True, nargs="+", type=Path, help="a store's table per cohort and modality")
    parser.add_argument("--folder", required=True, type=Path)
    arguments = parser.parse_args()

    settings = read_settings(arguments.settings)
    provenance = Provenance(settings)
    about, arms, folds = settings["study"], settings["arms"], settings["folds"]
    progress = job_log(f"study {about['question']}")
    evidence = Evidence(
        arms=arms,
        scores=read_scores(arguments.scores, arms, folds),
        lesions=read_lesions(arguments.lesions, arms, folds),
        measured=read_arm_files(arguments.measured) if arguments.measured else pd.DataFrame(),
        scans=pd.concat([_scans_of(path, settings["person"]) for path in arguments.stores], ignore_index=True),
        healthy=[tuple(place) for place in settings["healthy"]],
        pathological=[tuple(place) for place in settings["pathological"]],
        folds=range(folds),
        single=str(settings["single"]),
        rounds=settings["rounds"],
        seed=settings["seed"],
        experiments={path.parent.name: load_experiments(path) for path in arguments.experiments},
    )
    kind = load_study(about["question"])
    study = kind(kind.Params.model_validate(about["params"]))
    run = {key: settings[key] for key in ("run", "protocol", "phantom", "folds")}
    with style.context():
        answer = study.answer(evidence)
        write_answer(study, answer, arguments.folder, run)
    provenance.write(arguments.folder / "provenance.json", rows=len(evidence.scores))
    for line in answer.found:
        progress(line)


def _scans_of(table: Path, rules: Mapping[str, str | None]) -> pd.DataFrame:
    """A store's index, `<cohort>_<modality>.tsv`, with cohort and modality of its name and the person of each scan."""
    cohort, _, modality = table.stem.rpartition("_")
    rows = read_table(table, integers=("row",)).assign(cohort=cohort, modality=modality)
    rows["person"] = [person_of(subject, rules[cohort]) for subject in rows["subject"]]
    return rows.assign(lesion_ml=rows["lesion_ml"].astype(float), age=pd.to_numeric(rows["age"], errors="coerce"))


if __name__ == "__main__":
    run_program(main)
