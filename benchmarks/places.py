"""Measure the places of things in simulated kitchens against the truth: hits of `where`, and errors in space.

    python benchmarks/places.py                   # writes benchmarks/results/places.json; about 12 minutes on one core
    python benchmarks/places.py --picture docs/space.jpg --first 21000

"Where is the cup?" is asked about every object that is the only one of its kind in view, in kitchens of the test split
that the model has not seen, as a person asks a robot. A hit is a point on the thing itself, by the exact mask. Errors
in space are those of places within two metres: to the middle of what is visible of the thing, and to the middle of the
whole thing, which no camera sees. Boxes are those of ~/detections_3d. Intervals are over kitchens.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from runs import RESULTS, write
from std_msgs.msg import Header

from m3et_ros.cli.progress import track
from m3et_ros.data.checkpoints import DEFAULT_MODEL
from m3et_ros.data.frame import Frame
from m3et_ros.data.kitchen.cache.generate import view_of
from m3et_ros.data.kitchen.questions.frame import VisibleInstance, VisibleScene
from m3et_ros.data.kitchen.sim.camera import Camera, Observation
from m3et_ros.data.kitchen.sim.episode import Episode
from m3et_ros.data.kitchen.sim.vocabulary import OBJECTS, spoken
from m3et_ros.data.preprocess import overlay
from m3et_ros.evaluation.metrics.intervals import bootstrap_mean
from m3et_ros.ros.space_outputs import SURE, SpaceFrame, things_of
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.open_model import open_checkpoint
from m3et_ros.runtime.places import Locator, draw_places
from m3et_ros.runtime.results import Place
from m3et_ros.runtime.session import Session
from m3et_ros.runtime.space import PixelRegion, points_of, solid

NEAR_M = 2.0
SIDE = 480
"""A camera has about 1.3 times as many pixels as a square image of this side."""
TICKS = (40, 120, 200, 280)
"""Ticks of each episode that are looked at, 10 a second: the person looks round, walks, and begins to work."""


class Truth:
    """The things of one frame as the simulation knows them, in the optical frame of the camera."""

    def __init__(self, episode: Episode, seen: Observation):
        self.seen, self.names = seen, list(episode.instances)
        self._model, self._data = episode.model, episode.data
        self._inverse = np.linalg.inv(seen.pose)

    def pixels(self, name: str) -> np.ndarray:
        """Return the pixels of a thing, (H, W) bool."""
        return self.seen.instance == 1 + self.names.index(name)

    def visible(self, name: str) -> np.ndarray:
        """Return the middle (3,) of what is visible of a thing."""
        v, u = np.nonzero(self.pixels(name) & np.isfinite(self.seen.depth))
        box = solid(PixelRegion(0, (0, 0, 1, 1), u, v), self.seen.depth, self.seen.K)
        return np.array(box.position)

    def whole(self, name: str) -> np.ndarray:
        """Return the middle (3,) of the box around all of a thing."""
        model, data, body = self._model, self._data, self._model.body(name).id
        corners = []
        for geom in range(model.ngeom):
            if model.geom_bodyid[geom] == body and model.geom_rgba[geom, 3]:
                signs = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), -1).reshape(-1, 3)
                local = model.geom_aabb[geom, :3] + signs * model.geom_aabb[geom, 3:]
                corners.append(local @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom])
        points = np.concatenate(corners) @ self._inverse[:3, :3].T + self._inverse[:3, 3]
        return (points.min(0) + points.max(0)) / 2


def views(seeds: range) -> Iterator[tuple[int, Truth, VisibleScene]]:
    """Yield (seed, truth, scene) of the frames of every kitchen; each is true until the next is asked for."""
    for seed in track(seeds, len(seeds), 'kitchens'):
        episode = Episode(seed, **view_of(seed, SIDE))
        with Camera(episode) as camera:
            for tick, state in enumerate(episode.run(max(TICKS) + 1)):
                if tick in TICKS:
                    seen = camera.observe(state)
                    yield seed, Truth(episode, seen), VisibleScene(episode, seen)


def asked(session: Session, seed: int, truth: Truth, scene: VisibleScene) -> Iterator[dict[str, Any]]:
    """Yield the score of the question for each single object of a frame."""
    seen = truth.seen
    view = session.observe(Frame(seen.rgb, seen.depth, round(1e9 * seen.stamp_s), K=seen.K))
    for one in scene.single_objects:
        start = time.perf_counter()
        reply = session.ask(f'Where is the {spoken(one.noun)}?', [view], scope='frame', top_k=1)
        row = {'seed': seed, 'share': one.share, 'took_s': time.perf_counter() - start, 'given': bool(reply.places)}
        yield row | (scored(reply.places[0], one, truth) if reply.places else {'hit': False})


def scored(place: Place, one: VisibleInstance, truth: Truth) -> dict[str, Any]:
    """Return whether a place is on its thing, and its errors in metres."""
    u, v = (round(at) for at in place.pixel)
    found = {'hit': bool(truth.pixels(one.name)[v, u]), 'distance': one.distance}
    if place.position_m is not None:
        found['visible'] = float(np.linalg.norm(place.position_m - truth.visible(one.name)))
        found['whole'] = float(np.linalg.norm(place.position_m - truth.whole(one.name)))
    return found


def boxes(engine: Engine, session: Session, truth: Truth, scene: VisibleScene) -> Iterator[dict[str, Any]]:
    """Yield each box of an object's class in a frame: whether it is one of that class, and its error."""
    view, seen = session.newest, truth.seen
    assert view is not None
    result, certainty = engine.reconstruct(view), engine.class_logits(view)[0].softmax(0).amax(0).numpy()
    objects = {spoken(noun) for noun in OBJECTS}
    for thing in things_of(SpaceFrame(view.frame, Header(), result.depth, result.mask, certainty), engine.labels):
        if thing.name not in objects or np.linalg.norm(thing.box.position) > NEAR_M:
            continue
        ids = np.bincount(seen.instance[thing.instance.v, thing.instance.u], minlength=len(truth.names) + 1)
        name = truth.names[int(ids[1:].argmax())]
        right = spoken(scene.episode.instances[name].noun) == thing.name
        error = float(np.linalg.norm(thing.box.position - truth.visible(name))) if right else None
        yield {'right': right, 'error': error, 'sure': thing.score >= SURE}


