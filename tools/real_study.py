"""The tables of docs/real-scans.md and README.md and the figures, from the scores of the real study.

    python tools/real_study.py --results results/real    # take the scores of a run, then write and draw
    python tools/real_study.py                           # the same from the scores that are kept

What is kept are scores, no scans: `docs/real/scores.parquet` has one row per arm, fold, noise level and test scan,
`docs/real/contrast.tsv` one per fold, cohort, arm and contrast.  Another run's folds and arms are added to those kept.
"""

import argparse
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
import yaml
from matplotlib.axes import Axes
from readme_table import parts_of

from uad.common.errors import InputError, run_program
from uad.common.files import atomic_path
from uad.common.tabular import read_table, write_table
from uad.reporting import style
from uad.reporting.cells import Cell, build_cell, cell_rows, select_rows
from uad.reporting.experiments import divergences, load_experiments
from uad.reporting.paper_numbers import METRICS
from uad.reporting.statistics import bootstrap_interval, permutation_test

FOLDER = Path("docs/real")
PAGE, README = Path("docs/real-scans.md"), Path("README.md")
TABLE, DIFFERENCES = "<!-- the real study: tools/real_study.py -->", "<!-- its differences: tools/real_study.py -->"
SPREAD = "<!-- its folds: tools/real_study.py -->"
SHORT = ("thresh", "thresh-inv", "ae", "pca", "ddpm", "cddpm", "cddpm-ssl")  # arms in the README
KEPT = ["arm", "fold", "cohort", "modality", "t_test", "subject", "split", "variant", "lesion_ml"]
SCORES = ["dice", "auprc", "l1", "l1_lesion", "l1_healthy", "ssim", "psnr", "kld"]
ROLES = {"unconditioned": "ddpm", "conditioned": "cddpm"}
LESIONS = ("lgg", "planted")
HEALTHY = ("ixi-hh", "oasis")
TITLES = {"lgg": "gliomas", "planted": "planted strokes", "ixi-hh": "IXI-HH", "oasis": "OASIS"}
PAIRS = [
    ("cddpm", "ddpm", 0), ("cddpm", "ddpm", 1), ("cddpm-ssl", "ddpm", 0), ("cddpm-ssl", "ddpm", 1), ("cddpm", "pca", 0),
    ("cddpm", "thresh-inv", 0),
]  # fmt: skip
# people of OASIS who were scanned twice: second scan -> first
AGAIN = {
    "sub-1023": "sub-1003",
    "sub-1024": "sub-1004",
    "sub-1025": "sub-1005",
    "sub-1038": "sub-1018",
    "sub-1039": "sub-1019",
}
CONTROLS = ("oracle", "oracle-post", "chance", "copy")
SINGLE = "500"
SEED = 0


