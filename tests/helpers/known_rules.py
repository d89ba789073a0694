"""The rules as Snakemake has read them: a rule file that is included last writes down what each is and asks for."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from places import ROOT

_LAST_RULE_FILE = """
import json
from types import SimpleNamespace

example = SimpleNamespace(arm="cddpm-ssl", modality="t2", fold="0", cohort="ixi", shard="0")


def asked(each, attempt):
    named = {name: value for name, value in each.resources.items() if name != "tmpdir"}
    return {name: value.evaluate(example, attempt=attempt, threads=1).value for name, value in named.items()}


rule nothing:
    shell:
        "true"


known = {
    each.name: {
        "log": list(map(str, each.log)),
        "benchmark": each.benchmark and str(each.benchmark),
        "conda": each.conda_env and str(each.conda_env),
        "output": list(map(str, each.output)),
        "shell": each.shellcmd,
        "local": each.name in workflow._localrules,  # without a cluster all are run locally
        "retries": each._restart_times,  # the public property asks the executor of a cluster
        "first": asked(each, 1),
        "second": asked(each, 2),
    }
    for each in workflow.rules
    if each.name not in ("all", "packed", "nothing")
}
Path("rules.json").write_text(json.dumps(known))
"""


@cache
def known_rules() -> dict[str, dict]:
    """{rule: log, benchmark, conda, output, shell, local, retries, and resources on the first and second attempt}.

    Resources are those of a job of cddpm-ssl on T2 with one thread; `retries` is None where the profile decides.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        for entry in ("Snakefile", "workflow_scripts", "envs", "config.yaml", *map(str, _rule_files())):
            (folder / entry).parent.mkdir(parents=True, exist_ok=True)
            (folder / entry).symlink_to(ROOT / entry)
        (folder / "rules/baselines/zz-last.smk").write_text(_LAST_RULE_FILE)
        run = subprocess.run(
            [sys.executable, "-m", "snakemake", "-n", "nothing"], cwd=folder, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stdout + run.stderr
        return json.loads((folder / "rules.json").read_text())


def _rule_files() -> list[Path]:
    return [path.relative_to(ROOT) for path in (ROOT / "rules").rglob("*.*")]
