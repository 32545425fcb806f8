"""Keeps pytest from importing the make_*.py scripts, which need frameworks that the tests do without."""

collect_ignore_glob = ["*.py"]
