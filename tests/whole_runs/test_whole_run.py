"""What a call removes, says and plans, when it asks for a part of a run and when it asks for all of it.

Real calls of Snakemake on a few made-up scans; nothing is trained.
"""

import re

import pytest
from places import ROOT
from small_run import OVERLAY, READY, Bench, made_up_scan, save

from uad.common.files import exclusive
from uad.common.tabular import read_table

pytestmark = pytest.mark.whole_run


def jobs_in(output):
    """Rules of the jobs that a call ran or planned."""
    return set(re.findall(r"^(?:local)?rule (\w+):", output, re.MULTILINE))


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    """One run with `keep_reconstructions: false`: its output and its reconstructions after each call."""
    bench = Bench(tmp_path_factory.mktemp("whole"), "small")
    for linked in ("Snakefile", "rules", "envs"):  # `plan` calls Snakemake itself
        (bench.folder / linked).symlink_to(ROOT / linked)
    raw = bench.folder / "data" / "raw"
    for number in range(3):
        save(raw / "healthy" / f"h{number}_t2.nii.gz", made_up_scan(number)[0])
    for number in range(3):
        image, label = made_up_scan(10 + number, lesion_edge=5)
        save(raw / "ill" / f"i{number}_t2.nii.gz", image)
        save(raw / "ill" / f"i{number}_seg.nii.gz", label)
    healthy = OVERLAY["cohorts"]["healthy"] | {"subjects": 3, "splits": {"train": 1, "val": 1, "test": 1}}
    ill = READY | {"subjects": 3, "splits": {"val": 1, "test": 2}}
    bench.overlay(OVERLAY | {
        "run": "small",
        "arms": OVERLAY["arms"] | dict.fromkeys(["chance", "oracle", "oracle-post"]),
        "cohorts": OVERLAY["cohorts"] | {"healthy": healthy, "ill": ill},
        "pack": {"crop": [30, 34, 26], "factor": 1},
        "postprocess": {"median_size": 3},
        "tables": {"permutation_rounds": 20, "ablation": False},
        "execution": OVERLAY["execution"] | {"keep_reconstructions": False},
    })  # fmt: skip

    def call(*arguments):
        code, output = bench.run(*arguments)
        tables = {path.parts[-4] for path in bench.results.glob("reconstructions/*/t2/fold0/arrays.tsv")}
        assert code == 0, output
        return output, tables

    done = {"packed": call("--", "packed")}
    done["stores"] = sorted(path.name for path in bench.results.glob("store/*.images.npy"))
    done["splits"] = sorted(path.name for path in bench.results.glob("splits/*.tsv"))
    done["packed again"] = call("-n", "--", "packed")
    thresh = "results/small/metrics/thresh/t2/fold0.parquet"
    done["one target"] = call("--", thresh)
    done["until"] = call("--until", "reconstruct")
    done["parity"] = call("--", "parity")
    done["scores"] = call("--", "scores")
    done["plan"] = call("--", "plan")
    done["omit"] = call("--omit-from", "html_report")
    held = exclusive(bench.results)
    with held:
        done["second"] = bench.run()
    done["whole"] = call()
    done["records"] = sorted(path.name for path in bench.results.glob("reconstructions/*/t2/fold0/*"))
    bench.overlay({"arms": {"thresh": {"label": "Threshold"}}, "tables": {"permutation_rounds": 30}})
    done["plan of a label"] = call("--", "plan")
    done["label"] = call()
    bench.overlay({"report": {"viewer_scans": 1}, "postprocess": {"component_max_size": 3}, "seed": 5})
    done["plan of the score"] = call("--", "plan")
    done["bench"] = bench
    return done


def test_one_target_makes_all_that_a_program_of_ones_own_needs(calls):
    assert calls["stores"] == ["healthy_t2.images.npy", "ill_t2.images.npy"]
    assert calls["splits"] == ["healthy.tsv", "ill.tsv"]
    assert "reconstruct" not in jobs_in(calls["packed"][0])
    assert "Nothing to be done" in calls["packed again"][0]


@pytest.mark.parametrize("name", ["until", "parity", "scores", "plan", "omit"])
def test_reconstructions_stay_until_the_whole_run_is_made(calls, name):
    assert calls["one target"][1] == {"thresh"}
    assert calls[name][1] == {"thresh", "copy"}


def test_reconstructions_go_with_the_whole_run_and_their_records_stay(calls):
    assert calls["whole"][1] == set()
    assert calls["records"] == ["provenance.json", "provenance.json"]


def test_only_a_whole_run_is_called_complete(calls):
    parts = ["packed", "one target", "until", "parity", "scores", "plan", "omit"]
    for name in parts:
        assert "is complete" not in calls[name][0] and "\n  table " not in calls[name][0], name
    for name in ("whole", "label"):
        assert "uadbench run 'small' is complete" in calls[name][0]
        for file in re.findall(r"^  (?:table|report) +(\S+)", calls[name][0], re.MULTILINE):
            assert (calls["bench"].folder / file).is_file()
    assert "the part that was asked for is made (1 leaks, 1 reconstruct, 1 score)" in calls["one target"][0]
    assert "2 splits" in calls["packed"][0] and "only a part of it is asked for" in calls["packed"][0]
    for name in ("plan", "parity", "scores"):
        assert "uadbench run 'small'" not in calls[name][0]


def test_the_scores_that_are_there_are_printed_and_no_others_are_made(calls):
    said = calls["scores"][0]
    assert jobs_in(said) == {"scores"} and "Not scored yet: copy" in said
    (dice,) = re.findall(r"^Thresh +2 +1 +([\d.]+|–) ", said, re.MULTILINE)
    assert dice


def test_a_second_driver_is_told_who_holds_the_run(calls):
    code, output = calls["second"]
    assert code == 1 and "Traceback" not in output
    (line,) = (line for line in output.splitlines() if "is being made by another Snakemake" in line)
    assert re.search(r"process \d+ on \S+, since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d;", line)
    assert "common.smk" not in output


def test_a_label_and_the_number_of_permutations_make_no_reconstruction_again(calls):
    assert {"tables", "html_report"} <= jobs_in(calls["label"][0])
    assert not {"reconstruct", "score"} & jobs_in(calls["label"][0])
    assert "Threshold" in (calls["bench"].results / "report" / "index.html").read_text()


def test_the_plan_names_the_keys_that_changed(calls):
    said = calls["plan of a label"][0]
    assert "tables.permutation_rounds: 20 before, 30 now (" in said
    said = calls["plan of the score"][0]
    assert re.search(r"seed: 3141 before, 5 now \(.*2 splits", said)
    assert "Changed since" not in calls["plan"][0]


def test_the_viewer_shows_what_scoring_kept(calls):
    volumes = calls["bench"].results / "report" / "volumes"
    shown = read_table(calls["bench"].results / "splits" / "ill.tsv").query("split == 'test'")["subject"]
    assert len(list(volumes.glob("ill_t2_?.js"))) == len(shown) == 2
    assert len(list(volumes.glob("ill_t2_?_thresh.js"))) == 2
