"""From YAML to a checked `Config`: protocol below, the user's keys above, one line per mistake."""

from __future__ import annotations

import copy
import difflib
import typing
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from uad.cohorts import ADAPTERS
from uad.common.errors import InputError
from uad.config.model import Config, InferenceSettings, TrainSettings
from uad.config.protocols import protocol_values
from uad.methods import Head, Method, known_methods, load_method, method_of, pretraining

_NOTHING = (None, "null")  # Snakemake's `--config` reads null as text


def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Deep merge: keys of `above` win; anything but a block replaces what was there."""
    merged = copy.deepcopy(below)
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def load(*paths: str | Path) -> Config:
    """Read YAML files, later ones as overlays, and resolve them."""
    raw: dict[str, Any] = {}
    for path in paths:
        try:
            raw = merge(raw, yaml.safe_load(Path(path).read_text()) or {})
        except (OSError, yaml.YAMLError) as error:
            raise InputError(f"{path}: cannot be read as YAML ({str(error).splitlines()[0]})") from error
    return resolve(raw)


def refuse_twice(path: str | Path) -> None:
    """YAML takes the last of two equal keys in silence, and so drops what the first one holds.

    Raises:
        InputError: a key stands twice in one block; names both lines.
    """
    try:
        waiting = [yaml.compose(Path(path).read_text(encoding="utf-8-sig"))]
    except (OSError, ValueError, yaml.YAMLError):
        return  # Snakemake has its own words for a file that it cannot read
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        if isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, value in node.value:
                name, line = str(key.value), key.start_mark.line + 1
                if name in lines:
                    raise InputError(
                        f"{path}: line {line}: key '{name}' stands in line {lines[name]} already, and only one of the "
                        "two would count; put both together"
                    )
                lines[name] = line
                waiting.append(value)


def in_order_of(raw: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """The raw configuration with arms and cohorts in the order of `base`, new ones last.

    Snakemake lists what an overlay names first; tables and figures keep the order of config.yaml.
    """
    ordered = dict(raw)
    for block in ("arms", "cohorts"):
        entries = _block(raw, block)
        names = [name for name in base.get(block) or {} if name in entries]
        ordered[block] = {name: entries[name] for name in [*names, *(n for n in entries if n not in names)]}
    return ordered


def resolve(raw: dict[str, Any]) -> Config:
    """Check a raw configuration and fill in the protocol's choices.

    Raises:
        InputError: one line per mistake, naming the key and what was probably meant.
    """
    raw = {key: value for key, value in raw.items() if value is not None}
    for block in ("arms", "cohorts"):  # an overlay drops an entry by setting it to null
        raw[block] = {name: entry for name, entry in _block(raw, block).items() if entry not in _NOTHING}
    protocol = raw.get("protocol", "clean")
    below = protocol_values(protocol) if protocol in ("clean", "authors", "paper") else {}
    for values in below.get("train_by_method", {}).values():  # who names a key of `train` means it for all arms
        for key in raw.get("train") or {}:
            values.pop(key, None)
    # by adapter: a row makes no cohort, and says nothing about another data set of that name
    by_adapter = below.pop("cohorts", {})
    for name, entry in raw["cohorts"].items():
        if isinstance(entry, dict):
            raw["cohorts"][name] = by_adapter.get(str(entry.get("adapter")), {}) | entry
    try:
        config = Config.model_validate(merge(below, raw))
    except ValidationError as error:
        raise InputError("\n".join(f"config: {line}" for line in _messages(error, Config))) from error
    for name in config.arms:
        arm_settings(config, name)
        inference_of(config, name)
    for name in config.study.arms if config.study else []:
        if name not in config.arms:
            raise InputError(f"config: study.arms: {did_you_mean(name, config.arms)}")
    for method in config.train_by_method:
        if method not in pretraining.PRETRAININGS:
            _known_method(method, f"train_by_method.{method}")
    return config


def _block(raw: dict[str, Any], name: str) -> dict[str, Any]:
    entries = raw.get(name) or {}
    if not isinstance(entries, dict):
        raise InputError(f"config: {name}: needs a block of `<name>: ...` lines (got {entries!r})")
    return entries


def method_class(config: Config, arm: str) -> type[Method]:
    """The method class behind an arm."""
    return _known_method(config.arms[arm].method, f"arms.{arm}.method")


def build_method(config: Config, arm: str) -> Method:
    """The method behind an arm with the arm's hyper-parameters."""
    return method_of(arm_settings(config, arm))


