"""Both ways to add a baseline: the template and the code of docs/add-a-baseline.md, and which jobs they add.

Plans are made in a copy of the repository whose demo counts as finished: empty files, touched by Snakemake.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from places import ROOT, SCRIPTS

from uad.config import arm_settings, load
from uad.methods import known_methods, load_method

pytestmark = pytest.mark.whole_run

PAGE = (ROOT / "docs" / "add-a-baseline.md").read_text()
METHODS = Path("workflow_scripts/uad/methods")
PAGE_METHODS = dict(re.findall(r"#### `(\w+)\.py`.*?```python\n(.*?)```", PAGE, re.DOTALL))
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
    environment = os.environ | {"PYTHONPATH": str(folder / "workflow_scripts")}  # it has no .venv of its own
    done = subprocess.run([sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, env=environment)
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
    """A copy with the template as `mine`, the page's methods under the names it gives them, and the page's card."""
    folder = copied(tmp_path_factory.mktemp("clone"))
    shutil.copy(folder / METHODS / "_template.py", folder / METHODS / "mine.py")
    for name, method in PAGE_METHODS.items():
        (folder / METHODS / f"{name}.py").write_text(method)
    (card,) = blocks("markdown")
    (folder / "docs" / "methods" / "mine.md").write_text(card)
    return folder


def test_the_template_is_not_a_method():
    assert (ROOT / METHODS / "_template.py").exists() and "_template" not in known_methods()


def test_the_page_shows_whole_methods_that_are_short():
    assert list(PAGE_METHODS) == ["unsure", "local_mean", "smooth"]
    assert all(len(method.splitlines()) < 40 for method in PAGE_METHODS.values())


def test_the_contract_runs_on_template_page_and_card(clone):
    code, output = run(
        clone, "pytest", "-q", "-p", "no:cacheprovider", "tests/methods/test_methods.py",
        "tests/methods/test_method_cards.py",
        "-k", f"mine or (({' or '.join(PAGE_METHODS)}) and test_methods)", "--junitxml", "ran.xml",
    )  # fmt: skip
    assert code == 0, output
    ran = (clone / "ran.xml").read_text()
    passed = {name for name, body in re.findall(r'name="(\w+\[[\w-]+\])"[^>]*?(/>|>)', ran) if body == "/>"}
    for name, contract in (("mine", 6), ("unsure", 6), ("local_mean", 5), ("smooth", 2)):
        assert len([test for test in passed if f"[{name}" in test and "card" not in test]) >= contract, name
    assert {f"test_card_{what}[mine]" for what in (
        "says_what_the_method_is", "lists_the_keys_with_their_defaults", "has_the_counted_parameters_and_operations"
    )} <= passed  # fmt: skip


@pytest.fixture(scope="module")
def finished(clone):
    """The copy with a demo of Thresh, AE, DDPM and PCA that Snakemake takes for finished."""
    others = yaml.safe_load((clone / "config.yaml").read_text())["arms"].keys() - {"thresh", "ae", "ddpm"}
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


def test_heads_on_a_finished_run_train_nothing(finished):
    (overlay,) = (block for block in blocks("yaml") if "ddpm-local" in arms_of(block))
    methods = [name for name in known_methods() if load_method(name).starts_from]
    # one needs a conditioned arm, which the finished run does not have
    methods.remove("recondition")
    needed = {"matched": {"params": {"how": "gain"}}}
    heads = {name.replace("_", "-"): {"method": name, "from": "ddpm"} | needed.get(name, {}) for name in methods}
    (finished / "heads.yaml").write_text(yaml.safe_dump({"arms": heads | arms_of(overlay)}))
    jobs = plan(finished, "pca.yaml", "heads.yaml")
    own = {rule: count for rule, count in jobs.items() if count > 1}
    assert len(heads) >= 4 and own == dict.fromkeys(("reconstruct", "score"), 2 * (len(heads) + 1))  # T1 and T2
    assert jobs.keys() - own.keys() == jobs_on_the_page().keys() - {"train", "reconstruct", "score"}


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
