"""Questions as a memory reads them."""

from m3et_ros.data.class_names import QuestionEncoder
from m3et_ros.data.kitchen.labels import corpus
from m3et_ros.data.kitchen.sim.vocabulary import CLASSES
from m3et_ros.data.tokenizer import Tokenizer


def test_pieces_know_their_class_and_short_questions_are_padded():
    tokenizer = Tokenizer.train(corpus(), vocabulary=512)
    read = QuestionEncoder(tokenizer, CLASSES, 32)
    ids, mask, named = read(['Is the cup left of the chopping board?', 'What was done last?'])
    wanted, _ = tokenizer.encode(['Is the cup left of the chopping board?', 'What was done last?'], 32)
    assert (ids[mask] == wanted[:, : ids.shape[1]][mask]).all() and mask.sum(1).tolist()[0] == ids.shape[1]
    assert set(named[0].tolist()) == {-1, CLASSES.index('cup'), CLASSES.index('chopping board')}
    assert (named[1] == -1).all() and not mask[1].all() and (ids[1][~mask[1]] == 0).all()
    again = read(['What was done last?'])
    assert again[0].shape[1] == int(mask[1].sum())


def test_long_questions_keep_their_beginning():
    read = QuestionEncoder(Tokenizer.train(corpus(), vocabulary=512), CLASSES, 8)
    ids, mask, named = read(['Where is the cup ' + 'and the bowl ' * 20])
    assert ids.shape == (1, 8) and mask.all() and CLASSES.index('cup') in named[0].tolist()
