"""`prediction_picture`: what a model says of some test images, right and wrong marked, for TensorBoard's Images tab.

That tab shows an image 350 pixels wide, whatever its size, and leaves out or repeats pixels to that end. So the picture
has that width, and small images are enlarged by a whole number. Needs Pillow, and no Keras: the answers may be any
model's.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hparams_lab.core.errors import UsageError
from hparams_lab.core.values import short
from hparams_lab.keras.no_images import NoImagesError

if TYPE_CHECKING:
    from PIL import Image

COUNT = 10
COLUMNS = 5
CELL = 70
"""The width in which an image and its answer stand: five make TensorBoard's 350."""
TILE = 64
"""The longest side of an image as it is shown."""
TOP = 7
FRAME = 2
LINE = 16
MARK = 10
GAP = 2

RIGHT = (0, 112, 79)
WRONG = (196, 43, 0)
"""Green and red that differ for the colour-blind too, and are read well on white."""

_FINER = 8
_STROKES = {
    True: (((0.08, 0.55), (0.38, 0.86), (0.94, 0.16)),),
    False: (((0.12, 0.12), (0.88, 0.88)), ((0.88, 0.12), (0.12, 0.88))),
}


class _Answer(NamedTuple):
    """What is said of an image, in a line or two, and whether it is right."""

    lines: tuple[str, ...]
    is_right: bool


def prediction_picture(
    images: Any,
    labels: Any,
    predicted: Any,
    count: int = COUNT,
    seed: int = 0,
    names: Sequence[str] | None = None,
) -> NDArray[np.uint8]:
    """A picture of some of the images in rows of five, each with the answer under it.

    A right answer has a tick and is green, a wrong one a cross and is red, and it says what the image is of.

    Args:
      images: shape (n, height, width), with 1, 3 or 4 channels last, or (n, height * width) for squares. Floats in
        [0, 1] and uint8 are taken as they are, other ranges are stretched over what there is from black to white.
      labels: what they are of: shape (n,) of whole numbers, or one-hot rows (n, classes).
      predicted: the answers: shape (n,) of whole numbers, or scores (n, classes); (n, 1) is the chance of class 1.
      count: so many are drawn at random, or all where there are fewer; at least 1.
      seed: fixes which.
      names: what the classes are called, in Latin letters (accents are left out); their numbers when left out.

    Returns an array of shape (height, 350, 3) of uint8, for `Run.image`.

    Raises UsageError for other shapes, NaN, no image, a count below 1 and a class without a name.
    """
    if not isinstance(count, int) or count < 1:
        raise UsageError(f"count is {short(count)}; wanted a whole number from 1")
    images, labels, predicted = np.asarray(images), np.asarray(labels), np.asarray(predicted)
    sizes = [len(array) if array.ndim else 0 for array in (images, labels, predicted)]
    if len(set(sizes)) > 1 or not sizes[0]:
        raise UsageError(f"there are {sizes[0]} images, {sizes[1]} labels and {sizes[2]} predictions; give one of each")
    drawn = draw(sizes[0], count, seed)
    said, says = classes(labels[drawn], "the labels"), classes(predicted[drawn], "the predictions")
    return as_picture(as_images(images[drawn], "the images"), said, says, names)


def draw(size: int, count: int = COUNT, seed: int = 0) -> NDArray[np.intp]:
    """Which of `size` images are shown, at random and none twice."""
    return np.random.default_rng(seed).choice(size, min(count, size), replace=False)


def as_images(inputs: NDArray[Any], what: str, smallest: int = 1) -> NDArray[np.uint8]:
    """Inputs as images of uint8, (n, h, w) or with 1, 3 or 4 channels last; rows of a square number are squares.

    Raises NoImagesError for what cannot be images, or would have a side below `smallest`.
    """
    shape = inputs.shape
    side = round(shape[1] ** 0.5) if inputs.ndim == 2 else 0
    if side and side * side == shape[1]:
        inputs = inputs.reshape(-1, side, side)
    is_flat = inputs.ndim == 3 or (inputs.ndim == 4 and inputs.shape[3] in (1, 3, 4))
    if not is_flat or min(inputs.shape[1:3]) < smallest or inputs.dtype.kind not in "biuf":
        raise NoImagesError(
            f"{what}, {inputs.dtype} of shape {shape}, do not look like images; "
            "wanted (n, height, width), with 1, 3 or 4 channels last, or rows that are squares"
        )
    low, high = float(inputs.min()), float(inputs.max())
    if not np.isfinite([low, high]).all():
        raise NoImagesError(f"{what} hold NaN or infinity, so they do not look like images")
    if inputs.dtype == np.uint8 and high > 1:
        return inputs
    low, high = min(low, 0.0), high if low < 0 else max(high, 1.0)
    return np.asarray(((inputs - low) / max(high - low, 1e-12) * 255 + 0.5).astype(np.uint8))


