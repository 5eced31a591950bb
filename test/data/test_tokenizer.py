"""Word pieces."""

import subprocess
import sys

import pytest
import torch
from transformers import BertTokenizerFast

from m3et_ros.data import tokenizer as module
from m3et_ros.data.errors import InputError
from m3et_ros.data.tokenizer import SPECIAL, Tokenizer

CORPUS = [
    'What is on the table?',
    'The red cup is on the table.',
    'Put the blue cup into the drawer!',
    'Where is the knife?',
    'Take the knife from the drawer.',
]


@pytest.fixture(scope='module')
def tokenizer():
    return Tokenizer.train(CORPUS, vocabulary=120)


def test_special_tokens_come_first(tokenizer):
    assert (tokenizer.pad, tokenizer.unk, tokenizer.cls, tokenizer.sep, tokenizer.mask) == (0, 1, 2, 3, 4)
    assert tokenizer.vocabulary <= 120


def test_rows_are_framed_and_padded(tokenizer):
    ids, mask = tokenizer.encode(['the table', ''], 8)
    assert ids.dtype == torch.int64 and mask.dtype == torch.bool
    assert ids[0, 0] == tokenizer.cls and ids[0, mask[0]][-1] == tokenizer.sep
    assert ids[1].tolist() == [tokenizer.cls, tokenizer.sep, 0, 0, 0, 0, 0, 0]
    assert (ids[~mask] == tokenizer.pad).all() and mask[1].sum() == 2


def test_long_texts_keep_their_beginning_and_their_end_mark(tokenizer):
    full, mask = tokenizer.encode([CORPUS[1]], 32)
    cut, cut_mask = tokenizer.encode([CORPUS[1]], 5)
    assert mask.sum() > 5 and cut_mask.all()
    assert torch.equal(cut[0, :4], full[0, :4]) and cut[0, 4] == tokenizer.sep


def test_there_and_back(tokenizer):
    for text in CORPUS:
        ids, _ = tokenizer.encode([text.upper()], 40)
        again, _ = tokenizer.encode([tokenizer.decode(ids[0])], 40)
        assert torch.equal(ids, again)
    assert tokenizer.decode(tokenizer.encode(['  The RED cup '], 40)[0][0]) == 'the red cup'


def test_decoding_stops_at_the_end_mark(tokenizer):
    words = tokenizer.encode(['red', 'cup'], 10)[0]
    both = [*words[0].tolist(), *words[1].tolist()]
    assert tokenizer.decode(both) == 'red'


def test_letters_that_were_never_seen_are_unknown(tokenizer):
    assert tokenizer.unk in tokenizer.encode(['zzz'], 8)[0]


def test_training_is_the_same_in_every_process(tokenizer, tmp_path):
    """The library's own trainer is not: its ties fall as strings hash."""
    code = (
        'import sys; from m3et_ros.data.tokenizer import Tokenizer; '
        f'Tokenizer.train({CORPUS!r}, vocabulary=120).save(sys.argv[1])'
    )
    tokenizer.save(tmp_path / 'here.json')
    subprocess.run([sys.executable, '-c', code, str(tmp_path / 'there.json')], check=True)
    assert (tmp_path / 'there.json').read_bytes() == (tmp_path / 'here.json').read_bytes()


def test_common_pairs_are_merged_first():
    tokenizer = Tokenizer.train(['aab aab aab cd'], vocabulary=len(SPECIAL) + 6)
    # Letters a ##a ##b c ##d, and one merge: (a, ##a) and (##a, ##b) are equally common, the first in order wins.
    assert tokenizer.encode(['aab'], 8)[1].sum() == 4
    assert tokenizer.encode(['cd'], 8)[1].sum() == 4
    assert Tokenizer.train(['aab aab aab cd']).encode(['aab'], 8)[1].sum() == 3


def test_a_saved_tokenizer_is_the_same(tokenizer, tmp_path):
    tokenizer.save(tmp_path / 'tokenizer.json')
    again = Tokenizer.load(tmp_path / 'tokenizer.json')
    assert torch.equal(again.encode(CORPUS, 16)[0], tokenizer.encode(CORPUS, 16)[0])


def test_a_bert_vocabulary_gives_what_transformers_gives(tmp_path):
    pieces = ['[PAD]', '[unused0]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'what', 'is', 'on', 'the', 'tab', '##le', '?']
    (tmp_path / 'vocab.txt').write_text('\n'.join(pieces) + '\n')
    ours = Tokenizer.load(tmp_path / 'vocab.txt')
    assert (ours.pad, ours.unk, ours.cls, ours.sep, ours.mask) == (0, 2, 3, 4, 5)
    theirs = BertTokenizerFast(vocab={piece: i for i, piece in enumerate(pieces)})
    text = 'What is on  the TABLE? Café'
    assert ours.encode([text], 20)[0][0].tolist() == theirs(text, padding='max_length', max_length=20)['input_ids']


@pytest.mark.parametrize(
    'name, text, word',
    [('tokenizer.json', '{"version"', 'is not a tokenizer'), ('vocab.txt', 'a\nb\n', 'no \\[PAD\\]')],
)
def test_files_that_are_no_tokenizer_are_refused(tmp_path, name, text, word):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=word) as refused:
        Tokenizer.load(tmp_path / name)
    assert refused.value.reason == 'tokenizer'


def test_a_missing_or_huge_file_is_refused(tmp_path):
    with pytest.raises(InputError, match='There is no tokenizer'):
        Tokenizer.load(tmp_path / 'vocab.txt')
    with (tmp_path / 'vocab.txt').open('wb') as file:
        file.truncate(17 * 2**20)
    with pytest.raises(InputError, match='are read'):
        Tokenizer.load(tmp_path / 'vocab.txt')


def test_sizes_without_room_are_refused(tokenizer):
    with pytest.raises(ValueError, match='length is 2'):
        tokenizer.encode(['a'], 2)
    with pytest.raises(ValueError, match='vocabulary is 5'):
        Tokenizer.train(CORPUS, vocabulary=5)


def test_a_file_of_the_largest_size_is_read_and_a_byte_more_is_not(tokenizer, tmp_path, monkeypatch):
    path = tmp_path / 'tokenizer.json'
    tokenizer.save(path)
    monkeypatch.setattr(module, 'MAX_FILE_BYTES', path.stat().st_size)
    assert Tokenizer.load(path).vocabulary == tokenizer.vocabulary
    monkeypatch.setattr(module, 'MAX_FILE_BYTES', path.stat().st_size - 1)
    with pytest.raises(InputError, match='are read'):
        Tokenizer.load(path)


def test_the_shortest_row_holds_one_piece(tokenizer):
    ids, mask = tokenizer.encode(['red cup'], 3)
    assert ids[0].tolist()[::2] == [tokenizer.cls, tokenizer.sep] and mask.all()


def test_spans_are_those_of_the_pieces(tokenizer):
    assert [('The table'[a:b]) for a, b in tokenizer.spans('The table')] == ['The', 'table']
