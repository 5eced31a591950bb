"""A seeded simulated kitchen, observed from the head of the person who works in it.

    with Camera(episode := Episode(7)) as camera:
        for state in episode.run(300):
            observation = camera.observe(state)

MuJoCo renders the kitchen; the extra `sim` brings it. Importing this package does not load it; making an Episode does.

The package has three parts, each built on the one before: `sim` simulates and renders, `questions` asks and answers,
`cache` stores both for training. The docstring of each file gives its position on the way from a seed to a question:

    sim        vocabulary, shapes, textures, parts, room, furniture, objects, hand, scene   a kitchen as MJCF
               world, motion, actions, planner, episode                                     a person at work in it
               renderers, opengl or raycast, camera                                         an observation
    questions  frame_wordings, frame, balance, splits, recorded_frames                      questions about one frame
               observer, episode_wordings, episode, checkpoints                             questions about an episode
    cache      recipe, generate, dataset or episodes                                        samples on disk
               (questions/sentences), dialogues                                             whole sentences
"""

from m3et_ros.data.kitchen.labels import corpus, kitchen_labels
from m3et_ros.data.kitchen.questions.frame import Question, all_questions, sample_questions
from m3et_ros.data.kitchen.questions.frame_wordings import ANSWERS
from m3et_ros.data.kitchen.sim.camera import Camera, Observation
from m3et_ros.data.kitchen.sim.episode import Episode
from m3et_ros.data.kitchen.sim.renderers import choose_backend
from m3et_ros.data.kitchen.sim.vocabulary import CLASSES, NOUNS, VERBS
from m3et_ros.data.kitchen.sim.world import ActionLabel, WorldState

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
    'WorldState',
    'all_questions',
    'choose_backend',
    'corpus',
    'kitchen_labels',
    'sample_questions',
]
