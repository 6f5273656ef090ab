"""Numbers out of arrays and tensors: the shortest decimal of a narrow float, and whole numbers of whatever type."""

import decimal
import fractions

import numpy as np
import pytest

import hparams_lab as lab
from hparams_lab.core.errors import UsageError
from hparams_lab.core.tensors import shortest
from hparams_lab.core.values import unwrap


def test_the_shortest_decimal_is_numpys():
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    some = np.random.default_rng(0).integers(0, 1 << 32, 20_000, dtype=np.uint32).view(np.float32)
    powers = np.float32(2.0) ** np.arange(-149, 128, dtype=np.float32)
    for kind, values in (("float16", every), ("float32", some), ("float32", powers)):
        finite = values[np.isfinite(values)]
        assert [shortest(float(value), kind) for value in finite] == [float(str(value)) for value in finite]
    assert [shortest(0.1, "float64"), shortest(float("inf"), "float32")] == [0.1, float("inf")]


@pytest.mark.parametrize("kind", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_the_shortest_decimal_of_types_that_numpy_lacks(kind):
    narrow = getattr(pytest.importorskip("ml_dtypes", reason="it comes with TensorFlow and JAX"), kind)
    for number in (0.1, 1e-3, 3e-4, 0.9, 0.5, 12.0, 1 / 3, 2.0**-9):
        value = unwrap(narrow(number))
        assert value == unwrap(np.array(number, narrow))
        assert narrow(value) == narrow(number)
        assert len(f"{value!r}") <= max(len(f"{number!r}"), len(f"{float(narrow(number))!r}"))
    assert unwrap(narrow(0.1)) == (0.09 if kind == "float8_e5m2" else 0.1)  # which has two bits


WHOLE = [
    9, 9.0, np.int64(9), np.uint8(9), np.float64(9), np.float32(9), np.array(9), np.array([9]), np.array([[9.0]]),
    decimal.Decimal(9), fractions.Fraction(9),
]  # fmt: skip
NOT_WHOLE = [
    True, False, np.True_, np.array(True), np.array([True]), 8.5, np.float64("nan"), float("inf"), "9", b"9", [9], 9j,
    np.array([1, 2]), np.array([]), object(), -1, -1.0, 2**31, 2.0**31, np.int64(2**31),
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with lab.start_run(tmp_path_factory.mktemp("logs"), hparams={"x": 1}, provenance=False) as run:
        yield run


def new_tag(run, _seen=[]):  # noqa: B006
    _seen.append(run)
    return f"x{len(_seen)}"


def log_twice(run, step):
    """Log at a step under a tag that is new, and under one that the run knows by now."""
    tag = new_tag(run)
    found = []
    for _ in range(2):
        run.log(tag, 1.0, step=step)
        found.append(int(run._step))
    return found


@pytest.mark.parametrize("step", WHOLE, ids=repr)
def test_a_whole_number_of_any_type_is_a_step(run, step):
    assert log_twice(run, step) == [9, 9]
    run.text("note", "text", step=step)
    run.log_columns({new_tag(run): np.ones(2)}, [step, 10])


@pytest.mark.parametrize("step", NOT_WHOLE, ids=lambda step: f"{step!r}".partition(" at ")[0])
def test_other_steps_are_refused_whether_the_tag_is_known_or_new(run, step):
    for tag in (new_tag(run), "known"):
        run.log("known", 1.0, step=9)
        with pytest.raises(UsageError, match=r"^step is .*; wanted a whole number from 0 to 2\*\*31-1, which is what"):
            run.log(tag, 1.0, step=step)
        with pytest.raises(UsageError, match=r"^step is .*; wanted a whole number from 0"):
            run.log({tag: 1.0, "b": 2}, step=step)
        assert run._step == 9


def test_steps_of_columns_are_whole_numbers_of_any_type(tmp_path):
    steps = [np.array([1.0, 2.0]), [np.int8(1), 2.0], [decimal.Decimal(1), 2], np.array([1, 2], object), (1, 2)]
    with lab.start_run(tmp_path, hparams={"x": 1}, provenance=False) as run:
        for number, given in enumerate(steps):
            run.log_columns({f"c{number}": [0.5, 0.25]}, given)
    found = lab.read(tmp_path).runs[0]
    assert [found.scalars(f"c{number}").steps.tolist() for number in range(len(steps))] == [[1, 2]] * len(steps)


def ids_of(tmp_path, values):
    return {lab.start_run(tmp_path, hparams={"lr": value}, provenance=False).trial_id for value in values}


def test_tensors_of_torch_as_hparams_and_steps(tmp_path, run):
    torch = pytest.importorskip("torch", reason="torch is tried where CI installs it")
    half = [torch.tensor(0.1, dtype=kind) for kind in (torch.float16, torch.bfloat16, torch.float32, torch.float64)]
    tenths = [0.1, np.float32(0.1), np.array(0.1), *half, torch.nn.Parameter(torch.tensor(0.1))]
    assert ids_of(tmp_path, tenths) == {lab.start_run(tmp_path, hparams={"lr": 0.1}).trial_id}
    assert len(ids_of(tmp_path, [torch.tensor(3), 3, 3.0, torch.tensor(3.0)])) == 1
    assert lab.Discrete([torch.tensor(0.1), 0.2]).cast("lr", torch.tensor(0.2)) == 0.2
    assert [log_twice(run, step) for step in (torch.tensor(9), torch.tensor([9.0]))] == [[9, 9]] * 2
    for step in (torch.tensor(True), torch.tensor(8.5), torch.ones(2)):
        with pytest.raises(UsageError, match=r"^step is tensor\(.*; wanted a whole number"):
            run.log("known", 1, step=step)
