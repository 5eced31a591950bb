"""Questions about an image on disk, answered by the engine alone: no node and no rclpy."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from m3et_ros.cli.ask.intrinsics import read_intrinsics
from m3et_ros.cli.output import Refused, print_status
from m3et_ros.data.depth_checks import implausible, median_m
from m3et_ros.data.files import check_regular, map_array, read_regular
from m3et_ros.data.frame import Frame, check_aligned
from m3et_ros.data.images.files import MAX_BYTES
from m3et_ros.data.images.messages import check_pixels, stored_depth
from m3et_ros.data.images.orientation import orientation, upright
from m3et_ros.data.images.sizes import check_claimed
from m3et_ros.runtime.answerer import BESIDE, M3ET, ROUTER, VLM, open_answerer
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.limits import ROUTER_CONFIDENCE
from m3et_ros.runtime.open_model import open_checkpoint
from m3et_ros.runtime.places import Locator
from m3et_ros.runtime.results import Reply
from m3et_ros.runtime.session import Session, checked_question
from m3et_ros.runtime.vlm.model import open_vlm

MAX_TOKENS = 64
"""Most tokens of a written answer; the default of the node."""

INTEGERS = ('uint16', 'int16', 'int32', 'uint32')
"""Types of integers that hold millimetres; eight bits are a picture of depth, not depth."""


def ask_picture(
    question: str,
    frame: Frame,
    *,
    model: str,
    device: str,
    top_k: int,
    answerer: str = M3ET,
    checkpoint: Path | None = None,
    write: Callable[[str], None] | None = None,
) -> dict:
    """Answer a question about an image.

    Args:
        question: the question.
        frame: the image, see `read_frame`.
        model: model that encodes the image: named size, checkpoint folder or Hub id.
        device: auto, cpu, cuda, ...
        top_k: number of alternatives, at least 1.
        answerer: one of runtime.answerer.ANSWERERS.
        checkpoint: checkpoint folder of the answerer; None takes the shipped one.
        write: receives every new part of a written answer.

    Returns:
        A dictionary with the keys of an answer of the node; its age_s is None.

    Raises:
        InputError: the model is missing or damaged, or the question is too long.
    """
    question = checked_question(question, parameter='')
    picture = Picture(frame, model=model, device=device, answerer=answerer, checkpoint=checkpoint)
    return picture.ask(question, top_k=top_k, write=write)


class Picture:
    """An image with the models that answer about it; it is encoded once."""

    def __init__(self, frame: Frame, *, model: str, device: str, answerer: str = M3ET, checkpoint: Path | None = None):
        """Open the models and encode the image; the arguments and errors are those of `ask_picture`."""
        self._frame, self._answerer = frame, answerer
        if answerer in BESIDE:
            self._vlm = open_vlm(str(checkpoint or ''), device=device)
        if answerer == VLM:
            return
        engine = Engine(open_checkpoint(model), device=device)
        self._session = Session(engine)
        if answerer not in BESIDE:
            self._session.answerer = open_answerer(answerer, str(checkpoint or ''), engine)
        self._session.locator = Locator(engine)
        self._views = self._session.views('frame', frame)

    def ask(self, question: str, *, top_k: int, write: Callable[[str], None] | None = None) -> dict:
        """Answer a question; arguments, result and errors are those of `ask_picture`."""
        question = checked_question(question, parameter='')
        if self._answerer in BESIDE:
            return self._ask_vlm(question, top_k, write or _ignore)
        return self._ask_m3et(question, top_k, write)

    def _ask_vlm(self, question: str, top_k: int, write: Callable[[str], None]) -> dict:
        """Answer with the vision-language model, after M3ET was not sure where it is asked first."""
        if self._answerer == ROUTER:
            answer = self._ask_m3et(question, top_k, None)
            if answer['answerable'] and answer['confidence'] >= ROUTER_CONFIDENCE:
                write(answer['text'])
                return answer
        written = ''

        def stream(text: str) -> None:
            nonlocal written
            write(text[len(written) :])
            written = text

        answer = self._vlm.answer(question, [self._frame.rgb], max_tokens=MAX_TOKENS, on_text=stream)
        if answer.text != written:
            stream(answer.text)
        return _fields(answer.reply(question, [self._frame], 'frame'), self._vlm.model_id)

    def _ask_m3et(self, question: str, top_k: int, write: Callable[[str], None] | None) -> dict:
        """Answer with M3ET, or with an answerer that reads its visual tokens."""
        session, views = self._session, self._views
        if session.answerer_for('frame') is not None:
            reply = _write_parts(session.write(question, views, scope='frame', max_tokens=MAX_TOKENS), write)
        else:
            reply = session.ask(question, views, scope='frame', top_k=top_k)
        return _fields(reply, session.answered_by('frame'))


def _fields(reply: Reply, model_id: str) -> dict:
    """Return the keys of an answer of the node."""
    fields = dataclasses.asdict(reply)
    first, last = fields.pop('first_ns'), fields.pop('last_ns')
    return fields | {
        'stamp_ns': last,
        'span_start_ns': first,
        'frame_id': '',
        'places_frame_id': '',
        'model_id': model_id,
        'age_s': None,
    }


def _ignore(text: str) -> None:
    del text


def _write_parts(replies: Iterator[Reply], write: Callable[[str], None] | None) -> Reply:
    """Hand each new part of growing replies to `write`, and return the last reply."""
    text = ''
    for reply in replies:
        if write and reply.text != text:
            write(reply.text[len(text) :])
            text = reply.text
    return reply


def read_frame(image: Path, depth: Path | None = None, intrinsics: str = '') -> Frame:
    """Read an image and its depth as a frame, upright as the EXIF orientation of the image says.

    Args:
        image: a PNG, JPEG or TIFF of at most 64 million pixels.
        depth: see `read_depth`; of the same size as the image, as stored or upright.
        intrinsics: see `read_intrinsics`; those of the upright image; '' for none.

    Raises:
        Refused: a file is missing or damaged.
        InputError: the sizes differ.
    """
    import cv2

    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    pixels, data = _decode(image, flags, 'a PNG or JPEG image')
    turned = orientation(data)
    rgb = upright(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), turned)
    K = read_intrinsics(intrinsics, rgb.shape) if intrinsics else None
    if depth is None:
        return Frame(rgb, K=K)
    metres = read_depth(depth)
    if metres.shape == pixels.shape[:2]:
        metres = upright(metres, turned)
    check_aligned(rgb.shape, metres.shape, f'give as {depth} depth that is aligned to {image}.')
    if sentence := implausible(median_m(metres)):
        print_status(f'm3et: {depth}: {sentence}.')
    return Frame(rgb, metres, K=K)


def read_depth(path: Path) -> np.ndarray:
    """Read depth from a file: integers are millimetres (0 and 65535 mean unknown), floats are metres.

    Args:
        path: a PNG of 16 bits, a TIFF of 16 bits or floats, or a .npy of integers of 16 or 32 bits or floats.

    Returns:
        Depth (H, W) float32 in metres, NaN where unknown.

    Raises:
        Refused: the file is missing or damaged, or holds something else.
    """
    import cv2

    if path.suffix == '.npy':
        stored = _array(path)
    else:
        stored, _ = _decode(path, cv2.IMREAD_UNCHANGED, 'a 16-bit PNG of millimetres')
    if stored.ndim != 2 or not (stored.dtype.kind == 'f' or stored.dtype.name in INTEGERS):
        raise Refused(
            f'{path} holds {stored.dtype} {stored.shape}; give one grey value per pixel: a 16-bit PNG of millimetres, '
            'a TIFF or .npy of metres as floats, or a .npy of millimetres as uint16.'
        )
    return stored_depth(stored)


def _array(path: Path) -> np.ndarray:
    """Map the array of a .npy file, so that one that is too large is refused before it is read."""
    check_regular(path, 'give a .npy file of metres')
    try:
        stored = map_array(path)
    except (OSError, ValueError) as error:
        raise Refused(f'{path} cannot be read as a NumPy array ({error}); give a .npy file of metres.') from None
    if stored.ndim == 2:
        check_pixels(stored.shape[1], stored.shape[0], str(path))
    return stored


def _decode(path: Path, flags: int, what: str) -> tuple[np.ndarray, bytes]:
    """Decode an image file; `what` describes it for errors. Return the pixels and the bytes of the file."""
    import cv2

    try:
        data = read_regular(path, f'give the path of {what}', most=MAX_BYTES)
    except OSError as error:
        raise Refused(f'{path} cannot be read ({error.strerror}); give the path of {what}.') from None
    claimed = check_claimed(data, str(path))
    if claimed is None:
        raise Refused(f'{path} is no PNG, JPEG or TIFF, or is damaged; give {what}.')
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        decoded = None
    if decoded is None:
        raise Refused(f'{path} is not {what}, or is damaged; give another file.')
    if decoded.shape[0] * decoded.shape[1] != claimed[0] * claimed[1]:
        raise Refused(f'{path} holds another size than its header claims; give another file.')
    return decoded, data
