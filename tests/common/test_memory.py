"""Freed memory stays with the process, so that the next tensor does not fault in its pages again."""

import ctypes
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, resource
from uad.common.memory import keep_freed_memory
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
library.free.argtypes = [ctypes.c_void_p]
if {keep}:
    assert keep_freed_memory()
def faults_of_one_more(size=2**26):  # 64 MB are 16,384 pages of 4 kB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    place = library.malloc(size)
    ctypes.memset(place, 1, size)
    library.free(place)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults_of_one_more()
print(faults_of_one_more())
"""


def faults(keep):
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(keep=keep)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(run.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not GNU's")
def test_a_freed_tensor_is_used_again():
    assert faults(keep=False) > 30  # else the other would show nothing; with pages of 2 MB it is 32
    assert faults(keep=True) < 10