def arm_settings(config: Config, arm: str) -> dict[str, Any]:
    """An arm's resolved hyper-parameters and training settings as plain types.

    Method keys: the configuration section the method names, below the arm's `params`.
    Training keys: `train`, below `train_by_method`, below the arm's `train`.
    An arm that is another one, read otherwise, has all of these from there.
    """
    settings = config.arms[arm]
    if settings.from_ is not None and not issubclass(method_class(config, arm), Head):
        return {**arm_settings(config, _same_method(config, arm)), "arm": arm}
    method = method_class(config, arm)
    section = getattr(config, method.section).model_dump(mode="json") if method.section else {}
    shared = {key: value for key, value in section.items() if key in method.Params.model_fields}
    known = {}
    for key, model, values in (
        ("params", method.Params, merge(shared, settings.params)),
        ("train", TrainSettings, merge(_train_keys(config, settings.method), settings.train)),
    ):
        known[key] = checked(model, values, f"arms.{arm}.{key}")
    known["params"] = _placed(known["params"], config, arm)
    _check_sites(config, arm, known["train"].get("without_sites", []))
    built = method(method.Params.model_validate(known["params"]))
    chunk, batch = built.context if built.learns_context else 1, known["train"]["batch_size"]
    if chunk and batch % chunk:
        raise InputError(f"config: arms.{arm}.params.chunk: {chunk} does not divide train.batch_size, {batch}")
    return {"arm": arm, "method": settings.method, **known, **_source_settings(config, arm, built)}


def _check_sites(config: Config, arm: str, sites: list[str]) -> None:
    """Refuse sites that the arm cannot go without; a folder's sites are known only to the training itself."""
    where = f"config: arms.{arm}.train.without_sites"
    if sites and not method_class(config, arm).trains:
        raise InputError(
            f"{where}: method {config.arms[arm].method} has no training here that could leave a site out; give the key "
            "to arms that train, each by itself"
        )
    known = ADAPTERS[config.cohorts[config.train_cohort].adapter].sites
    for site in sites:
        if known and site not in known:
            raise InputError(f"{where}: {did_you_mean(site, known)}")


def inference_of(config: Config, arm: str) -> InferenceSettings:
    """How an arm is read: `inference`, below the arm's own `inference`."""
    own = config.arms[arm].inference
    if "single" in own:
        raise InputError(f"config: arms.{arm}.inference.single: the tables print one level of all arms; set it for all")
    values = merge(config.inference.model_dump(mode="json"), own)
    return InferenceSettings.model_validate(checked(InferenceSettings, values, f"arms.{arm}.inference"))


def _other_arm(config: Config, arm: str) -> str:
    """The arm that `from` names.

    Raises:
        InputError: there is none of that name, or it starts from another itself.
    """
    name, where = config.arms[arm].from_, f"arms.{arm}.from"
    if name is None:
        raise InputError(f"config: {where}: method {config.arms[arm].method} needs the name of an arm to start from")
    if name not in config.arms:
        raise InputError(f"config: {where}: {did_you_mean(name, config.arms)}")
    if config.arms[name].from_ is not None:
        raise InputError(f"config: {where}: arm {name} starts from another arm itself; name that one")
    return name


def _same_method(config: Config, arm: str) -> str:
    """The arm that this one is, read by other `inference`.

    Raises:
        InputError: as `_other_arm`; the two differ in more than that.
    """
    name, settings = _other_arm(config, arm), config.arms[arm]
    if config.arms[name].method != settings.method:
        heads = [known for known in known_methods() if load_method(known).starts_from]
        raise InputError(
            f"config: arms.{arm}.from: method {settings.method} starts from no arm of another method, and {name} has "
            f"{config.arms[name].method} ({', '.join(heads)} do)"
        )
    for key in ("params", "train"):
        if getattr(settings, key):
            raise InputError(f"config: arms.{arm}.{key}: comes from arm {name}, as `from` says; leave the key out")
    return name


