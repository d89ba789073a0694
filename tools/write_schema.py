"""Write config.schema.json, the JSON schema of config.yaml, for completion in editors.

python tools/write_schema.py
"""

import json
from pathlib import Path

from uad.common.files import atomic_path
from uad.config.model import Config


def schema_text() -> str:
    schema = Config.model_json_schema()
    del schema["required"]  # overlays such as demo/config.yaml give only what differs
    return json.dumps(schema, indent=1) + "\n"


if __name__ == "__main__":
    with atomic_path(Path(__file__).resolve().parents[1] / "config.schema.json") as path:
        path.write_text(schema_text())
