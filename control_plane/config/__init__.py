"""What the operator wrote: YAML into a frozen typed model, every error with ``file:line:column`` and a fix."""

from control_plane.config.errors import ConfigError, ConfigErrors
from control_plane.config.loader import Loaded, load, load_with_sources, sources

__all__ = ["ConfigError", "ConfigErrors", "Loaded", "load", "load_with_sources", "sources"]
