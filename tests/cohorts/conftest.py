"""Its checks speak as those of a test file."""

import pytest

pytest.register_assert_rewrite("tiny_archives")
