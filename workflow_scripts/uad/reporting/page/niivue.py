"""NiiVue, the neuroimaging viewer of the report, taken from the package `ipyniivue` (BSD-2-Clause).

The package's notebook widget carries the whole library a second time as an encoded text, because NiiVue writes
itself into the pages that it exports.  That text is an ES module; browsers refuse to load modules from disk, so its
closing export list becomes an assignment to `window.niivue`.  Nothing else is changed.
"""

from __future__ import annotations

import importlib.metadata
import re
from urllib.parse import unquote

from uad.common.errors import InputError

_PACKAGE = "ipyniivue"
_WIDGET = "ipyniivue/static/widget.js"
_LICENCE = "licenses/LICENSE"
_ENCODED = re.compile(r"saveHTML\([^()]*,decodeURIComponent\((?P<name>[\w$]+)\)\)")
_EXPORTS = re.compile(r"export\{(?P<list>[^{}]*)\};?\s*$")


def niivue_files() -> dict[str, str]:
    """File name -> content: the library as a classic script that sets `window.niivue`, and its licence.

    Raises:
        InputError: the package is not installed, or another version of it is laid out differently.
    """
    try:
        package = importlib.metadata.distribution(_PACKAGE)
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError(f"{_PACKAGE}: is not installed; install the packages of requirements.lock") from error
    widget = package.locate_file(_WIDGET).read_text(encoding="utf-8")  # type: ignore[call-arg]  # a Path
    licence = package.read_text(_LICENCE)
    if not licence:
        raise InputError(f"{_PACKAGE} {package.version}: has no {_LICENCE}; install the version of requirements.lock")
    try:
        script = classic_script(embedded_module(widget))
    except ValueError as error:
        raise InputError(f"{_PACKAGE} {package.version}: {error}; install the version of requirements.lock") from error
    head = f"/* NiiVue, from the Python package {_PACKAGE} {package.version}; licence: niivue-LICENSE.txt */\n"
    return {"niivue.js": head + script, "niivue-LICENSE.txt": licence}


def embedded_module(widget: str) -> str:
    """The library's ES module inside the widget's script.

    Raises:
        ValueError: it is not there.
    """
    use = _ENCODED.search(widget)
    text = use and re.search(rf"(?<![\w$]){re.escape(use['name'])}=\"(?P<text>[^\"]*)\"", widget)
    if not text:
        raise ValueError("its widget does not hold the library as text")
    return unquote(text["text"], errors="strict")


def classic_script(module: str) -> str:
    """An ES module without imports as a script that sets `window.niivue` to what the module exports.

    Raises:
        ValueError: the module does not end with its only export list.
    """
    exports = _EXPORTS.search(module)
    if not exports or module.count("export{") != 1:
        raise ValueError("its library does not end with one export list")
    pairs = (entry.split(" as ") for entry in exports["list"].split(","))
    members = ",".join(f"{names[-1].strip()}:{names[0].strip()}" for names in pairs)
    return f'(function(){{"use strict";{module[: exports.start()]}window.niivue={{{members}}};}})();\n'
