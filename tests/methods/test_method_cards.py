"""The cards in docs/methods say what the code is: one per method, with its keys, size and cost."""

import json
import re

import pydantic
import pytest
import torch
from packed_arrays import batch_of
from places import ROOT
from torch.utils.flop_counter import FlopCounterMode

from uad.diffusion import process
from uad.methods import known_methods, load_method

CARDS = ROOT / "docs" / "methods"
SECTIONS = ["Equations", "Parameters", "Our choices", "Known behaviour"]


def table(text):
    """Rows of the markdown tables in a text, cell by cell, without their heads."""
    rows = [line.strip().strip("|").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows if row[0].strip() not in ("fact", "key")]


def read(name):
    """The facts of a card and the text of its sections."""
    head, *sections = re.split(r"^## ", (CARDS / f"{name}.md").read_text(), flags=re.MULTILINE)
    bodies = dict(section.split("\n", 1) for section in sections)
    return dict(table(head)), bodies


def flat(settings, prefix=""):
    """Nested settings as dotted keys, those included that their dumps leave out."""
    found = {}
    for key, field in type(settings).model_fields.items():
        value = getattr(settings, key)
        if isinstance(value, pydantic.BaseModel):
            found |= flat(value, f"{prefix}{key}.")
        elif isinstance(value, dict) and value:
            found |= {f"{prefix}{key}.{name}": entry for name, entry in value.items()}
        else:
            plain = value if value is None else pydantic.TypeAdapter(field.annotation).dump_python(value, mode="json")
            found[prefix + key] = plain
    return found


def test_every_method_has_a_card_and_every_card_a_method():
    assert sorted(path.stem for path in CARDS.glob("*.md")) == list(known_methods())


@pytest.mark.parametrize("name", known_methods())
def test_card_says_what_the_method_is(name):
    method = load_method(name)
    facts, sections = read(name)
    assert facts["method"] == f"`{name}`" and facts["source"]
    assert facts["gives"] == method.gives + " per noise level" * method.reads_noise_levels
    assert (facts["parameters at 96x96"] == "none") == (not method.trains)
    assert list(sections) == SECTIONS and all(body.strip() for body in sections.values())


@pytest.mark.parametrize("name", known_methods())
def test_card_lists_the_keys_with_their_defaults(name):
    fields = load_method(name).Params.model_fields
    needed = {key: None for key, field in fields.items() if field.is_required()}
    expected = flat(load_method(name).Params.model_construct(**needed))
    rows = table(read(name)[1]["Parameters"])
    assert [key.strip("`") for key, *_ in rows] == list(expected)
    for key, default, meaning in rows:
        value = expected[key.strip("`")]
        assert default == ("required" if key.strip("`") in needed else f"`{json.dumps(value)}`") and meaning


@pytest.mark.parametrize("name", [name for name in known_methods() if load_method(name).trains])
def test_card_has_the_counted_parameters_and_operations(name, monkeypatch):
    # noise is not drawn on the meta device
    monkeypatch.setattr(process, "noise_like", lambda images, *_: torch.zeros_like(images))
    method = load_method(name)
    method = method(method.Params())
    facts, _ = read(name)
    # where the values say how often the network runs, there must be some: of an untrained one, as seldom as can be
    depth, device = (1, "cpu") if name == "itermask" else (50, "meta")
    with torch.device(device):
        network, volume = method.network((96, 96)).eval(), batch_of(torch.rand(depth, 1, 96, 96))
    assert facts["parameters at 96x96"] == f"{sum(p.numel() for p in network.parameters()):,}"
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        if method.gives == "map":
            method.anomaly_map(network, volume, torch.Generator())
        else:
            method.reconstruct(network, volume, [500], torch.Generator())
    assert facts["GFLOP per 96x96 slice"] == f"{counter.get_total_flops() / depth / 1e9:.2f}"
