"""Times this library against others on this machine: `python -m benchmarks --help`."""
