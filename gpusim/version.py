"""The version of gpusim, stated once in `pyproject.toml` and read from the installed metadata."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("gpusim")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0.0.0"
