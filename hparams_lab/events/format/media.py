"""Images, figures and histograms as summaries, and arrays checked for it: pure builders.

Images are PNG files in `Summary.Image`, histograms bucket limits and counts in `HistogramProto`: the forms that both of
TensorBoard's loaders read.
Source: https://github.com/tensorflow/tensorboard/blob/2.21.0/tensorboard/compat/proto/summary.proto
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.histogram_pb2 import HistogramProto
from tensorboard.compat.proto.summary_pb2 import Summary

from hparams_lab.core.errors import UsageError
from hparams_lab.core.measured import MOST_ELEMENTS, LeaveOut
from hparams_lab.core.scalar import LARGEST_STEP, checked_tag
from hparams_lab.core.tensors import SymbolicError, detached, is_symbolic, is_tensor, listed, whole_of
from hparams_lab.core.values import short

_CHANNELS = {1: "L", 3: "RGB", 4: "RGBA"}


def image(tag: str, pixels: Any) -> Summary:
    """An image of shape (height, width) or (height, width, 1, 3 or 4), uint8 or floats in [0, 1]."""
    from PIL import Image

    array = _as_bytes(tag, _array(tag, pixels))
    mode = _CHANNELS[1 if array.ndim == 2 else array.shape[2]]
    file = io.BytesIO()
    Image.fromarray(array.squeeze(2) if array.shape[2:] == (1,) else array, mode).save(file, "PNG", compress_level=1)
    return _image(tag, array.shape[0], array.shape[1], len(mode), file.getvalue())


def figure(tag: str, figure: Any, close: bool) -> Summary:
    """A Matplotlib figure as it would be saved."""
    if not hasattr(figure, "savefig"):
        raise UsageError(f"figure {tag!r} is {short(figure)} ({type(figure).__name__}); wanted a Matplotlib figure")
    file = io.BytesIO()
    figure.savefig(file, format="png")
    width, height = (round(inches * figure.dpi) for inches in figure.get_size_inches())
    if close:
        import matplotlib.pyplot

        matplotlib.pyplot.close(figure)
    return _image(tag, height, width, 4, file.getvalue())


def histogram(tag: str, values: Any, bins: int) -> Summary:
    """The distribution of the finite ones of `values`, in `bins` buckets of the same width."""
    if not isinstance(bins, int) or bins < 1:
        raise UsageError(f"histogram {tag!r} has {short(bins)} bins; wanted a whole number from 1")
    array = _array(tag, values).astype(np.float64, copy=False).ravel()
    finite = array[np.isfinite(array)]
    counts, edges = _counts(finite, bins) if finite.size else (np.zeros(1), np.array([0.0, 1.0]))
    with np.errstate(over="ignore"):
        total, squares = finite.sum(), np.square(finite).sum()
    message = HistogramProto(
        min=float(edges[0]),
        max=float(edges[-1]),
        num=float(finite.size),
        sum=float(total),
        sum_squares=float(squares),
        bucket_limit=edges[1:].tolist(),
        bucket=counts.tolist(),
    )
    return Summary(value=[Summary.Value(tag=tag, histo=message)])


def _counts(values: NDArray[np.float64], bins: int) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """How many values are in each bucket, and the buckets' edges: one bucket where the span is too small for more."""
    low, high = values.min(), values.max()
    with np.errstate(over="ignore"):
        width = (high - low) / bins
    if low < high and not (np.isfinite(width) and width > 4 * np.spacing(max(-low, high))):
        return np.array([values.size]), np.array([low, high])
    return np.histogram(values, bins=bins)