def kept_scores(results: Path | None, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Kept scores and contrasts, those of `results` in the place of kept ones of the same arm and fold."""
    places = folder / "scores.parquet", folder / "contrast.tsv"
    kept = [pd.read_parquet(places[0]), read_table(places[1])] if places[0].exists() else [pd.DataFrame()] * 2
    if results:
        files = sorted(results.glob("metrics/*/*/fold*.parquet"))
        if not files:
            raise InputError(f"{results}: has no scores; finish the run first")
        new = pd.concat(pd.read_parquet(file, columns=KEPT + SCORES) for file in files)
        new = new[(new["split"] == "test") & (new["variant"] == "full")]
        experiments = sorted(results.glob("experiments/t1/*.npz"))
        contrasts = [contrasts_of(file, int(file.stem.removeprefix("fold"))) for file in experiments]
        kept[0] = replaced(kept[0], new)
        if contrasts:
            kept[1] = replaced(kept[1], pd.concat(contrasts))
        folder.mkdir(parents=True, exist_ok=True)
        kept[0] = kept[0].sort_values(KEPT[:6], ignore_index=True)
        with atomic_path(places[0]) as temporary:
            kept[0].to_parquet(temporary)
        write_table(kept[1].astype(str).sort_values(list(kept[1].columns), ignore_index=True), places[1])
    if not len(kept[0]):
        raise InputError(f"{places[0]}: does not exist; name a finished run with --results")
    return kept[0], kept[1].astype({"fold": int, "contrast": float, "kld": float})


def replaced(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Both, without old rows of an arm and fold that is in the new ones."""
    if len(old):
        keys = ["arm", "fold"]
        old = old.astype({"fold": int})
        old = old[~pd.MultiIndex.from_frame(old[keys]).isin(pd.MultiIndex.from_frame(new[keys]))]
    return pd.concat([old, new], ignore_index=True)


def contrasts_of(file: Path, fold: int) -> pd.DataFrame:
    arrays = load_experiments(file)
    cohorts = [key.split("/")[1] for key in arrays if key.startswith("histograms/") and key.endswith("/contrasts")]
    return pd.DataFrame(
        {
            "fold": fold,
            "cohort": cohort,
            "arm": arm,
            "contrast": contrast,
            "kld": divergences([arrays], cohort, role, i)[0],
        }
        for cohort in cohorts
        for role, arm in ROLES.items()
        for i, contrast in enumerate(arrays[f"histograms/{cohort}/contrasts"])
    )


def person_of(scan: str) -> str:
    """Who was scanned: planted scans of one person are its sessions."""
    return AGAIN.get(scan, scan.partition("_ses-")[0])


class Study:
    """The kept scores and what is asked of them."""

    def __init__(self, scores: pd.DataFrame) -> None:
        self.folds = sorted(set(scores["fold"]))
        self.rows = select_rows(scores, self.folds)
        self.arms = yaml.safe_load(Path("config.yaml").read_text())["arms"]
        there = set(self.rows["arm"])
        self.readings = [
            (arm, ens)
            for arm in self.arms
            if arm in there
            for ens in ((0, 1) if (self.rows[self.rows["arm"] == arm]["t_test"] == "ens").any() else (0,))
        ]

    def cell(self, arm: str, ens: int, cohort: str, metric: str) -> Cell:
        return build_cell(cell_rows(self.rows, arm, ens, cohort, "t1", SINGLE), metric, self.folds)

    def scores(self, arm: str, ens: int, cohort: str, metric: str, folds: Collection[int] = ()) -> pd.Series:
        """Mean over folds (none named: all) and scans of each person: two scans of one person are not independent."""
        rows = cell_rows(self.rows, arm, ens, cohort, "t1", SINGLE)
        rows = rows[rows["fold"].isin(folds)] if folds else rows
        return build_cell(rows, metric, self.folds).scores.groupby(person_of).mean()

    def folds_of(self, *arms: str) -> list[int]:
        """The folds in which all of these arms were scored."""
        return sorted(set.intersection(*(set(self.rows[self.rows["arm"] == arm]["fold"]) for arm in arms)))

    def label(self, arm: str, ens: int) -> str:
        return self.arms[arm]["label"] + (", ensemble" if ens else "")

    def has(self, cohort: str) -> bool:
        return bool((self.rows["cohort"] == cohort).any())

    def difference(self, one: str, other: str, ens: int, cohort: str, metric: str) -> pd.Series:
        """Per person, over the folds that both arms have; an arm without noise levels has one reading."""
        folds = self.folds_of(one, other)
        two = (
            self.scores(arm, ens if (arm, ens) in self.readings else 0, cohort, metric, folds) for arm in (one, other)
        )
        first, second = two
        return (first - second).dropna()


def with_interval(values: pd.Series, decimals: int) -> str:
    low, high = bootstrap_interval(values.to_numpy(), SEED)
    return f"{values.mean():.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]"


def table(study: Study, arms: Collection[str] = (), healthy: Sequence[str] = ("l1", "ssim", "kld")) -> list[str]:
    """A row per arm and reading: what it finds, and how it reconstructs healthy scans."""
    columns = [(c, m) for c in LESIONS if study.has(c) for m in ("dice", "auprc")]
    columns += [(c, m) for c in HEALTHY if study.has(c) for m in healthy]
    head = ["Arm", "Folds", *(f"{TITLES[cohort]}<br>{METRICS[metric].title}" for cohort, metric in columns)]
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " --: |" * (len(columns) + 1)]
    for arm, ens in study.readings:
        if arms and arm not in arms:
            continue
        line = [study.label(arm, ens), str(len(study.folds_of(arm)))]
        for cohort, metric in columns:
            scores = study.scores(arm, ens, cohort, metric)
            if not len(scores.dropna()):
                line.append("")
            elif metric in ("dice", "auprc"):
                line.append(with_interval(scores, 1))
            else:
                line.append(f"{study.cell(arm, ens, cohort, metric).mean:.{METRICS[metric].decimals}f}")
        lines.append("| " + " | ".join(line) + " |")
    return lines


