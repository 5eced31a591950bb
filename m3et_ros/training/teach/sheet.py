"""A contact sheet of a labelled recording: frames with their things, to look through before they are corrected."""

from pathlib import Path

import cv2
import numpy as np

from m3et_ros.data.kitchen.sim.vocabulary import overlay_colours
from m3et_ros.data.labelled.facts import ObjectFact
from m3et_ros.data.labelled.samples import LabelledSamples

SHEET = 'sheet.png'
SHOWN, ABREAST = 24, 6
WIDTH, HEIGHT, MARGIN = 240, 180, 18
"""Pixels of a frame on the sheet, and of the line of text above it."""
ALPHA = 0.4
"""Weight of the colour of a thing over its pixels."""
INK = (30, 30, 30)
NAMED = 0.25
"""Confidence from which an unsure thing has its name beside its box."""


def draw_sheet(folder: Path, classes: tuple[str, ...]) -> Path:
    """Draw frames of both splits, evenly spread, with boxes, names and confidences of their things.

    Unsure things have thin boxes, and the likelier ones a question mark. Coloured pixels are those that the mask gives
    to a thing.

    Args:
        folder: folder of a data set.
        classes: the student's classes.

    Returns:
        The PNG file in the folder.

    Raises:
        OSError: it cannot be written.
    """
    splits = [LabelledSamples(folder, classes=classes, split=name) for name in ('train', 'held_out')]
    frames = sorted((int(number), data, i) for data in splits for i, number in enumerate(data.numbers))
    picked = [frames[i] for i in np.linspace(0, len(frames) - 1, min(SHOWN, len(frames))).round().astype(int)]
    rows = -(-len(picked) // ABREAST)
    canvas = np.full((rows * (HEIGHT + MARGIN), ABREAST * WIDTH, 3), 255, np.uint8)
    for place, (number, data, i) in enumerate(picked):
        top, left = place // ABREAST * (HEIGHT + MARGIN), place % ABREAST * WIDTH
        title = f'{number} {"train" if data is splits[0] else "held out"}'
        cv2.putText(canvas, title, (left + 4, top + 13), cv2.FONT_HERSHEY_SIMPLEX, 0.42, INK, 1, cv2.LINE_AA)
        picture = _picture(data, i)
        canvas[top + MARGIN : top + MARGIN + HEIGHT, left : left + WIDTH] = picture
    path = folder / SHEET
    if not cv2.imwrite(str(path), canvas[..., ::-1]):
        raise OSError(f'{path} cannot be written')
    return path


def _picture(data: LabelledSamples, i: int) -> np.ndarray:
    """Return a frame of a split with its things, (HEIGHT, WIDTH, 3) uint8."""
    image = cv2.resize(data.view(i).rgb, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    facts = [fact for fact in data.facts if fact.frame == data.numbers[i] and fact.part != 'background']
    objects = cv2.resize(data.objects(i), (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)
    colours = overlay_colours(max((fact.number for fact in facts), default=0) + 1)
    for fact in facts:
        colour, where = colours[fact.number], objects == fact.number
        image[where] = (1 - ALPHA) * image[where] + ALPHA * np.array(colour)
    for fact in facts:
        _draw_box(image, fact, colours[fact.number])
    return image


def _draw_box(image: np.ndarray, fact: ObjectFact, colour: tuple[int, int, int]) -> None:
    corner = round(fact.left * WIDTH), round(fact.top * HEIGHT)
    unsure = fact.part == 'unsure'
    cv2.rectangle(image, corner, (round(fact.right * WIDTH), round(fact.bottom * HEIGHT)), colour, 1 if unsure else 2)
    if unsure and fact.confidence < NAMED:
        return
    words = fact.name + '?' if unsure else f'{fact.colour} {fact.name}'.strip()
    text = f'{words} {fact.confidence:.0%}'
    place = corner[0] + 2, max(corner[1] + 12, 12)
    cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.38, (255, 255, 255), 1, cv2.LINE_AA)
