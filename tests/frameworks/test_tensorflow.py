"""What TensorFlow makes is read, and what is made for it is what it would make; it is imported here."""

import io

import numpy as np
import pytest
from PIL import Image
from tensorboard.plugins.hparams import api_pb2

from hparams_lab.core.errors import UsageError
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.values import checked
from hparams_lab.events.format import summaries
from hparams_lab.events.format.event_file import read_events
from hparams_lab.events.format.record import frame
from hparams_lab.logdir.run_reader import event_files, read_run
from hparams_lab.run.start import start_run

tf = pytest.importorskip("tensorflow", reason="pip install 'hparams-lab[tensorflow]'")

PAYLOADS = [b"one", b"", b"\x00" * 1000, bytes(range(256))]
FILE = b"".join(map(frame, PAYLOADS))


@pytest.fixture
def run(tmp_path):
    run = start_run(tmp_path, hparams={"x": 1}, name="x", provenance=False)
    yield run
    run.finish()


def logged(run, tag):
    """The summary value of a tag, from the file."""
    run.flush()
    events = [event for file in event_files(run.dir) for event in read_events(file.read_bytes())]
    return next(value for event in events for value in event.summary.value if value.tag == tag)


def test_frame_is_what_tensorflow_writes_and_reads(tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for payload in PAYLOADS:
            writer.write(payload)
    assert (tmp_path / "theirs").read_bytes() == FILE
    (tmp_path / "ours").write_bytes(FILE)
    assert list(tf.data.TFRecordDataset(str(tmp_path / "ours")).as_numpy_iterator()) == PAYLOADS


@pytest.mark.parametrize("status", [summaries.SUCCESS, summaries.FAILURE, summaries.UNKNOWN])
def test_session_end_is_tensorboards(status):
    from tensorboard.plugins.hparams import summary as theirs  # it needs TensorFlow

    ours, same = summaries.session_end(status, 9.5), theirs.session_end_pb(status, 9.5)
    assert ours.SerializeToString(deterministic=True) == same.SerializeToString(deterministic=True)
    assert api_pb2.Status.Name(status) in ("STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_UNKNOWN")


def test_files_by_tensorflow(tmp_path):
    from tensorboard.plugins.hparams import api

    with tf.summary.create_file_writer(str(tmp_path)).as_default():
        api.hparams({"units": 16, "rate": 0.1, "bias": True}, trial_id="theirs", start_time_secs=5.0)
        for step, value in enumerate([0.5, 0.25, 0.125]):
            tf.summary.scalar("loss", value, step=step)
        tf.summary.text("note", "**words**", step=0)
        tf.summary.image("image", np.zeros([1, 4, 4, 1]), step=0)
        tf.summary.histogram("weights", np.arange(9.0), step=0)
        tf.summary.write("count", tf.constant(7, tf.int64), step=3)
    run = read_run(tmp_path, "x")
    assert dict(run.hparams) == {"bias": True, "rate": 0.1, "units": 16}
    assert (run.trial_id, run.started, run.outcome) == ("theirs", 5.0, Outcome.UNKNOWN)
    assert run.metrics == {"loss": 0.125, "count": 7.0}
    assert run.scalars("loss").steps.tolist() == [0, 1, 2]
    assert run.texts == {"note": "**words**"}


def test_values_by_tensorflow(run):
    run.log({"eager": tf.constant(0.5), "variable": tf.Variable(0.25), "bool": tf.constant(True)})
    for number, step in enumerate([tf.Variable(3, dtype=tf.int64), tf.constant([3.0]), tf.Variable([[3]])], 3):
        run.log({"eager": 0.5}, step=step + number - 3)
    assert run._step == 5
    with pytest.raises(UsageError, match=r"^step is <tf.Tensor.*True>; wanted a whole number"):
        run.log({"eager": 0.5}, step=tf.constant(True))
    for tenth in (tf.constant(0.1), tf.Variable(0.1), tf.Variable(0.1, dtype=tf.bfloat16), tf.constant(0.1, tf.half)):
        assert checked("x", tenth) == 0.1
    run.log({"one": tf.constant([0.5]), "two": tf.Variable([[1.0, 2.0]]), "half": tf.constant([1, 2], tf.bfloat16)})
    several = {"two/0": 1.0, "two/1": 2.0, "half/0": 1.0, "half/1": 2.0}
    assert run.metrics == {"eager": 0.5, "variable": 0.25, "bool": 1.0, "one": 0.5, **several}


@pytest.mark.parametrize("of", ["tensor", "variable", "vector"])
def test_a_symbolic_tensor_is_to_be_returned(run, of):
    variable = tf.Variable(1.0)

    @tf.function
    def train_step(x):
        loss = {"tensor": tf.reduce_mean(x), "variable": variable, "vector": x}[of]
        run.log({"loss": loss})
        return loss

    with pytest.raises(UsageError, match=r"^metric 'loss' is a symbolic tensor \(\w+\), which has no value") as caught:
        train_step(tf.ones(3))
    with pytest.raises(UsageError, match=r"^step is a symbolic tensor \(SymbolicTensor\), which has no value"):
        tf.function(lambda step: run.log({"loss": 1}, step=step))(tf.constant(3))
    assert str(caught.value).endswith("; return it from that function (tf.function, jax.jit, ...) and log it outside")
    assert "\n" not in str(caught.value)
    assert run.metrics == {}


def test_images_by_tensorflow(run):
    run.image("float", tf.zeros((4, 4, 3)))
    run.image("bfloat16", tf.cast(tf.ones((4, 4)), tf.bfloat16))
    run.histogram("bfloat16s", tf.cast(tf.range(8), tf.bfloat16), bins=4)
    value = logged(run, "bfloat16")
    with Image.open(io.BytesIO(value.image.encoded_image_string)) as image:
        assert np.asarray(image).tolist() == [[255] * 4] * 4
    value = logged(run, "bfloat16s")
    assert list(value.histo.bucket) == [2, 2, 2, 2]
