"""The configuration: one pydantic model, three protocols, and messages that say what was probably meant."""

from uad.config.load import Config, arm_settings, load, method_class, resolve

__all__ = ["Config", "arm_settings", "load", "method_class", "resolve"]
