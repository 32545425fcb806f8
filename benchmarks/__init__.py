"""Times this library against others on the machine at hand: `python -m benchmarks --help`."""
