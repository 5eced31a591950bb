"""Small pictures for the report: the frame that a question is about where the run knows it, else a strip of its bag."""

import base64
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from m3et_ros.evaluation.tasks.eqa_results import EqaRun

QUALITY = 85


class Thumbnails:
    """The pictures of one run.

    Args:
        run: what was done.
        folders: where its pictures may lie; the first that has one counts.
    """

    def __init__(self, run: EqaRun, folders: Sequence[Path]):
        self._folders = tuple(folders)
        self._sheets = {done.part['bag']: done.part['sheet'] for done in run.done if 'sheet' in done.part}
        self._places = {
            answer['question_id']: (done.part['bag'], answer.get('picture'))
            for done in run.done
            for answer in done.part['answers']
        }
        self._known: dict[str, bytes] = {}
        self._opened: dict[str, np.ndarray | None] = {}

    def frame(self, question_id: str) -> str:
        """The frame that a question was answered from as a data URI, '' where it is not known."""
        bag, place = self._places.get(question_id, ('', None))
        layout = self._sheets.get(bag)
        if place is None or not layout:
            return ''
        if bag not in self._opened:
            data = np.frombuffer(self._bytes(bag), np.uint8)
            self._opened[bag] = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
        sheet, (row, column) = self._opened[bag], divmod(place, layout['columns'])
        top, left = row * layout['height'], column * layout['width']
        if sheet is None or sheet.shape[0] < top + layout['height'] or sheet.shape[1] < left + layout['width']:
            return ''
        cut = sheet[top : top + layout['height'], left : left + layout['width']]
        return _uri(cv2.imencode('.jpg', cut, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes())

    def strip(self, episode: str) -> str:
        """Some frames of a bag side by side as a data URI, '' where there are none."""
        return '' if episode in self._sheets else _uri(self._bytes(episode))

    def _bytes(self, bag: str) -> bytes:
        """The JPEG beside a part, empty where there is none."""
        if bag not in self._known:
            self._known[bag] = next(filter(None, (_read(folder / f'{bag}.jpg') for folder in self._folders)), b'')
        return self._known[bag]


def with_pictures(samples: Sequence[dict], runs: Sequence[Thumbnails]) -> list[dict]:
    """Samples with a data URI under 'picture': the asked frame out of any run, else a strip, else nothing."""
    found = []
    for sample in samples:
        asked = (run.frame(sample['question_id']) for run in runs)
        strips = (run.strip(sample['episode']) for run in runs)
        found.append(sample | {'picture': next(filter(None, asked), '') or next(filter(None, strips), '')})
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b''


def _uri(jpeg: bytes) -> str:
    return f'data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}' if jpeg else ''
