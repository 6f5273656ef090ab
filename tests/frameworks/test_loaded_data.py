"""The data of a Keras domain: the same whether they are loaded before the forks or in the run itself."""

import numpy as np
import pytest

from hparams_lab.targets.load import load_module
from hparams_lab.targets.seeding import seed_everything

pytest.importorskip("keras", reason="needs Keras (pip install 'hparams-lab[tensorflow]')")
from hparams_lab.keras.domain import KerasTraining

DOMAIN = """
import numpy as np


def load_data():
    x = np.random.rand(4, 2)
    return (x, x), (x, x)
"""


def test_what_load_data_draws_does_not_depend_on_the_run_that_loads_them(tmp_path):
    (tmp_path / "draws.py").write_text(DOMAIN)
    module = load_module(str(tmp_path / "draws.py"))
    loaded, drawn_next = [], []
    for seed in (1, 2):
        seed_everything(seed)
        (x, _), _ = KerasTraining(module).data()
        loaded.append(x.tolist())
        drawn_next.append(np.random.random())
    assert loaded[0] == loaded[1]
    assert drawn_next[0] != drawn_next[1]
