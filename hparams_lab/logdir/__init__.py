"""A log directory: its walk, runs, declaration and `sweep.json`; and `doctor`, `merge`, `prune`, which change it."""
