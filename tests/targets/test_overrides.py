"""`--set NAME=VALUES`: what each text makes of a declared domain, and what is refused."""

import pytest

from hparams_lab.core.domains import Discrete
from hparams_lab.core.errors import UsageError
from hparams_lab.core.experiment import Experiment, Metric
from hparams_lab.core.hparam import HParam
from hparams_lab.core.intervals import IntInterval, RealInterval
from hparams_lab.targets.overrides import with_overrides

EXPERIMENT = Experiment(
    [
        HParam("units", Discrete([16, 32]), "Units", "width"),
        HParam("layers", IntInterval(1, 4)),
        HParam("rate", RealInterval(1e-3, 1e-1, scale="log")),
        HParam("optimizer", Discrete(["adam", "sgd", "none", "1e-3", "a,b"])),
        HParam("momentum", RealInterval(0, 0.9), active_when={"optimizer": ["sgd", "none"]}),
        HParam("nesterov", Discrete([True, False]), active_when={"momentum": 0.9}),
        HParam("decay", Discrete([0.1, None, 0.2])),
    ],
    [Metric("loss"), Metric("accuracy")],
    "accuracy",
    name="digits",
    constraints=[bool],
)
NAMES = [hparam.name for hparam in EXPERIMENT.hparams]


@pytest.mark.parametrize(
    ("setting", "domain"),
    [
        ("units=8", Discrete([8])),
        ("units= 64, 8.0 ", Discrete([64, 8])),
        ("units=8,", Discrete([8])),
        ("units=8..64", IntInterval(8, 64)),
        ("units=8..64:log:step=8", IntInterval(8, 64, scale="log", step=8)),
        ("layers=2,3", Discrete([2, 3])),
        ("layers=-3..3", IntInterval(-3, 3)),
        ("rate=0.1,1", Discrete([0.1, 1.0])),
        ("rate=1", Discrete([1.0])),
        ("rate=1e-4..1e-1", RealInterval(1e-4, 1e-1, scale="log")),
        ("rate=0..1:linear", RealInterval(0, 1)),
        ("rate=.5..1.5:step=0.5", RealInterval(0.5, 1.5, scale="log", step=0.5)),
        ("optimizer=sgd", Discrete(["sgd"])),
        ("optimizer='sgd',adam", Discrete(["sgd", "adam"])),
        ("optimizer=none,1e-3", Discrete(["none", "1e-3"])),
        ("optimizer='a,b', sgd", Discrete(["a,b", "sgd"])),
        ("decay=None,0.2", Discrete([None, 0.2])),
        ("decay=None", Discrete([None], dtype=float)),
    ],
)
def test_setting_a_domain(setting, domain):
    new = with_overrides(EXPERIMENT, [setting])
    name = setting.partition("=")[0]
    assert new.hparam(name).domain == domain
    assert new.hparam(name).domain.dtype is EXPERIMENT.hparam(name).domain.dtype
    others = [hparam for hparam in EXPERIMENT.hparams if hparam.name not in (name, "momentum", "nesterov")]
    assert [hparam for hparam in new.hparams if hparam in others] == others


def test_everything_else_is_kept():
    new = with_overrides(EXPERIMENT, ["units=8", "rate=1"])
    assert (new.hparam("units").display_name, new.hparam("units").description) == ("Units", "width")
    assert [hparam.name for hparam in new.hparams] == NAMES
    assert (new.metrics, new.objective, new.name) == (EXPERIMENT.metrics, "accuracy", "digits")
    assert new.constraints == EXPERIMENT.constraints
    assert with_overrides(EXPERIMENT, []) == EXPERIMENT


def test_the_last_of_two_settings_counts():
    assert with_overrides(EXPERIMENT, ["units=8", "units=64"]).hparam("units").domain == Discrete([64])


@pytest.mark.parametrize(
    ("setting", "gone"),
    [
        ("optimizer=sgd", set()),
        ("momentum=0,0.5", {"nesterov"}),
        ("optimizer=adam", {"momentum", "nesterov"}),
    ],
)
def test_hparams_that_are_never_called_for_any_more_are_dropped(setting, gone):
    new = with_overrides(EXPERIMENT, [setting])
    assert [hparam.name for hparam in new.hparams] == [name for name in NAMES if name not in gone]


def test_conditions_keep_the_values_that_are_left():
    new = with_overrides(EXPERIMENT, ["optimizer=adam,sgd"])
    assert new.hparam("momentum").active_when == {"optimizer": ("sgd",)}
    assert EXPERIMENT.hparam("momentum").active_when == {"optimizer": ("sgd", "none")}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("unit=8", "--set names 'unit', which is not an hparam; did you mean 'units'[?] there are units, layers, rate"),
        ("depth=8", "--set names 'depth', which is not an hparam; there are units, layers"),
        ("units", "--set 'units' is not NAME=VALUES; for example --set units=8,16 or --set learning_rate=1e-4"),
        ("units= ", "--set 'units= ' is not NAME=VALUES"),
        ("units=8,,16", "--set units=8,,16: an empty value; wanted a number"),
        ("units=big", r"--set units=big: hparam 'units' is 'big' \(str\); wanted a whole number"),
        ("units=8.5", r"--set units=8.5: hparam 'units' is 8.5 \(float\); wanted a whole number"),
        ("units=true", r"--set units=true: hparam 'units' is True \(bool\); wanted a whole number"),
        ("units=8,8.0", "--set units=8,8.0: Discrete has the value 8 twice; name each once"),
        ("units=[8]", r"--set units=\[8\]: '\[8\]' is a list; wanted a single number"),
        ("units=64..8", "--set units=64..8: IntInterval has min 64 > max 8; give the smaller end first"),
        ("units=1..x", "--set units=1..x: IntInterval has the bound 'x'; wanted a whole number"),
        ("rate=0..1", "--set rate=0..1: RealInterval has a log scale from 0; a log scale needs both ends above zero"),
        ("rate=1..2:cubic", "--set rate=1..2:cubic: 'cubic' is not an option of an interval; there are :log, :linear"),
        ("rate=1e999", "--set rate=1e999: hparam 'rate' is inf, which TensorBoard drops"),
        ("rate=nan", r"--set rate=nan: hparam 'rate' is 'nan' \(str\); wanted a number"),
        ("optimizer=adm", "--set optimizer=adm: hparam 'optimizer' is 'adm'; its domain is {adam, sgd, none, "),
        ("optimizer=7", "--set optimizer=7: hparam 'optimizer' is '7'; its domain is {adam"),
        ("optimizer=a..b", "--set optimizer=a..b: optimizer takes the values {adam, .*}; an interval is for numbers"),
        ("nesterov=1", r"--set nesterov=1: hparam 'nesterov' is 1 \(int\); wanted True or False"),
        ("decay=0.3", "--set decay=0.3: hparam 'decay' is 0.3; its domain is {0.1, None, 0.2}"),
        ("decay=0..1", "--set decay=0..1: decay takes the values {0.1, None, 0.2}; an interval is for numbers only"),
    ],
)
def test_refused(setting, message):
    with pytest.raises(UsageError, match=f"^{message}") as caught:
        with_overrides(EXPERIMENT, [setting])
    assert "\n" not in str(caught.value)
