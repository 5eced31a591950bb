"""Label sets and text, without a simulator."""

import subprocess
import sys

from m3et_ros.data.kitchen.labels import corpus, kitchen_labels
from m3et_ros.data.kitchen.questions.frame_wordings import ANSWERS

WITHOUT_MUJOCO = """
import sys
sys.modules['mujoco'] = None
from m3et_ros.data.kitchen import kitchen_labels, corpus
print(len(kitchen_labels().classes), len(corpus()))
"""


def test_labels_and_texts_do_not_load_mujoco():
    done = subprocess.run([sys.executable, '-c', WITHOUT_MUJOCO], capture_output=True, text=True, check=True)
    assert done.stdout == f'{len(kitchen_labels().classes)} {len(corpus())}\n'


def test_answers_are_distinct_and_short():
    assert len(set(ANSWERS)) == len(ANSWERS)
    assert max(len(answer.split()) for answer in ANSWERS) <= 4


def test_ids_go_with_names():
    labels = kitchen_labels()
    assert dict(zip(labels.nouns, labels.noun_ids))['board:chopping'] == 18
    assert dict(zip(labels.verbs, labels.verb_ids))['turn-on'] == 6


def test_corpus_has_every_word_of_narrations_and_questions(worlds):
    words = set(' '.join(corpus()).split())
    narrated = {word for world in worlds for label in world.labels for word in label.narration.split()}
    assert narrated <= words
    assert {'within', "arm's", 'loaf', 'nearest'} <= words
