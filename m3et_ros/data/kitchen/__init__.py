"""A seeded simulated kitchen seen from the head of the person who works in it.

Running an episode needs MuJoCo (`pip install m3et_ros[sim]`); importing this package does not.

    with Camera(episode := Episode(7)) as camera:
        for state in episode.run(300):
            observation = camera.observe(state)
"""

from m3et_ros.data.kitchen.backends import choose_backend
from m3et_ros.data.kitchen.camera import Camera, Observation
from m3et_ros.data.kitchen.episode import Episode
from m3et_ros.data.kitchen.labels import corpus, kitchen_labels
from m3et_ros.data.kitchen.questions import Question, all_questions, sample_questions
from m3et_ros.data.kitchen.state import ActionLabel, State
from m3et_ros.data.kitchen.templates import ANSWERS
from m3et_ros.data.kitchen.vocabulary import CLASSES, NOUNS, VERBS

__all__ = ['ANSWERS', 'ActionLabel', 'CLASSES', 'Camera', 'Episode', 'NOUNS', 'Observation', 'Question', 'State',
           'VERBS', 'all_questions', 'choose_backend', 'corpus', 'kitchen_labels', 'sample_questions']
