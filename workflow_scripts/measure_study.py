"""Measure one arm, modality and fold for a study."""

import argparse
from pathlib import Path

import pandas as pd

from uad.common.errors import run_program
from uad.common.files import atomic_path
from uad.common.log import job_log
from uad.common.recipe import read_settings
from uad.common.store import open_stores
from uad.common.tabular import read_table
from uad.config.model import InferenceSettings
from uad.inference.outputs import Outputs
from uad.methods import method_of
from uad.reporting.benchmarks import read_benchmark
from uad.scoring.cohort import ScoredCohort
from uad.scoring.score_arm import readings_of, score_settings
from uad.studies import ScoredArm, load_study
from uad.workflow.provenance import Provenance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, type=Path)
    parser.add_argument("--scores", required=True, type=Path, help="the arm's metrics file")
    parser.add_argument("--arrays", required=True, type=Path, help="table of the arm's cached arrays")
    parser.add_argument("--stores", required=True, nargs="+", type=Path, help="files of the packed scans")
    parser.add_argument("--splits", required=True, nargs="+", type=Path, help="a table per cohort")
    parser.add_argument("--planted", nargs="*", default=[], type=Path, help="a table of plantings per planted cohort")
    parser.add_argument("--fold", required=True, type=int)
    parser.add_argument("--benchmark", nargs="*", default=[], type=Path, help="Snakemake's, of the reconstruct job")
    parser.add_argument("--output", required=True, type=Path)
    arguments = parser.parse_args()

    settings = read_settings(arguments.settings)
    provenance = Provenance(settings)
    about = settings["study"]
    progress = job_log(f"{about['question']} {settings['arm']} {settings['modality']}")
    method, inference = method_of(settings), InferenceSettings.model_validate(settings["inference"])
    outputs = Outputs(arguments.arrays, inference.ensemble)
    splits = {path.stem: path for path in arguments.splits}
    cohorts = {
        name: ScoredCohort(name, store, splits[name], arguments.fold, outputs, progress)
        for name, store in open_stores(arguments.stores, settings["modality"]).items()
    }
    arm = ScoredArm(
        settings["arm"], cohorts, settings["train_cohort"], readings_of(method, inference),
        score_settings(settings, method.postprocess), pd.read_parquet(arguments.scores),
        {path.stem: _untouched(path) for path in arguments.planted}, about.get("planted_of", ""), method,
        *(read_benchmark(path)["s"].mean() for path in arguments.benchmark),
    )  # fmt: skip
    kind = load_study(about["question"])
    rows = kind(kind.Params.model_validate(about["params"])).measure(arm)
    with atomic_path(arguments.output) as temporary:
        rows.to_parquet(temporary, index=False)
    provenance.write(arguments.output.with_suffix(".json"), rows=len(rows))


def _untouched(table: Path) -> dict[str, str]:
    """Planted subject -> the healthy subject whose scan it is."""
    rows = read_table(table)
    return dict(zip(rows["subject"], rows["healthy"], strict=True))


if __name__ == "__main__":
    run_program(main)
