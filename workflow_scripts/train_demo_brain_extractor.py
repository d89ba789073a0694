"""Train the demo's brain extractor on phantoms and write it as a folder of HD-BET parameters."""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path

import torch

from uad.common.errors import run_program
from uad.phantoms.extractor import train_extractor, training_heads, write_parameters


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", required=True, type=Path, help="folder, e.g. demo/hd_bet")
    parser.add_argument("--seed", type=int, default=2023, help="keep it apart from the demo's phantom seed")
    parser.add_argument("--heads", type=int, default=70, help="training scans")
    parser.add_argument("--steps", type=int, default=200)
    args = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    heads = training_heads(args.seed, args.heads)
    network = train_extractor(heads, args.seed, args.steps, partial(print, flush=True))
    path = write_parameters(network, args.output)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    run_program(main)
