"""Two runs at once: in one checkout, on one data folder; a run started twice; a lock that was left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from places import ROOT, SCRIPTS

from uad.common.files import exclusive
from uad.common.recipe import write_settings

pytestmark = pytest.mark.whole_run


# --- what is outside Snakemake's view: archives and what is unpacked from them ---------------------------------------


def test_a_folder_is_held_by_one_process_and_free_when_that_is_killed(tmp_path):
    folder = tmp_path / "raw" / "ixi"
    program = """
import sys, time
from uad.common.files import exclusive
from uad.common.recipe import write_settings
with exclusive(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", program, folder], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    told = []

    def hold():
        with exclusive(folder, lambda: told.append(time.time())):
            return time.time()

    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(hold)
        while not told:
            time.sleep(0.01)
        time.sleep(0.3)
        assert not held.done()
        killed = time.time()
        holder.send_signal(signal.SIGKILL)
        assert killed <= held.result(timeout=30)
    holder.wait()
    assert not folder.exists()  # who asks for it makes it


def test_a_disk_that_takes_no_lock_is_used_without(tmp_path):
    (tmp_path / "raw").write_text("a file where a folder is looked for")
    with exclusive(tmp_path / "raw" / "ixi", lambda: pytest.fail("nobody holds it")):
        pass


def test_what_fetches_or_unpacks_waits_for_another_run(tmp_path):
    (tmp_path / "raw" / "ixi").mkdir(parents=True)
    need = {"item": "ixi", "name": "ixi", "folder": str(tmp_path / "raw/ixi"), "modalities": ["t1"]}
    sources = {"run": "a", "data_dir": str(tmp_path), "needs": [need], "offline": True, "base_url": {}, "sha256": {}}
    (tmp_path / "sources.json").write_text(json.dumps(sources))
    cohort = {"adapter": "ixi", "modalities": ["t1"], "subjects": 1, "splits": {"val": 1, "test": 0}}
    settings = write_settings(tmp_path, "ingest", "ixi", {"cohort": cohort})
    programs = {
        "raw/ixi": ["download_cohort.py", "--cohort", "ixi", "--adapter", "ixi", "--folder", tmp_path / "raw/ixi",
                    "--sources", tmp_path / "sources.json", "--table", tmp_path / "acquired.tsv"],
        "unpacked/ixi": ["ingest.py", "--settings", settings, "--raw", tmp_path / "raw/ixi", "--unpacked",
                         tmp_path / "unpacked/ixi", "--table", tmp_path / "ixi.tsv"],
    }  # fmt: skip
    for folder, (program, *arguments) in programs.items():
        with exclusive(tmp_path / folder):
            process = subprocess.Popen(
                [sys.executable, SCRIPTS / program, *arguments], stderr=subprocess.PIPE, text=True
            )
            assert "waiting: another run" in process.stderr.readline()
        assert "error: " in process.communicate()[1]  # goes on, and finds that there is nothing


# --- what Snakemake guards -------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path):
    """The workflow in a folder of its own, with an archive of BraTS in place."""
    for name in ("Snakefile", "rules", "workflow_scripts", "envs", "config.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    scan = tmp_path / "data/raw/brats21/RSNA-ASNR-MICCAI-BraTS-2021/BraTS2021_00000/BraTS2021_00000_t2.nii.gz"
    scan.parent.mkdir(parents=True)
    scan.touch()
    return tmp_path


def snakemake(checkout, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--cores", "1", *arguments],
        cwd=checkout, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def acquiring(checkout, run):
    """A run that looks at the archive, with its table as the only target."""
    return snakemake(checkout, "--config", f"run={run}", "--", f"results/{run}/acquired/brats21.tsv")


def wait_until(process, said):
    lines = []
    while not lines or said not in lines[-1]:
        lines.append(process.stdout.readline())
        assert lines[-1], "".join(lines)


def test_two_runs_go_on_at_once_and_one_run_started_twice_is_refused(checkout):
    with exclusive(checkout / "data/raw/brats21"):
        runs = [acquiring(checkout, "a"), acquiring(checkout, "b")]
        for run in runs:
            wait_until(run, "waiting: another run")
        again = acquiring(checkout, "a")
        said = again.communicate()[0]
        assert again.returncode == 1 and "Directory cannot be locked" in said, said
        # a Snakemake that ends takes the locks of all others with it
        other = snakemake(checkout, "--config", "run=c", "sources={offline: true}", "--", "results/c/acquired/wmh.tsv")
        said = other.communicate()[0]
        assert "sources.offline" in said and not (checkout / ".snakemake/locks").exists(), said
        again = acquiring(checkout, "a")
        said = again.communicate()[0]
        assert again.returncode == 1 and "run 'a' is being made by another Snakemake" in said, said
        assert "Traceback" not in said
    for run in runs:
        said = run.communicate()[0]
        assert run.returncode == 0, said
    tables = [(checkout / f"results/{run}/acquired/brats21.tsv").read_text() for run in "ab"]
    assert tables[0] == tables[1] and "RSNA-ASNR-MICCAI-BraTS-2021" in tables[0]


def test_a_lock_left_by_a_killed_driver_is_removed_as_the_message_says(checkout):
    with exclusive(checkout / "data/raw/brats21"):
        run = acquiring(checkout, "a")
        wait_until(run, "waiting: another run")
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
    refused = acquiring(checkout, "a")
    said = refused.communicate()[0]
    assert refused.returncode == 1 and "removed with the --unlock argument" in said, said
    unlock = snakemake(checkout, "--unlock")
    said = unlock.communicate()[0]
    assert unlock.returncode == 0, said
    again = acquiring(checkout, "a")
    said = again.communicate()[0]
    assert again.returncode == 0, said
