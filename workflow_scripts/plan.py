"""Print what the run's data needs: present, fetchable or needs you, with sizes, licences and next steps."""

import argparse
from pathlib import Path

from uad.common.errors import run_program
from uad.download.needs import read_needs, read_own
from uad.download.plan import report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", required=True, type=Path, help="settings of the downloads and list of needs")
    arguments = parser.parse_args()

    needs, settings, content = read_needs(arguments.sources)
    text = report(needs, settings, content["data_dir"], read_own(content), content.get("left_out"))
    print(f"\nWhat run '{content['run']}' needs\n\n{text}\n")


if __name__ == "__main__":
    run_program(main)
