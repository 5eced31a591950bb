"""Byte-level BPE: ids and texts of transformers' own tokenizer, both layouts, and files that are refused."""

import json

import pytest
from released_folder import END, write_tokenizer
from tokenizers import Tokenizer, models
from transformers.models.codegen.tokenization_codegen import CodeGenTokenizer

from m3et_ros.data.byte_pairs import MAX_FILE_BYTES, BytePairs
from m3et_ros.data.errors import InputError

TEXTS = ['Is the cup red?', ' on  the    table\n\tÄpfel 🍎', f'polite{END}answers', '']


@pytest.fixture
def folder(tmp_path):
    write_tokenizer(tmp_path)
    return tmp_path


def test_ids_and_texts_are_those_of_transformers(folder):
    ours, theirs = BytePairs.load(folder), CodeGenTokenizer.from_pretrained(folder)
    for text in TEXTS:
        ids = theirs(text).input_ids
        assert ours.encode(text) == ids
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
    assert ours.end == theirs.eos_token_id and ours.vocabulary == len(theirs)


def test_one_file_gives_the_same_as_its_parts(folder, tmp_path_factory):
    whole = tmp_path_factory.mktemp('whole')
    CodeGenTokenizer.from_pretrained(folder).save_pretrained(whole)
    assert (whole / 'tokenizer.json').is_file()
    ours, parts = BytePairs.load(whole), BytePairs.load(folder)
    assert [ours.encode(text) for text in TEXTS] == [parts.encode(text) for text in TEXTS]
    assert ours.end == parts.end


def test_an_unfinished_character_waits_for_its_last_byte(folder):
    ours = BytePairs.load(folder)
    ids = ours.encode('a🍎')
    assert [ours.decode(ids[:count]) for count in range(1, len(ids) + 1)] == ['a'] * (len(ids) - 1) + ['a🍎']


def test_files_that_are_no_such_tokenizer_are_refused(folder):
    def refused(words):
        with pytest.raises(InputError, match=words) as found:
            BytePairs.load(folder)
        assert found.value.reason == 'tokenizer'

    (folder / 'added_tokens.json').write_text('{"  ": 7}')
    refused("gives '  ' the id 7, which another has")
    (folder / 'added_tokens.json').write_text(json.dumps({str(index): index for index in range(10_001)}))
    refused('holds 10001 tokens; give at most 10000')
    (folder / 'added_tokens.json').write_text('{"  ": "one", "   ": 1}')
    refused('is damaged')
    (folder / 'added_tokens.json').unlink()
    (folder / 'merges.txt').write_text('not a merge\n')
    refused('is damaged')
    (folder / 'vocab.json').write_text('[]')
    refused('holds no JSON object')
    (folder / 'vocab.json').write_text('{')
    refused('is not JSON')
    (folder / 'vocab.json').write_bytes(b' ' * (MAX_FILE_BYTES + 1))
    refused('is larger than')
    (folder / 'vocab.json').unlink()
    refused('There is no .*vocab.json; give a folder with tokenizer.json')
    Tokenizer(models.WordPiece({'[UNK]': 0}, unk_token='[UNK]')).save(str(folder / 'tokenizer.json'))
    refused('is a WordPiece tokenizer')
    (folder / 'tokenizer.json').write_text('{}')
    refused('is damaged')
