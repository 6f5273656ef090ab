"""Other libraries' searches, logged as sweeps of ours: a module per library, which imports it."""
