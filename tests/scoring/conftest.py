"""The cohort that several files score."""

import pytest
from small_cohort import scan


@pytest.fixture(scope="module")
def cohort():
    names = {"val": ["v1", "v2", "v3"], "test": ["a", "b", "c", "d"]}
    return {split: [scan(name, split) for name in subjects] for split, subjects in names.items()}
