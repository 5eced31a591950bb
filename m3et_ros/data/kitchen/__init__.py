"""A seeded simulated kitchen seen from the head of the person who works in it.

Running an episode needs MuJoCo; importing this package does not.

    with Camera(episode := Episode(7)) as camera:
        for state in episode.run(300):
            observation = camera.observe(state)
"""

from m3et_ros.data.kitchen.labels import corpus, kitchen_labels
from m3et_ros.data.kitchen.questions.frame import Question, all_questions, sample_questions
from m3et_ros.data.kitchen.questions.frame_wordings import ANSWERS
from m3et_ros.data.kitchen.sim.camera import Camera, Observation
from m3et_ros.data.kitchen.sim.episode import Episode
from m3et_ros.data.kitchen.sim.renderers import choose_backend
from m3et_ros.data.kitchen.sim.vocabulary import CLASSES, NOUNS, VERBS
from m3et_ros.data.kitchen.sim.world import ActionLabel, State

__all__ = [
    'ANSWERS',
    'CLASSES',
    'NOUNS',
    'VERBS',
    'ActionLabel',
    'Camera',
    'Episode',
    'Observation',
    'Question',
    'State',
    'all_questions',
    'choose_backend',
    'corpus',
    'kitchen_labels',
    'sample_questions',
]
