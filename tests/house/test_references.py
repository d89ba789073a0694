"""What code, tests and docs cite is there: sections of the pages in docs/, and D-numbers."""

import re
import subprocess
from pathlib import Path

import pytest
from places import ROOT

PAPER = ROOT / "docs/paper.md"
ABSENT = r"((?i:paper_spec|baseline_specs|data_and_tools_facts|workflow_anchors|fidelity_2026|fidelity N\d)|DESIGN)"
MINE = {"docs/methods/mine.md", "workflow_scripts/uad/methods/mine.py"}  # what docs/add-a-baseline.md lets you write


@pytest.fixture(scope="module")
def texts() -> dict[Path, str]:
    """Every tracked text file but this one."""
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    contents = {path: path.read_bytes() for path in paths if path.is_file() and path != Path(__file__)}
    return {path: content.decode() for path, content in contents.items() if b"\0" not in content}


def cited(pattern: str, texts: dict[Path, str]) -> dict[str, str]:
    """What the group of a pattern finds -> a file that cites it."""
    return {match: str(path.relative_to(ROOT)) for path, text in texts.items() for match in re.findall(pattern, text)}


def anchors(page: Path) -> set[str]:
    """GitHub's anchors of a page's sections."""
    headings = re.findall(r"^#{2,} (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_cited_sections_are_there(texts):
    there = {f"{page.relative_to(ROOT)}#{name}" for page in (ROOT / "docs").rglob("*.md") for name in anchors(page)}
    places = cited(r"\b(docs/[\w/-]+\.md#[\w-]+)", texts)
    assert len(places) > 30
    assert {link: place for link, place in places.items() if link not in there} == {}


def test_links_between_pages_lead_somewhere(texts):
    wrong = []
    for page in (path for path in texts if path.suffix == ".md"):
        for target, anchor in re.findall(r"\]\(([\w./-]+)?(?:#([\w-]+))?\)", texts[page]):
            other = page.parent / target if target else page
            if not other.exists() or (anchor and anchor not in anchors(other)):
                wrong.append(f"{page.relative_to(ROOT)}: {target}#{anchor}")
    assert wrong == []


def test_each_section_of_the_facts_is_cited(texts):
    others = {path: text for path, text in texts.items() if path != PAPER}
    assert anchors(PAPER) == {link.split("#")[1] for link in cited(r"(docs/paper\.md#[\w-]+)", others)}


def test_cited_disagreements_are_there(texts):
    first_cells = re.findall(r"^\| (D[^|]*)\|", texts[ROOT / "docs/protocols.md"], flags=re.MULTILINE)
    rows = set(re.findall(r"D\d+", " ".join(first_cells)))
    assert rows == {f"D{number}" for number in range(1, len(rows) + 1)}
    written = {path: text for path, text in texts.items() if path.suffix in (".py", ".smk", ".yaml", ".md", ".json")}
    assert {number: place for number, place in cited(r"\b(D[1-9]\d?)\b", written).items() if number not in rows} == {}


def test_nothing_cites_a_document_that_is_not_here(texts):
    assert cited(ABSENT, texts) == {}
    paths = cited(r"\b((?:docs|tests|tools|benchmarks|workflow_scripts)/[\w/-]+\.(?:md|py))\b", texts)
    assert len(paths) > 50
    assert {path: place for path, place in paths.items() if not (ROOT / path).exists() and path not in MINE} == {}
