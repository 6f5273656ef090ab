"""Objects of frameworks as text: an estimator, an optimizer or a model is its class and configuration."""

import pytest

from hparams_lab.core.described import as_text
from hparams_lab.core.values import checked


def test_estimators_of_sklearn():
    svm = pytest.importorskip("sklearn.svm")
    pipeline = pytest.importorskip("sklearn.pipeline")
    said = as_text(pipeline.make_pipeline(svm.SVC(C=2.0)), pytest.fail)
    assert said == "Pipeline(steps=[['svc', SVC(C=2.0)]])"
    assert as_text(svm.SVC(), pytest.fail) == as_text(svm.SVC(), pytest.fail) != as_text(svm.SVC(C=2.0), pytest.fail)


def test_objects_of_keras():
    pytest.importorskip("tensorflow")
    import keras

    adam = as_text(keras.optimizers.Adam(0.01), pytest.fail)
    assert adam.startswith("Adam(amsgrad=False, beta_1=0.9, ")
    assert ", learning_rate=0.01, " in adam
    schedule = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 100))
    assert "learning_rate=CosineDecay(alpha=0.0, decay_steps=100, " in as_text(schedule, pytest.fail)

    def model(units):
        return keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(units), keras.layers.Dropout(0.1)])

    texts = [as_text(model(units), pytest.fail) for units in (8, 8, 16)]
    assert texts[0] == texts[1] != texts[2]
    assert [as_text(keras.activations.relu), as_text(keras.layers.Dense)] == ["relu", "Dense"]
    assert [checked("x", keras.Variable(value)) for value in (0.1, 3)] == [0.1, 3]


def test_objects_of_torch():
    torch = pytest.importorskip("torch", reason="torch is tried where CI installs it")

    class Net(torch.nn.Module):
        def __init__(self, width):
            super().__init__()
            self.layer, self.width = torch.nn.Linear(4, 2), width

    linear = "Linear(in_features=4, out_features=2, bias=True)"
    assert as_text(torch.nn.Linear(4, 2), pytest.fail) == linear
    assert as_text(Net(3), pytest.fail) == as_text(Net(3), pytest.fail) == f"Net(layer={linear}, width=3)"
    losses = [torch.nn.CrossEntropyLoss(label_smoothing=share) for share in (0.1, 0.2)]
    adams = [torch.optim.Adam(Net(3).parameters(), lr=rate) for rate in (0.1, 0.2, 0.2)]
    for kind in (losses, adams):
        assert len({as_text(one, pytest.fail) for one in kind}) == 2
    said = [torch.float32, torch.device("cpu"), torch.ones(1)]
    assert [as_text(one, pytest.fail) for one in said] == ["torch.float32", "cpu", "[1.0]"]