def _source_settings(config: Config, arm: str, method: Method) -> dict[str, Any]:
    """{"source": arm, method and params of the arm that a head starts from}; empty for an arm on its own.

    Raises:
        InputError: the key `from` is missing or names an arm that will not do.
    """
    if not isinstance(method, Head):
        return {}
    name, where = _other_arm(config, arm), f"arms.{arm}.from"
    source = arm_settings(config, name)
    try:
        method.attach(method_of(source))
    except ValueError as error:
        raise InputError(f"config: {where}: arm {name} {error}") from error
    reading = getattr(method.params, "reading", "")
    levels = [*map(str, inference_of(config, name).t_test), "ens"] if method.source.reads_noise_levels else []
    if reading not in ["", *levels]:
        raise InputError(f"config: arms.{arm}.params.reading: {did_you_mean(reading, levels)}")
    return {"source": {key: source[key] for key in ("arm", "method", "params")}}


def pretraining_settings(config: Config, arm: str) -> dict[str, Any]:
    """The same for what the arm is pre-trained with: `train`, below `train_by_method.<its name>`.

    Sites that the arm never sees are left out here too.
    """
    method = build_method(config, arm).pretraining()
    assert method is not None
    name = next(name for name, kind in pretraining.PRETRAININGS.items() if isinstance(method, kind))
    unseen = arm_settings(config, arm)["train"].get("without_sites", [])
    keys = merge(_train_keys(config, name), {"without_sites": unseen})
    train = checked(TrainSettings, keys, f"train_by_method.{name}")
    return {"arm": arm, "method": name, "params": method.params.model_dump(mode="json"), "train": train}


def _placed(params: dict[str, Any], config: Config, arm: str) -> dict[str, Any]:
    """`{results}` and `{arm}` in texts: the run's folder and the arm's name, so that an overlay may change both."""
    places = {"{results}": f"results/{config.run}", "{arm}": arm}
    for place, value in places.items():
        params = {key: text.replace(place, value) if isinstance(text, str) else text for key, text in params.items()}
    return params


def _train_keys(config: Config, name: str) -> dict[str, Any]:
    return merge(config.train.model_dump(mode="json"), config.train_by_method.get(name, {}))


def checked(model: type[BaseModel], values: dict[str, Any], where: str) -> dict[str, Any]:
    """The values as plain types, with the model's defaults.

    Raises:
        InputError: a key or value is wrong; `where` is the block's place in the configuration.
    """
    try:
        return model.model_validate(values).model_dump(mode="json")
    except ValidationError as error:
        raise InputError("\n".join(f"config: {line}" for line in _messages(error, model, where))) from error


def _known_method(name: str, key: str) -> type[Method]:
    if name not in known_methods():
        raise InputError(f"config: {key}: {did_you_mean(name, known_methods())}")
    return load_method(name)


def did_you_mean(name: str, known: typing.Iterable[str]) -> str:
    """One line: the name is not known, what is close, what exists."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return f"'{name}' is not known.{hint} Known: {', '.join(known)}"


def _messages(error: ValidationError, model: type[BaseModel], root: str = "") -> list[str]:
    """One line per mistake; `root` is where in the configuration the model sits."""
    lines = []
    for problem in error.errors():
        *parents, last = problem["loc"] or ("",)
        where = _dotted(root, problem["loc"])
        if problem["type"] == "extra_forbidden":
            fields = _fields_at(model, parents)
            place = _dotted(root, parents)
            lines.append(f"unknown key at {place}: {did_you_mean(str(last), fields)}")
        elif problem["type"] == "missing":
            lines.append(f"{where}: this key is required")
        else:
            given = "" if isinstance(problem["input"], dict) else f" (got {problem['input']!r})"
            lines.append(f"{where}: {problem['msg'].removeprefix('Value error, ')}{given}")
    return lines


def _dotted(root: str, path: typing.Iterable[Any]) -> str:
    return ".".join([root] * bool(root) + [str(part) for part in path]) or "top level"


def _fields_at(model: type[BaseModel], path: list[Any]) -> list[str]:
    """Field names of the model that sits at `path` below `model`."""
    for part in path:
        field = model.model_fields.get(str(part))
        if field is None:  # an entry of a dict of models: the path's name of an arm or a cohort
            continue
        model = _model_in(field.annotation) or model
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The pydantic model inside an annotation such as `Model | None` or `dict[str, Model]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(inner) for inner in typing.get_args(annotation))
    return next((model for model in found if model), None)
