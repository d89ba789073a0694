"""Decrypt ATLAS with the user's key: `openssl aes-256-cbc -md sha256 -d -a`.  docs/paper.md#atlas"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from uad.common.errors import InputError
from uad.common.files import atomic_path
from uad.download.checks import size
from uad.download.credentials import secret
from uad.download.sources import Encrypted

_GZIP = b"\x1f\x8b"
_SALTED = b"U2FsdGVkX1"  # "Salted__" in base64, how openssl's files begin
_EVERY = 5.0  # seconds between lines


def decrypt(folder: Path, archive: Encrypted, say: Callable[[str], None]) -> Path:
    """Decrypt the archive into a file beside it; returns its path.

    openssl gets the key in its environment (`-pass env:`), so no process list shows it.

    Raises:
        InputError: no openssl, no key, the wrong key, another kind of file, or a full disk; nothing decrypted is left.
    """
    encrypted, product = folder / archive.file, folder / archive.product
    key = secret(archive.key)
    if not key:
        raise InputError(f"{encrypted}: needs the key of the data set; set {archive.key} in the environment")
    if shutil.which("openssl") is None:
        raise InputError(f"{encrypted}: decrypting needs the program openssl, which is not installed")
    with open(encrypted, "rb") as stream:
        if stream.read(len(_SALTED)) != _SALTED:
            raise InputError(
                f"{encrypted}: not an OpenSSL-encrypted file; it may be the ccrypt version, download the OpenSSL one"
            )
    needed, free = encrypted.stat().st_size * 3 // 4, shutil.disk_usage(folder).free  # base64 is 4/3 longer
    if needed > free:
        raise InputError(f"{product}: needs {size(needed)}, {size(free)} are free; make room and run again")
    with atomic_path(product) as temporary:
        code, words = _run(encrypted, temporary, archive.key, key, say)
        with open(temporary, "rb") as stream:
            opened = stream.read(len(_GZIP)) == _GZIP
        if "bad decrypt" in words or (code == 0 and not opened):  # a wrong key passes openssl's check now and then
            raise InputError(f"{encrypted}: wrong key in {archive.key}; copy it again from the data owners' e-mail")
        if code != 0:
            reason = words.strip().splitlines()[-1] if words.strip() else f"exit code {code}"
            if "error writing" in reason:
                raise InputError(f"{product}: the disk is full or read-only ({reason}); make room and run again")
            raise InputError(f"{encrypted}: openssl could not decrypt it ({reason}); is the file complete?")
    return product


def _run(encrypted: Path, target: Path, variable: str, key: str, say: Callable[[str], None]) -> tuple[int, str]:
    command = ["openssl", "aes-256-cbc", "-md", "sha256", "-d", "-a", "-in", str(encrypted), "-out", str(target),
               "-pass", f"env:{variable}"]  # fmt: skip
    with subprocess.Popen(command, env=os.environ | {variable: key}, stderr=subprocess.PIPE, text=True) as running:
        while True:
            try:
                complaint = running.communicate(timeout=_EVERY)[1]
            except subprocess.TimeoutExpired:
                say(f"{encrypted.name}: {size(target.stat().st_size)} decrypted")
                continue
            return running.returncode, complaint