def box_summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the share of boxes of the right class, and the errors of those."""
    errors = [row['error'] for row in rows if row['right']]
    right = len(errors) / len(rows)
    return {'boxes': len(rows), 'of_the_right_class': right, 'error_to_visible_middle_m': quantiles(errors)}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return hit rates with intervals over kitchens, and errors of the places within NEAR_M."""
    given = [row for row in rows if row['given']]
    near = [row for row in given if 'visible' in row and row['distance'] < NEAR_M]
    return {
        'asked': len(rows),
        'share_with_a_place': len(given) / len(rows),
        'hits_of_places': interval(given),
        'hits_of_all_asked': interval(rows),
        'within_2_m': {
            'places': len(near),
            'error_to_visible_middle_m': quantiles([row['visible'] for row in near]),
            'error_to_whole_middle_m': quantiles([row['whole'] for row in near]),
            'error_to_visible_middle_of_hits_m': quantiles([row['visible'] for row in near if row['hit']]),
        },
        'seconds_per_question': float(np.median([row['took_s'] for row in rows])),
    }


def interval(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a hit rate with its 95 % interval."""
    found = bootstrap_mean([row['hit'] for row in rows], [row['seed'] for row in rows])
    return {'value': found.value, 'low': found.low, 'high': found.high, 'kitchens': found.clusters}


def quantiles(values: list[float]) -> dict[str, float]:
    """Return the median and the quartiles."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return {'p25': low, 'p50': middle, 'p75': high}


def draw(engine: Engine, seed: int, path: Path) -> None:
    """Write a picture of one frame: the overlay with the places of answers, and cloud and boxes from above."""
    from matplotlib import pyplot as plt

    truth, scene = next((truth, scene) for _, truth, scene in views(range(seed, seed + 1)))
    seen, session = truth.seen, Session(engine)
    session.locator, session.domain_every = Locator(engine), 0
    view = session.observe(Frame(seen.rgb, seen.depth, K=seen.K))
    result, labels = engine.reconstruct(view), engine.labels
    colors = np.zeros((256, 3), np.uint8)
    colors[: len(labels.colors)] = labels.colors
    places = [
        place
        for one in scene.single_objects
        for place in session.ask(f'Where is the {spoken(one.noun)}?', [view], scope='frame', top_k=1).places
    ]
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.8), width_ratios=(1.25, 1))
    left.imshow(draw_places(overlay(seen.rgb, result.mask, colors, 0.35), tuple(places)))
    left.set_axis_off()
    points = points_of(result.depth, seen.K)[::3, ::3].reshape(-1, 3)
    right.scatter(points[:, 0], points[:, 2], s=0.4, c=seen.rgb[::3, ::3].reshape(-1, 3) / 255)
    for place in places:
        if place.position_m is not None:
            x, _, z = place.position_m
            wide, _, deep = place.size_m
            right.add_patch(plt.Rectangle((x - wide / 2, z - deep / 2), wide, deep, fill=False, color='crimson'))
            right.annotate(place.label, (x, z), (4, 4), textcoords='offset points', fontsize=8, color='crimson')
    right.set(xlabel='x, m (right of the camera)', ylabel='z, m (ahead of it)', ylim=(0, 3), xlim=(-1.8, 1.8))
    figure.tight_layout()
    figure.savefig(path, dpi=80, pil_kwargs={'quality': 85})


def main() -> None:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--model', default=DEFAULT_MODEL)
    parser.add_argument('--first', type=int, default=21_000, help='seed of the first kitchen')
    parser.add_argument('--kitchens', type=int, default=30)
    parser.add_argument('--results', type=Path, default=RESULTS / 'places.json')
    parser.add_argument('--picture', type=Path, help='draw the first frame of the first kitchen instead')
    options = parser.parse_args()
    engine = Engine(open_checkpoint(options.model))
    if options.picture:
        draw(engine, options.first, options.picture)
        return
    session = Session(engine)
    session.domain_every = 0
    close, glance, found = [], [], []
    for seed, truth, scene in views(range(options.first, options.first + options.kitchens)):
        for rows, closely in ((close, True), (glance, False)):
            session.locator = Locator(engine, closely=closely)
            rows += asked(session, seed, truth, scene)
        found += boxes(engine, session, truth, scene)
    write(
        options.results,
        {
            'model': engine.model_id,
            'seeds': [options.first, options.first + options.kitchens],
            'ticks': TICKS,
            'where': summary(close),
            'where_at_a_glance': summary(glance),
            'boxes_of_objects_within_2_m': box_summary(found),
            'sure_boxes_of_objects_within_2_m': box_summary([row for row in found if row['sure']]),
        },
    )


if __name__ == '__main__':
    main()