def comparisons(study: Study) -> list[str]:
    lines = [
        "| difference | on | metric | folds | mean [95 %] over people | n | p |",
        "| --- | --- | --- | --: | --: | --: | --: |",
    ]
    for one, other, ens in PAIRS:
        if not {one, other} <= {arm for arm, _ in study.readings}:
            continue
        for cohort in filter(study.has, LESIONS):
            for metric in ("dice", "auprc"):
                values = study.difference(one, other, ens, cohort, metric)
                p = permutation_test(values, np.zeros(len(values)), seed=SEED)
                name = f"{study.label(one, ens)} − {study.label(other, ens if (other, ens) in study.readings else 0)}"
                folds = len(study.folds_of(one, other))
                what = name, TITLES[cohort], METRICS[metric].title, folds
                cells = *what, with_interval(values, 1), len(values), f"{p:.2g}"
                lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def spread(study: Study) -> list[str]:
    """The differences of every fold on its own: another training, on other people, with another seed."""
    head = ["difference", "on", "metric", *(f"fold {fold}" for fold in study.folds)]
    lines = ["| " + " | ".join(head) + " |", "| --- | --- | --- |" + " --: |" * len(study.folds)]
    for one, other, ens in PAIRS[:4]:
        for cohort in filter(study.has, LESIONS):
            for metric in ("dice", "auprc"):
                means = [study.cell(arm, ens, cohort, metric).fold_means for arm in (one, other)]
                cells = [
                    f"{means[0][fold] - means[1][fold]:.1f}" if all(fold in of for of in means) else ""
                    for fold in study.folds
                ]
                name = f"{study.label(one, ens)} − {study.label(other, ens)}"
                lines.append("| " + " | ".join([name, TITLES[cohort], METRICS[metric].title, *cells]) + " |")
    return lines


def save(figure: plt.Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=160, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)