def classes(found: NDArray[Any], what: str) -> NDArray[np.int64]:
    """The class of each row: the largest of several numbers, or a number that is one, or the rounded half of two.

    Raises NoImagesError for what are no classes.
    """
    if found.ndim == 2 and found.shape[1] > 1 and found.dtype.kind in "biuf":
        return np.asarray(found.argmax(axis=1))
    flat = found.reshape(len(found), -1)
    if flat.shape[1] != 1 or found.dtype.kind not in "biuf":
        raise NoImagesError(
            f"{what}, {found.dtype} of shape {found.shape}, are no classes; wanted (n,) whole numbers or (n, classes)"
        )
    numbers = flat[:, 0].astype(float)
    is_chance = ((numbers >= 0) & (numbers <= 1)).all()
    if not np.isfinite(numbers).all() or ((numbers % 1).any() and not is_chance):
        raise NoImagesError(f"{what} are numbers and no classes; wanted (n,) whole numbers or (n, classes)")
    return np.round(numbers).astype(np.int64)


def as_picture(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    predicted: NDArray[np.int64],
    names: Sequence[str] | None = None,
) -> NDArray[np.uint8]:
    """All of the images, as `as_images` gives them, in rows of five with the answers to them."""
    from PIL import Image

    answers = _answers(labels, predicted, names)
    tiles = [_tile(pixels) for pixels in images]
    below = TOP + tiles[0].height + FRAME + GAP  # all have one size
    row = below + LINE * max(len(answer.lines) for answer in answers)
    picture = Image.new("RGB", (COLUMNS * CELL, -(-len(tiles) // COLUMNS) * row + GAP), "white")
    for place, (tile, answer) in enumerate(zip(tiles, answers, strict=True)):
        x, y = place % COLUMNS * CELL, place // COLUMNS * row
        _put_image(picture, tile, x + (CELL - tile.width) // 2, y + TOP, answer.is_right)
        for number, line in enumerate(answer.lines):
            _put_line(picture, line, x, y + below + number * LINE, answer.is_right, has_mark=number == 0)
    return np.asarray(picture)


def _answers(labels: NDArray[np.int64], predicted: NDArray[np.int64], names: Sequence[str] | None) -> list[_Answer]:
    """Each answer in a line, or all of the wrong ones in two where one of them is too long for that."""
    pairs = [
        (_name(label, names), _name(says, names), label == says) for label, says in zip(labels, predicted, strict=True)
    ]
    room = CELL - MARK - GAP
    in_one = all(is_right or _width(f"{says}, is {label}") <= room for label, says, is_right in pairs)
    return [
        _Answer((says,) if is_right else (f"{says}, is {label}",) if in_one else (says, f"is {label}"), bool(is_right))
        for label, says, is_right in pairs
    ]


def _name(number: np.int64, names: Sequence[str] | None) -> str:
    """What a class is called, as far as the font that Pillow brings along has its letters; else the number."""
    if names is None:
        return str(number)
    if not 0 <= number < len(names):
        raise UsageError(f"class {number} has no name: names has {len(names)}; give one for each class")
    letters = unicodedata.normalize("NFKD", str(names[int(number)]))
    plain = " ".join("".join(letter for letter in letters if not unicodedata.combining(letter)).split())
    return plain if plain.isascii() and plain.isprintable() and plain else str(number)


def _tile(pixels: NDArray[np.uint8]) -> Image.Image:
    """An image as large as it may be: enlarged by a whole number, or made smaller."""
    from PIL import Image

    height, width = pixels.shape[:2]
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels).convert("RGB")
    longest = max(height, width)
    if longest <= TILE:
        return image.resize((width * (TILE // longest), height * (TILE // longest)), Image.Resampling.NEAREST)
    size = (max(1, width * TILE // longest), max(1, height * TILE // longest))
    return image.resize(size, Image.Resampling.LANCZOS)


def _put_image(picture: Image.Image, tile: Image.Image, left: int, top: int, is_right: bool) -> None:
    """An image in its frame."""
    frame = (left - FRAME, top - FRAME, left + tile.width + FRAME, top + tile.height + FRAME)
    picture.paste(RIGHT if is_right else WRONG, frame)
    picture.paste(tile, (left, top))


def _put_line(picture: Image.Image, line: str, x: int, y: int, is_right: bool, has_mark: bool) -> None:
    """A line of an answer, its mark before it, in the middle of its place."""
    from PIL import ImageDraw

    beside = (MARK + GAP) * has_mark
    line = _clipped(line, CELL - beside)
    left = x + (CELL - beside - _width(line)) // 2
    colour = RIGHT if is_right else WRONG
    if has_mark:
        picture.paste(colour, (left, y + (LINE - MARK) // 2), _mark(is_right))
    ImageDraw.Draw(picture).text((left + beside, y + LINE // 2), line, colour, _font(), "lm")


def _clipped(text: str, width: int) -> str:
    """As much of the beginning of a text as fits into so many pixels."""
    if _width(text) <= width:
        return text
    while text and _width(f"{text}...") > width:
        text = text[:-1]
    return f"{text.rstrip()}..."


def _width(text: str) -> int:
    return int(_font().getlength(text) + 0.999)


@functools.cache
def _font() -> Any:
    """The font that Pillow brings along, which every machine has."""
    from PIL import ImageFont

    return ImageFont.load_default(13)


@functools.cache
def _mark(is_right: bool) -> Image.Image:
    """A tick or a cross, drawn larger and made smaller for smooth lines."""
    from PIL import Image, ImageDraw

    side = MARK * _FINER
    large = Image.new("L", (side, side))
    for stroke in _STROKES[is_right]:
        points = [(x * side, y * side) for x, y in stroke]
        ImageDraw.Draw(large).line(points, 255, 2 * _FINER, "curve")
    return large.resize((MARK, MARK), Image.Resampling.LANCZOS)
