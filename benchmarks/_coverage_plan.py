"""What the searches of `coverage` range over, and how their trials go: known to those who search and who look."""

from __future__ import annotations

EPOCHS = 3
GOOD, STOPPED, DIVERGES, RAISES_IN_FIT, RAISES_IN_BUILD = 4, 6, 8, 10, 12
"""The units of a trial decide how it goes. A grid over 4..16 comes so far in five trials."""

UNITS = (4, 16)
RATES = (1e-4, 1e-2)
GAINS = (0.5, 1.5)

PENALTIES = [0.01, 0.1, 1.0, -1.0]
"""The candidates of scikit-learn's search, which refuses the last."""
