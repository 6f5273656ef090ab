"""What a domain file defines can be unpickled in a process that is spawned, whatever the file is called."""

import pickle
import subprocess
import sys

import pytest

import hparams_lab as lab

DOMAIN = """
import concurrent.futures, multiprocessing, pickle
import hparams_lab as lab
EXPERIMENT = lab.Experiment([lab.HParam("how", lab.Discrete(["spawn", "forkserver"]))], [lab.Metric("loss")])
class Data: pass
def double(data): return 2.0 if type(data) is Data else 0.0
def train(run):
    context = multiprocessing.get_context(run.hparams["how"])
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        loss = pool.submit(double, Data()).result()
    with open("data.pickle", "wb") as file:
        pickle.dump(Data(), file)
    return {"loss": loss}
if __name__ == "__main__": raise SystemExit("run as a script")
"""


@pytest.mark.parametrize("name", ["plain", "my-model", "queue", "tensorboard", "my.model"])
def test_spawned_processes_find_what_a_file_defines(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / f"{name}.py").write_text(DOMAIN, encoding="utf-8")
    results = lab.run_sweep(f"sub/{name}.py", logdir="logs", workers=1)
    assert [(run.outcome.value, run.metrics.get("loss")) for run in results.runs] == [("completed", 2.0)] * 2
    load = "import pickle; print(type(pickle.load(open('../data.pickle', 'rb'))).__name__)"
    again = subprocess.run([sys.executable, "-c", load], cwd="sub", capture_output=True, text=True, check=False)
    assert again.stdout == "Data\n" or name in ("queue", "tensorboard"), again.stderr


def test_files_of_one_name_are_pickled_apart(tmp_path, monkeypatch):
    from hparams_lab.targets.load import load_module

    monkeypatch.setattr(sys, "path", [*sys.path])
    modules = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "alike_here.py").write_text(DOMAIN, encoding="utf-8")
        modules.append(load_module(str(tmp_path / folder / "alike_here.py")))
    for module in modules:
        assert pickle.loads(pickle.dumps(module.Data)) is module.Data
    assert modules[0].Data is not modules[1].Data
    del sys.modules["alike_here"]