def draw(study: Study, contrast: pd.DataFrame, folder: Path) -> None:
    """Four figures of scores; no picture of a scan."""
    seaborn.set_theme("paper", "whitegrid")
    np.random.seed(SEED)  # seaborn jitters the dots with it
    shown = [reading for reading in study.readings if reading[0] not in CONTROLS]
    lesions = [cohort for cohort in LESIONS if study.has(cohort)]
    palette = [
        look.colour for look in style.looks([{"arm": arm, "control": arm in CONTROLS} for arm in study.arms]).values()
    ]
    colours = dict(zip(study.arms, palette, strict=True))

    long = pd.concat(
        study.scores(arm, ens, cohort, "auprc").rename("AUPRC (%)").reset_index().assign(
            arm=study.label(arm, ens), cohort=TITLES[cohort])
        for arm, ens in shown for cohort in lesions
    )  # fmt: skip
    grid = seaborn.catplot(
        long.reset_index(drop=True),
        x="AUPRC (%)", y="arm", col="cohort", kind="box", height=4, aspect=0.9, color="#88CCEE", fliersize=2,
        sharex=False,
    )  # fmt: skip
    grid.set_titles("{col_name}").set_ylabels("")
    save(grid.figure, folder / "auprc.png")

    pairs = pd.concat(
        study.difference("cddpm", "ddpm", ens, cohort, metric).rename("difference in points").reset_index().assign(
            metric=METRICS[metric].title.replace(" (%)", ""), cohort=TITLES[cohort],
            reading="ensemble" if ens else f"t_test {SINGLE}")
        for ens in (0, 1) for cohort in lesions for metric in ("dice", "auprc")
    )  # fmt: skip
    grid = seaborn.catplot(
        pairs.reset_index(drop=True),
        x="metric", y="difference in points", hue="reading", col="cohort", kind="strip", dodge=True, height=3.2,
        aspect=0.9, palette=["#88CCEE", "#332288"], alpha=0.7,
    )  # fmt: skip
    for panel in grid.axes.flat:
        panel.axhline(0, color="black", linewidth=0.8)
    grid.set_titles("{col_name}: cDDPM minus DDPM").set_xlabels("")
    save(grid.figure, folder / "difference.png")

    healthy = pd.concat(
        study.scores(arm, ens, cohort, "l1").rename("l1 (1e-3)").reset_index().assign(
            arm=study.label(arm, ens), cohort=TITLES[cohort])
        for arm, ens in shown if study.scores(arm, ens, HEALTHY[0], "l1").notna().any()
        for cohort in HEALTHY if study.has(cohort)
    )  # fmt: skip
    figure, panel = plt.subplots(figsize=(5.5, 4))
    seaborn.pointplot(
        healthy.reset_index(drop=True),
        x="l1 (1e-3)", y="arm", hue="cohort", linestyle="none", dodge=0.4, errorbar=("ci", 95), seed=SEED,
        palette=["#332288", "#CC6677"], ax=panel,
    )  # fmt: skip
    panel.set_ylabel("")
    panel.legend(title="healthy test scans of")
    save(figure, folder / "healthy.png")

    figure, panels = plt.subplots(1, 2, figsize=(10, 3))
    levels = study.rows[study.rows["t_test"].str.isdigit() & study.rows["cohort"].isin(lesions)]
    levels = levels.assign(
        t_test=levels["t_test"].astype(int), Dice=100 * levels["dice"], cohort=levels["cohort"].map(TITLES),
        arm=levels["arm"].map({arm: study.label(arm, 0) for arm in study.arms}),
    )  # fmt: skip
    by_label = {study.label(arm, 0): colour for arm, colour in colours.items()}
    _lines(levels, "t_test", "Dice", by_label, panels[0])
    panels[0].set(xlabel="t_test", ylabel="Dice (%)", xticks=sorted(set(levels["t_test"])))
    kld = contrast.assign(
        arm=contrast["arm"].map(lambda arm: study.label(arm, 0)), cohort=contrast["cohort"].map(TITLES)
    )
    _lines(kld, "contrast", "kld", by_label, panels[1])
    panels[1].set(
        xlabel="contrast exponent of the input", ylabel="KLD of healthy intensities", xscale="log", yscale="log"
    )
    contrasts = sorted(set(kld["contrast"]))
    panels[1].set_xticks(contrasts, [f"{contrast:g}" for contrast in contrasts])
    panels[1].minorticks_off()
    figure.tight_layout()
    save(figure, folder / "levels.png")


def _lines(rows: pd.DataFrame, x: str, y: str, colours: Mapping[str, str], panel: Axes) -> None:
    """Means over scans: a colour per arm, a line style per cohort, the legend beside the panel."""
    seaborn.lineplot(
        rows, x=x, y=y, hue="arm", style="cohort", markers=True, errorbar=None, palette=colours, ax=panel
    )  # fmt: skip
    panel.legend(fontsize=6, loc="upper left", bbox_to_anchor=(1.01, 1))


def pages(study: Study) -> dict[Path, str]:
    """Both pages with the tables of these scores."""
    places = [
        (PAGE, TABLE, table(study)),
        (PAGE, DIFFERENCES, comparisons(study)),
        (PAGE, SPREAD, spread(study)),
        (README, TABLE, table(study, SHORT, ("l1", "kld"))),
    ]
    texts = {page: page.read_text() for page, _, _ in places}
    for page, begin, lines in places:
        before, _, after = parts_of(texts[page], begin, str(page))
        texts[page] = f"{before}\n\n" + "\n".join(lines) + f"\n\n{after}"
    return texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, help="folder of a finished run of real/config.yaml")
    arguments = parser.parse_args()
    scores, contrast = kept_scores(arguments.results, FOLDER)
    study = Study(scores)
    for page, text in pages(study).items():
        with atomic_path(page) as temporary:
            temporary.write_text(text)
    draw(study, contrast, FOLDER)
    print(f"folds {study.folds}: {', '.join(map(str, (PAGE, README, FOLDER)))}")


if __name__ == "__main__":
    run_program(main)
