"""Places of the things that questions ask for: their pixels, and where they are in space.

The segmentation says how probable the class of a thing is at every pixel; where the model points by its attention
(models/m3et/readout.py), that weighs in. A small thing is looked at once more in an enlarged part of the picture.
Colours then cut it out of what is around it, and its depth gives the place in space.

In kitchens that the model has not seen each of these steps makes the point hit the thing more often (docs/space.md).
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from m3et_ros.data.frame import Frame
from m3et_ros.data.questions.reader import AT, Reading
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.results import Place, Reply
from m3et_ros.runtime.space import PixelRegion, instances, solid
from m3et_ros.runtime.view import View

ABOUT = ('location', 'region', 'distance')
"""Kinds of question that ask for the place of the noun in their field a."""

NAMING = ('closer', 'nearest', 'thing_at', 'what_at', 'held', 'now_noun')
"""Kinds of question whose answer names a thing."""

LEAST = 0.15
"""Least probability of the class at a pixel for a place to be given."""

SIDE = 640
"""Pixels along the longer side of the picture in which a thing is cut out."""

ZOOM = 2
"""Enlargement of the part of the picture that is looked at once more."""

SMALL = 0.25
"""Largest share of the width and height of the picture of a thing that is looked at once more and cut out."""

NARROWEST = 0.05
"""Least deviation of the pointing, as a share of the picture."""

EDGE, CORE, OUTSIDE = 0.3, 0.5, 0.15
"""Shares of the largest probability: that bounds a thing, above which pixels are of it unless their colours deny it,
and below which they are not."""

MARGIN = 12
"""Pixels around a thing that show what is beside it."""

DARK, BRIGHT = (0, 0, 0), (255, 255, 255)

LEAST_MEASURED = 0.2
"""Share of the pixels of a thing with measured depth, from which the filled ones are not needed."""


def nouns_asked_for(reading: Reading, reply: Reply, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the classes whose places a question asks for; none for most questions.

    Args:
        reading: the question as it was understood.
        reply: its answer.
        classes: the classes that the model segments.
    """
    if reading.kind in ABOUT:
        named = [reading.values.get('a', '')]
    elif reading.kind in NAMING:
        named = [reply.text]
    elif reading.kind == AT:
        named = [other.label for other in reply.alternatives if other.label != reply.text]
    else:
        return ()
    found = (_class_in(name, classes) for name in named)
    return tuple(dict.fromkeys(noun for noun in found if noun))


def _class_in(name: str, classes: tuple[str, ...]) -> str:
    """Return the class that a name with or without a colour ends in: 'cup' of 'red cup'; '' for none."""
    fitting = [one for one in classes if name == one or name.endswith(f' {one}')]
    return max(fitting, key=len, default='')