def columns_of(values: Mapping[str, Any], leave_out: LeaveOut) -> dict[str, NDArray[np.float64]]:
    """Columns of shape (n,) by tag; of an array of shape (n, k), one for each of up to 32 elements: `tag/0`, ...

    `leave_out` is told of arrays with no or more elements. Raises UsageError for what holds no numbers.
    """
    found = {}
    for tag, given in values.items():
        array = np.atleast_1d(_array(checked_tag(tag), given)).astype(np.float64)
        shape = tuple(length for length in array.shape[1:] if length != 1)
        width = math.prod(shape)
        if not 0 < width <= MOST_ELEMENTS:
            leave_out(tag, f"has {width} elements at each step, and not 1 to {MOST_ELEMENTS}")
            continue
        for place, index in enumerate(np.ndindex(shape)):
            found["/".join([tag, *map(str, index)])] = array.reshape(len(array), width)[:, place]
    return found


def checked_steps(steps: Any) -> NDArray[np.int64]:
    """`steps` as integers of shape (n,) that TensorBoard can show. Raises UsageError."""
    steps = listed(steps) if is_tensor(steps) and not isinstance(steps, np.ndarray) else steps
    try:
        array = np.asarray(steps)
    except ValueError:  # of different shapes
        array = np.fromiter(steps, object, len(steps))
    if array.dtype.kind in "fO":  # whole numbers of another type
        array = _whole(array)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise UsageError(f"steps are {short(steps)} of shape {array.shape}; wanted whole numbers of shape (n,)")
    if array.size and (array.min() < 0 or array.max() > LARGEST_STEP):
        bad = int(array.min() if array.min() < 0 else array.max())
        raise UsageError(f"a step is {bad}; wanted 0 to 2**31-1, which is what TensorBoard can show")
    return array.astype(np.int64)


def _whole(array: NDArray[Any]) -> NDArray[Any]:
    """The numbers of an array as integers; as they are where one of them is not whole."""
    whole = [whole_of(one) for one in array.flat]
    return array if None in whole else np.array(whole, object).astype(np.int64).reshape(array.shape)


def _array(tag: str, values: Any) -> NDArray[Any]:
    """An array of numbers out of what any framework has."""
    if is_symbolic(values):
        raise SymbolicError(f"{tag!r}", values)
    if isinstance(values, (list, tuple)) and values and is_tensor(values[0]):
        values = [listed(value) for value in values]
    try:
        values = detached(values)  # of a GPU too
        array = np.asarray(values.cpu().numpy() if hasattr(values, "cpu") else values)
    except Exception:  # of different lengths, or of a type that NumPy has not
        array = _from_lists(tag, values)
    if array.dtype.kind not in "biuf":
        array = _numbers_of(tag, array)
    return array


def _from_lists(tag: str, values: Any) -> NDArray[Any]:
    try:
        return np.asarray(listed(values))
    except Exception:
        raise UsageError(f"{tag!r} is {short(values)} ({type(values).__name__}); wanted an array of numbers") from None


def _numbers_of(tag: str, array: NDArray[Any]) -> NDArray[Any]:
    """Types that NumPy does not know as numbers, such as bfloat16, as floats."""
    try:
        if array.dtype.kind not in "OSUcMm":
            return array.astype(np.float64)
    except (TypeError, ValueError):
        pass
    raise UsageError(f"{tag!r} is an array of {array.dtype}; wanted numbers")


def _as_bytes(tag: str, array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.ndim not in (2, 3) or array.shape[2:] not in [(), *((n,) for n in _CHANNELS)] or 0 in array.shape:
        raise UsageError(
            f"image {tag!r} has the shape {array.shape}; wanted (height, width) or (height, width, 1, 3 or 4)"
        )
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f" or not (array.min() >= 0 and array.max() <= 1):
        span = f"{array.dtype} from {array.min()} to {array.max()}"
        raise UsageError(f"image {tag!r} has pixels of type {span}; wanted uint8, or floats in [0, 1]")
    return (array * 255 + 0.5).astype(np.uint8)


def _image(tag: str, height: int, width: int, channels: int, png: bytes) -> Summary:
    picture = Summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=png)
    return Summary(value=[Summary.Value(tag=tag, image=picture)])
