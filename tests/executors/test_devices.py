"""Which accelerator a run sees: what is found, what is chosen, and what a framework makes of it in a real process."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from counted import at_most

import hparams_lab as lab
from hparams_lab.core.errors import UsageError
from hparams_lab.executors import Resources, devices
from hparams_lab.executors.devices import shares, threads_environment
from hparams_lab.executors.protocol import default_workers

NOWHERE = {"PATH": "/nowhere"}
HIDING = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "JAX_PLATFORMS")


@pytest.fixture(autouse=True)
def _no_driver(tmp_path, monkeypatch):
    """Whatever this machine has."""
    monkeypatch.setattr(devices, "_NVIDIA_DRIVER", tmp_path / "no driver")
    monkeypatch.setattr(devices, "_AMD_NODES", tmp_path / "no nodes")


@pytest.fixture
def machine(tmp_path):
    """`machine(gpus, ...)`: the environment where an `nvidia-smi` shows so many, with the variables given."""

    def with_gpus(gpus, code=0, **variables):
        listed = "\n".join(map(str, range(gpus))) if gpus else "No devices were found"
        smi = tmp_path / "bin/nvidia-smi"
        smi.parent.mkdir(exist_ok=True)
        smi.write_text(f"#!/bin/sh\n[ \"$*\" = '--query-gpu=index --format=csv,noheader' ] || exit 9\n"
                       f"printf '%s\\n' '{listed}'\nexit {code}\n")  # fmt: skip
        smi.chmod(0o755)
        return {"PATH": str(smi.parent), **variables}

    return with_gpus


def seen(environ, variable="CUDA_VISIBLE_DEVICES", **resources):
    return [(share.environment.get(variable), share.slots) for share in shares(Resources(**resources), environ)]


def refusal(environ, **resources):
    with pytest.raises(UsageError) as refused:
        shares(Resources(**resources), environ)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_without_gpus_all_runs_share_the_cpu():
    (share,) = shares(Resources(), NOWHERE)
    assert (share.label, share.slots) == ("cpu", default_workers())
    assert not {*HIDING} & share.environment.keys()
    (share,) = shares(Resources(workers=7), NOWHERE)
    assert share.slots == 7


def test_none_hides_every_accelerator(machine):
    (share,) = shares(Resources(gpus="none"), machine(2, CUDA_VISIBLE_DEVICES="0,1"))
    assert share.label == "cpu"
    assert {name: share.environment[name] for name in HIDING} == dict(zip(HIDING, ["-1", "-1", "", "cpu"], strict=True))


def test_a_gpu_each(machine):
    assert seen(machine(3)) == [("0", 1), ("1", 1), ("2", 1)]
    assert seen(machine(3), gpus="all") == [("0", 1), ("1", 1), ("2", 1)]
    assert seen(machine(3), gpus="2, 0") == [("2", 1), ("0", 1)]
    assert [share.label for share in shares(Resources(gpus="2,0"), machine(3))] == ["gpu 2", "gpu 0"]
    assert seen(machine(12), gpus="11") == [("11", 1)]


def test_gpus_are_numbered_as_nvidia_smi_does(machine):
    assert seen(machine(2), "CUDA_DEVICE_ORDER") == [("PCI_BUS_ID", 1)] * 2
    assert seen(machine(2, CUDA_DEVICE_ORDER="FASTEST_FIRST"), "CUDA_DEVICE_ORDER") == [(None, 1)] * 2
    assert seen(machine(2, CUDA_VISIBLE_DEVICES="1"), "CUDA_DEVICE_ORDER") == [(None, 1)]  # in the user's own order


def test_runs_that_share_a_gpu_leave_each_other_memory(machine):
    (share, _) = shares(Resources(runs_per_gpu=3), machine(2))
    assert share.slots == 3
    assert share.environment["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
    assert share.environment["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
    (alone, _) = shares(Resources(), machine(2))
    assert not {"TF_FORCE_GPU_ALLOW_GROWTH", "XLA_PYTHON_CLIENT_PREALLOCATE"} & alone.environment.keys()
    (said, _) = shares(Resources(runs_per_gpu=3), machine(2, TF_FORCE_GPU_ALLOW_GROWTH="false"))
    assert "TF_FORCE_GPU_ALLOW_GROWTH" not in said.environment


@pytest.mark.parametrize(
    ("workers", "slots"),
    [(1, [1]), (2, [1, 1]), (3, [1, 1, 1]), (4, [2, 1, 1]), (5, [2, 2, 1]), (6, [2, 2, 2]), (None, [2, 2, 2])],
)
def test_workers_are_dealt_out_in_turn(machine, workers, slots):
    assert [count for _, count in seen(machine(3), runs_per_gpu=2, workers=workers)] == slots


def test_an_environment_that_shows_some_gpus_counts_them_anew(machine):
    four = machine(4, CUDA_VISIBLE_DEVICES="3,1")
    assert seen(four) == [("3", 1), ("1", 1)]
    assert seen(four, gpus="1") == [("1", 1)]
    assert seen(four, gpus="0") == [("3", 1)]
    assert refusal(four, gpus="3") == (
        "--gpus 3: there is no GPU 3; there are 2, numbers 0 to 1, counted among CUDA_VISIBLE_DEVICES=3,1"
    )


def test_an_environment_may_name_gpus_by_uuid(machine):
    two = machine(2, CUDA_VISIBLE_DEVICES="GPU-8932f937,MIG-1/2/0")
    assert seen(two) == [("GPU-8932f937", 1), ("MIG-1/2/0", 1)]
    assert seen(two, gpus="MIG-1/2/0") == seen(two, gpus="1") == [("MIG-1/2/0", 1)]
    assert "there is no GPU GPU-1;" in refusal(two, gpus="GPU-1")


@pytest.mark.parametrize(
    ("said", "entries"),
    [
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("1,-1,0", ["1"]),  # as CUDA does: nothing after the first that is no GPU
        ("0,7,1", ["0"]),
        ("0,0", []),
        (" 01 , 0", ["1", "0"]),
    ],
)
def test_entries_of_the_environment_count_as_far_as_cuda_heeds_them(machine, said, entries):
    environ = machine(2, CUDA_VISIBLE_DEVICES=said)
    found = shares(Resources(), environ)
    assert [share.environment.get("CUDA_VISIBLE_DEVICES") for share in found] == (entries or [None])
    if not entries:
        assert refusal(environ, gpus="all").startswith(
            f"--gpus all: there are none (CUDA_VISIBLE_DEVICES={said}); leave it out"
        )


def test_a_restriction_without_gpus_is_none(machine):
    assert seen({**NOWHERE, "CUDA_VISIBLE_DEVICES": "0"}) == [(None, default_workers())]


REFUSED = {
    "x": "--gpus is 'x'; wanted all, none, or numbers such as 0,1",
    "": "--gpus is ''; wanted all, none, or numbers such as 0,1",
    "0,": "--gpus is '0,'; wanted all, none, or numbers such as 0,1",
    "-1": "--gpus is '-1'; wanted all, none, or numbers such as 0,1",
    "0-1": "--gpus is '0-1'; wanted all, none, or numbers such as 0,1",
    "٣": "--gpus is '٣'; wanted all, none, or numbers such as 0,1",
    "7": "--gpus 7: there is no GPU 7; there are 2, numbers 0 to 1",
    "9" * 5000: f"--gpus {'9' * 5000}: there is no GPU {'9' * 5000}; there are 2, numbers 0 to 1",
    "0,0": "--gpus 0,0 names GPU 0 twice; name it once, and say --runs-per-gpu 2 for runs to share it",
}


@pytest.mark.parametrize("gpus", REFUSED, ids=[gpus[:10] for gpus in REFUSED])
def test_gpus_that_are_none_are_refused(machine, gpus):
    assert refusal(machine(2), gpus=gpus) == REFUSED[gpus]


def test_gpus_where_there_are_none_are_refused(machine):
    none = "there are none (neither nvidia-smi nor a driver of NVIDIA or AMD shows one)"
    assert refusal(NOWHERE, gpus="all") == f"--gpus all: {none}; leave it out, or say --gpus none"
    assert refusal(NOWHERE, gpus="0") == f"--gpus 0: there is no GPU 0; {none}"
    assert refusal(NOWHERE, runs_per_gpu=2).startswith("--runs-per-gpu is 2, but no GPU is used (")
    assert refusal(machine(2), gpus="none", runs_per_gpu=2) == (
        "--runs-per-gpu is 2, but no GPU is used (--gpus none); leave it out, or say --workers 2"
    )


@pytest.mark.parametrize("cpus", [0, -1, float("nan"), float("inf")])
def test_no_cpus_per_run_are_refused(machine, cpus):
    for environ in (NOWHERE, machine(2)):
        assert refusal(environ, cpus_per_run=cpus) == f"--cpus-per-run is {cpus:g}; wanted a number above 0"


@pytest.mark.parametrize("count", [0, -3])
def test_no_runs_per_gpu_are_refused(machine, count):
    assert refusal(machine(2), runs_per_gpu=count) == f"--runs-per-gpu is {count}; wanted at least 1"
    assert refusal(NOWHERE, runs_per_gpu=count) == f"--runs-per-gpu is {count}; wanted at least 1"


def test_more_runs_than_fit_are_refused(machine):
    assert refusal(machine(2), workers=8) == (
        "--workers 8 on 2 GPUs is 4 runs per GPU; say --runs-per-gpu 4, or --workers 2"
    )
    assert refusal(machine(1), workers=3, runs_per_gpu=2) == (
        "--workers 3 on 1 GPU is 3 runs per GPU; say --runs-per-gpu 3, or --workers 2"
    )
    assert refusal(machine(3), gpus="0,1", workers=3).startswith("--workers 3 on 2 GPUs is 2 runs per GPU;")
    assert seen(machine(2), workers=8, runs_per_gpu=4) == [("0", 4), ("1", 4)]


def test_a_tool_that_finds_no_driver_means_no_gpu(machine):
    assert seen(machine(0, code=6)) == [(None, default_workers())]
    assert seen(machine(2, code=9)) == [(None, default_workers())]


def test_a_tool_that_hangs_is_not_waited_for(machine, monkeypatch, tmp_path):
    environ = machine(0)
    Path(environ["PATH"], "nvidia-smi").write_text("#!/bin/sh\nexec /bin/sleep 100\n")
    monkeypatch.setattr(devices, "SMI_SECONDS", 0.2)
    for bus in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / "no driver" / bus).mkdir(parents=True)
    assert seen(environ) == [("0", 1), ("1", 1)]  # as the driver shows


def test_amd_gpus_are_found_by_their_driver(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "_AMD_NODES", tmp_path)
    for node, identity in enumerate(["0", "51234", "7321"]):  # the first is the CPU
        (tmp_path / str(node)).mkdir()
        (tmp_path / str(node) / "gpu_id").write_text(f"{identity}\n")
    assert seen(NOWHERE, "HIP_VISIBLE_DEVICES") == seen(NOWHERE, "CUDA_VISIBLE_DEVICES") == [("0", 1), ("1", 1)]
    assert seen(NOWHERE, "CUDA_DEVICE_ORDER") == [(None, 1)] * 2
    assert seen({**NOWHERE, "HIP_VISIBLE_DEVICES": "1", "CUDA_VISIBLE_DEVICES": "0"}, "HIP_VISIBLE_DEVICES") == [
        ("1", 1)
    ]
    assert seen({**NOWHERE, "CUDA_VISIBLE_DEVICES": "1"}, "HIP_VISIBLE_DEVICES") == [("1", 1)]
    assert seen({**NOWHERE, "ROCR_VISIBLE_DEVICES": "1"}, "HIP_VISIBLE_DEVICES") == [("0", 1)]
    assert seen({**NOWHERE, "ROCR_VISIBLE_DEVICES": ""}, "HIP_VISIBLE_DEVICES") == [(None, default_workers())]


def threads(environ, **resources):
    return {share.environment["TF_NUM_INTRAOP_THREADS"] for share in shares(Resources(**resources), environ)}


def test_on_cpu_the_threads_of_a_run_depend_on_what_it_is_given_alone():
    for workers in (1, 2, 5, None):
        assert threads(NOWHERE, workers=workers) == {"1"}
        assert threads(NOWHERE, workers=workers, cpus_per_run=3) == {"3"}
    assert shares(Resources(cpus_per_run=default_workers()), NOWHERE)[0].slots == 1
    assert shares(Resources(cpus_per_run=0.5), NOWHERE)[0].environment["OMP_NUM_THREADS"] == "1"


def test_on_gpus_the_cores_are_divided_among_the_runs(machine, monkeypatch):
    monkeypatch.setattr(devices, "default_workers", lambda: 16)
    assert threads(machine(2)) == {"8"}
    assert threads(machine(2), runs_per_gpu=4) == {"2"}
    assert threads(machine(2), workers=1) == {"16"}
    assert threads(machine(2), runs_per_gpu=40) == {"1"}


def test_threads_that_the_user_has_set_stay(machine):
    assert "OMP_NUM_THREADS" not in threads_environment(2, {"OMP_NUM_THREADS": "5"})
    assert threads_environment(2, {})["OMP_NUM_THREADS"] == "2"
    assert "OMP_NUM_THREADS" not in shares(Resources(), machine(2, OMP_NUM_THREADS="5"))[0].environment


def test_it_costs_next_to_nothing_where_there_is_no_tool():
    with at_most(calls=500):
        shares(Resources(), NOWHERE)


FRAMEWORKS = """
import json, os, sys, warnings
warnings.simplefilter("ignore")
import tensorflow, torch
found = {"tensorflow": len(tensorflow.config.list_physical_devices("GPU")), "torch": torch.cuda.device_count(),
         "threads": torch.get_num_threads(), "environment": dict(os.environ)}
print(json.dumps(found))
"""


def told_by(share, code=FRAMEWORKS):
    """What a process that is started as a share's are prints."""
    environment = {**os.environ, "PYTHONPATH": str(Path(lab.__file__).parents[1]), **share.environment}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.mark.slow
def test_frameworks_see_no_gpu_when_none_is_said_and_the_threads_they_are_given():
    if not all(map(find_spec, ("tensorflow", "torch"))):
        pytest.skip("needs TensorFlow and PyTorch (pip install 'hparams-lab[tensorflow,torch]')")
    environ = {name: value for name, value in os.environ.items() if name not in threads_environment(1, {})}
    (share,) = shares(Resources(gpus="none", cpus_per_run=2), environ)
    told = told_by(share)
    assert (told["tensorflow"], told["torch"], told["threads"]) == (0, 0, 2)
    assert {name: told["environment"][name] for name in share.environment} == dict(share.environment)


def test_each_process_has_the_environment_of_its_share(machine):
    printing = "import json, os; print(json.dumps(dict(os.environ)))"
    told = [told_by(share, printing)["CUDA_VISIBLE_DEVICES"] for share in shares(Resources(), machine(3))]
    assert told == ["0", "1", "2"]
