"""Small pictures for a report: the frame that a question is about if the run knows it, else a strip of its bag."""

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
        run: the run.
        folders: folders of its pictures; the first that has a picture counts.
    """

    def __init__(self, run: EqaRun, folders: Sequence[Path]):
        self._folders = tuple(folders)
        self._sheets = {result.part['bag']: result.part['sheet'] for result in run.results if 'sheet' in result.part}
        self._places = {
            answer['question_id']: (result.part['bag'], answer.get('picture'))
            for result in run.results
            for answer in result.part['answers']
        }
        self._jpegs: dict[str, bytes] = {}
        self._sheet_images: dict[str, np.ndarray | None] = {}

    def frame(self, question_id: str) -> str:
        """Return the frame that a question was answered from as a data URI; '' where it is unknown."""
        bag, place = self._places.get(question_id, ('', None))
        layout = self._sheets.get(bag)
        if place is None or not layout:
            return ''
        if bag not in self._sheet_images:
            data = np.frombuffer(self._bytes(bag), np.uint8)
            self._sheet_images[bag] = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
        sheet, (row, column) = self._sheet_images[bag], divmod(place, layout['columns'])
        top, left = row * layout['height'], column * layout['width']
        if sheet is None or sheet.shape[0] < top + layout['height'] or sheet.shape[1] < left + layout['width']:
            return ''
        cut = sheet[top : top + layout['height'], left : left + layout['width']]
        return data_uri(cv2.imencode('.jpg', cut, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes())

    def strip(self, episode: str) -> str:
        """Return some frames of a bag side by side as a data URI; '' where there are none."""
        return '' if episode in self._sheets else data_uri(self._bytes(episode))

    def _bytes(self, bag: str) -> bytes:
        """Return the JPEG of a bag; empty where there is none."""
        if bag not in self._jpegs:
            jpegs = (_read(folder / f'{bag}.jpg') for folder in self._folders)
            self._jpegs[bag] = next(filter(None, jpegs), b'')
        return self._jpegs[bag]


def with_pictures(samples: Sequence[dict], runs: Sequence[Thumbnails]) -> list[dict]:
    """Add a data URI to samples under 'picture': the asked frame in any run, else a strip, else ''."""
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


def data_uri(jpeg: bytes) -> str:
    """Return a JPEG as a data URI; '' for an empty one."""
    return f'data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}' if jpeg else ''
