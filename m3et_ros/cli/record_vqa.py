"""`m3et record --vqa`: episodes of the simulated kitchen with questions about single frames of them.

    m3et record kitchens --vqa --seed 20000 --episodes 4 --questions 100

writes kitchens/20000 ... kitchens/20003 and kitchens/questions.json, in OpenEQA's schema with the second of each frame
as `time`. Questions have the families and the odds of those of a cache.
"""

from m3et_ros.cli.output import Refused
from m3et_ros.cli.record_eqa import Wish, record_episodes, write_asked


def record_vqa(wish: Wish, *, as_json: bool) -> None:
    """Record the episodes and write their questions; a signal ends it after the episodes that are whole.

    Raises:
        InputError: the questions cannot be written.
        Refused: as record_episodes, or nothing can be asked about what was seen.
    """
    import numpy as np

    from m3et_ros.data.kitchen.vqa import FrameNotes, draw, worded_at

    done, frames = record_episodes(wish, lambda episode: FrameNotes(episode, wish.frames))
    rng = np.random.default_rng(wish.seed)
    try:
        drawn = draw(frames, wish.questions * len(done), rng)
    except ValueError as error:
        raise Refused('nothing was seen in two ways, so that a question would give its answer away; record more '
                      f'frames, 100 or more, or more episodes. What was recorded stays in {wish.out}.') from error
    write_asked(wish, done, [question for seed, own in zip(done, drawn)
                             for question in worded_at(own, wish.bag(seed).name, rng)], as_json)