@dataclass(frozen=True)
class Locator:
    """Finds things in a view."""

    engine: Engine
    # Way of filling holes in the depth, one of data.depth_fill.FILLS.
    fill: str = 'auto'
    # Look at small things once more; each costs the encoding of another image.
    closely: bool = True

    def places(self, reading: Reading, reply: Reply, view: View) -> tuple[Place, ...]:
        """Return the places that a question about a frame just encoded asks for, the surest first."""
        if 'semseg' not in self.engine.config.tasks:
            return ()
        nouns = nouns_asked_for(reading, reply, self.engine.labels.classes)
        finder = replace(self, closely=self.closely and len(nouns) == 1)
        found = [finder.place(noun, view, nearest=reading.kind == 'nearest') for noun in nouns]
        return tuple(sorted((one for one in found if one is not None), key=lambda one: -one.confidence))

    def place(self, noun: str, view: View, *, nearest: bool = False) -> Place | None:
        """Return the place of a thing; None where the model sees none.

        Args:
            noun: one of the classes.
            view: a frame just encoded.
            nearest: of several things of the class take the nearest, not the surest.
        """
        label = self.engine.labels.classes.index(noun)
        shape = view.frame.rgb.shape[:2]
        size = tuple(max(1, round(side * min(1.0, SIDE / max(shape)))) for side in shape)
        rgb = cv2.resize(view.frame.rgb, size[::-1], interpolation=cv2.INTER_AREA)
        heat = self._heat(view, label, size) * self._pointing(noun, view, size)
        if nearest:
            heat = heat * self._nearest(label, view, size)
        if self.closely and heat.max() > 0 and _is_small(heat):
            heat = self._closer(heat, label, view.frame)
        confidence = float(heat.max())
        if not confidence >= LEAST:
            return None
        thing = cut_out(rgb, heat, label)
        scale = shape[1] / size[1], shape[0] / size[0]
        u, v = thing.inner()
        left, top, width, height = thing.box
        box = _whole((left * scale[0], top * scale[1], width * scale[0], height * scale[1]))
        full = PixelRegion(label, box, _spread(thing.u, scale[0], shape[1]), _spread(thing.v, scale[1], shape[0]))
        pixel = float((u + 0.5) * scale[0] - 0.5), float((v + 0.5) * scale[1] - 0.5)
        return self._in_space(Place(noun, confidence, pixel, box), full, view)

    def _heat(self, view: View, label: int, size: tuple[int, ...]) -> np.ndarray:
        """Return the probability of a class at every pixel, (h, w) float32; smooth, as the mask is."""
        side = self.engine.config.image_size
        scores = self.engine.class_logits(view)[0].permute(1, 2, 0).numpy()
        scores = cv2.resize(np.ascontiguousarray(scores), (side, side), interpolation=cv2.INTER_LINEAR)
        odds = np.exp(scores - scores.max(2, keepdims=True))
        return cv2.resize(odds[..., label] / odds.sum(2), size[::-1], interpolation=cv2.INTER_LINEAR)

    def _pointing(self, noun: str, view: View, size: tuple[int, ...]) -> np.ndarray:
        """Return the weights (h, w) float32 in 0..1 of where the words attend; ones for a model that does not point."""
        pointed = self.engine.pointing(f'Where is the {noun}?', view)
        if pointed is None:
            return np.ones(size, np.float32)
        x, y, wide, high = pointed[:4]
        across = ((np.arange(size[1]) + 0.5) / size[1] - x) / max(wide, NARROWEST)
        down = ((np.arange(size[0]) + 0.5) / size[0] - y) / max(high, NARROWEST)
        return np.exp(-0.5 * (across**2 + down[:, None] ** 2)).astype(np.float32)

    def _nearest(self, label: int, view: View, size: tuple[int, ...]) -> np.ndarray:
        """Return ones (h, w) in the box of the nearest instance of a class, else zeros; ones where none is known."""
        depth, mask = view.frame.depth, self.engine.reconstruct(view, depth=False).mask
        assert mask is not None
        near = [one for one in instances(mask, depth) if one.label == label]
        if depth is None or not near:
            return np.ones(size, np.float32)
        best = min(near, key=lambda one: np.nan_to_num(np.nanmedian(depth[one.v, one.u]), nan=np.inf))
        left, top, width, height = best.box
        chosen = np.zeros(depth.shape, np.float32)
        chosen[top : top + height, left : left + width] = 1
        return cv2.resize(chosen, size[::-1], interpolation=cv2.INTER_NEAREST)

    def _closer(self, heat: np.ndarray, label: int, frame: Frame) -> np.ndarray:
        """Return the probabilities (h, w) of a thing after another look at the part of the picture around its peak."""
        peak = np.unravel_index(heat.argmax(), heat.shape)
        part, pixels = [], []
        for at, whole, most in zip(peak, heat.shape, frame.rgb.shape[:2], strict=True):
            side = max(1, whole // ZOOM)
            first = int(np.clip(at - side // 2, 0, whole - side))
            part.append(slice(first, first + side))
            begin = first * most // whole
            pixels.append(slice(begin, max((first + side) * most // whole, begin + 1)))
        rows, columns = pixels
        depth = None if frame.depth is None else np.ascontiguousarray(frame.depth[rows, columns])
        view = self.engine.encode(Frame(np.ascontiguousarray(frame.rgb[rows, columns]), depth))
        before = heat[part[0], part[1]]
        seen = np.zeros_like(heat)
        seen[part[0], part[1]] = (before + self._heat(view, label, before.shape)) / 2
        return seen

    def _in_space(self, place: Place, thing: PixelRegion, view: View) -> Place:
        """Return a place with its metres where the frame has depth, and with its point where it has intrinsics."""
        measured, K = view.frame.depth, view.frame.K
        if measured is None:
            return place
        depth, known = measured, np.isfinite(measured[thing.v, thing.u])
        if known.mean() < LEAST_MEASURED:
            filled = self.engine.reconstruct(view, mask=False, fill=self.fill).depth
            assert filled is not None
            depth = filled
        if not np.isfinite(depth[thing.v, thing.u]).any():
            return place
        if K is None:
            z = depth[thing.v, thing.u]
            return replace(place, distance_m=float(np.nanmedian(z)), measured=float(known[np.isfinite(z)].mean()))
        box = solid(thing, depth, K, measured)
        assert box is not None
        distance = float(np.linalg.norm(box.position))
        return replace(place, position_m=box.position, size_m=box.size, distance_m=distance, measured=box.measured)


def _is_small(heat: np.ndarray) -> bool:
    _, _, width, height = _around_peak(heat)
    return max(width / heat.shape[1], height / heat.shape[0]) <= SMALL


def _around_peak(heat: np.ndarray) -> tuple[int, int, int, int]:
    """Return left, top, width and height of the probable pixels that are connected to the most probable one."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats((heat >= EDGE * heat.max()).astype(np.uint8), connectivity=4)
    left, top, width, height = stats[parts.flat[heat.argmax()], :4].tolist()
    return left, top, width, height


def cut_out(rgb: np.ndarray, heat: np.ndarray, label: int) -> PixelRegion:
    """Cut a thing out of what is around it by its colours (GrabCut of OpenCV).

    Args:
        rgb: colours (h, w, 3) uint8.
        heat: probability of its class at every pixel, (h, w) float32 with a maximum above 0.
        label: class id.

    Returns:
        Its pixels; the most probable ones where it is large, and where its colours are those around it.
    """
    left, top, width, height = _around_peak(heat)
    rows = slice(max(0, top - MARGIN), min(heat.shape[0], top + height + MARGIN))
    columns = slice(max(0, left - MARGIN), min(heat.shape[1], left + width + MARGIN))
    share = heat[rows, columns] / heat.max()
    sort = np.full(share.shape, cv2.GC_PR_BGD, np.uint8)
    sort[share >= CORE] = cv2.GC_PR_FGD
    sort[share < OUTSIDE] = cv2.GC_BGD
    probable = share >= CORE
    if (sort == cv2.GC_BGD).any() and _is_small(heat):
        cv2.setRNGSeed(0)  # GrabCut draws its first clusters, and the same picture has the same answer
        around, behind, thing = np.ascontiguousarray(rgb[rows, columns]), np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(around, sort, (0, 0, 1, 1), behind, thing, 3, cv2.GC_INIT_WITH_MASK)
        cut = (sort == cv2.GC_PR_FGD) | (sort == cv2.GC_FGD)
        probable = cut if cut.any() else probable
    count, parts, stats, _ = cv2.connectedComponentsWithStats(probable.astype(np.uint8), connectivity=4)
    best = max(range(1, count), key=lambda part: float(share[parts == part].sum()))
    v, u = np.nonzero(parts == best)
    x, y, wide, high = stats[best, :4].tolist()
    return PixelRegion(label, (x + columns.start, y + rows.start, wide, high), u + columns.start, v + rows.start)


def draw_places(rgb: np.ndarray, places: tuple[Place, ...]) -> np.ndarray:
    """Return an image (H, W, 3) uint8 with a ring around each place, and its name and distance."""
    drawn = rgb.copy()
    scale = max(0.35, rgb.shape[1] / 900)
    for place in places:
        at = round(place.pixel[0]), round(place.pixel[1])
        radius = round(max(6.0, 0.6 * max(place.box[2:])))
        words = place.label if place.distance_m is None else f'{place.label} {place.distance_m:.2f} m'
        (width, height), _ = cv2.getTextSize(words, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
        left = int(np.clip(at[0] - width // 2, 0, max(0, rgb.shape[1] - width)))
        # Above the ring, or below it where there is no room.
        base = at[1] - radius - 4 if at[1] - radius - 4 > height else at[1] + radius + height + 4
        # Dark around bright, so that both are seen on any background; letters are wider where they are thicker.
        cv2.circle(drawn, at, radius, DARK, 3, cv2.LINE_AA)
        cv2.circle(drawn, at, radius, BRIGHT, 1, cv2.LINE_AA)
        for right, down, color in ((-1, 0, DARK), (1, 0, DARK), (0, -1, DARK), (0, 1, DARK), (0, 0, BRIGHT)):
            start = left + right, base + down
            cv2.putText(drawn, words, start, cv2.FONT_HERSHEY_SIMPLEX, scale, color, 1, cv2.LINE_AA)
    return drawn


def _spread(at: np.ndarray, scale: float, most: int) -> np.ndarray:
    """Return columns or rows in the image of the camera, int64."""
    return np.clip(np.rint((at + 0.5) * scale - 0.5), 0, most - 1).astype(np.int64)


def _whole(box: tuple[float, ...]) -> tuple[int, int, int, int]:
    left, top, width, height = (round(side) for side in box)
    return left, top, max(1, width), max(1, height)
