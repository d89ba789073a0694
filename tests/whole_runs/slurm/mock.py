#!/usr/bin/env python3
"""Stands in for sbatch, squeue, sinfo and their like: writes down each submission and makes the job's files at once.

MOCK_SLURM is a folder with jobs.json: what each job ("train:arm=ae,fold=0") makes.  Submissions go to submitted.jsonl.
"""

import json
import os
import re
import sys
from pathlib import Path

FOLDER = Path(os.environ["MOCK_SLURM"])
SUBMITTED = FOLDER / "submitted.jsonl"


def submitted() -> list[dict]:
    return [json.loads(line) for line in SUBMITTED.read_text().splitlines()] if SUBMITTED.exists() else []


def sbatch(arguments: list[str]) -> None:
    options, wrapped = arguments[:-1], arguments[-1]
    job = re.search(r"--target-jobs '([^']+)'", wrapped)[1]
    for path in json.loads((FOLDER / "jobs.json").read_text())[job]:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text("made by the mock\n")
    number = len(submitted()) + 1
    with open(SUBMITTED, "a") as stream:
        stream.write(json.dumps({"job": job, "options": options}) + "\n")
    print(number)


def states() -> None:
    for number in range(1, len(submitted()) + 1):
        print(f"{number}|COMPLETED")


program = Path(sys.argv[0]).name
if program == "sbatch":
    sbatch(sys.argv[1:])
elif program in ("squeue", "sacct"):
    states()
elif program == "sinfo":
    print("PARTITION\nbatch*\ngpu")
elif program in ("sacctmgr", "sshare"):
    print("lab-17\n")
elif program == "scontrol":
    print("MaxArraySize = 1001\nMinJobAge = 300 sec")
