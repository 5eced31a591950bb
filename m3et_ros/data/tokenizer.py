"""Word pieces for instructions, questions and answers: BERT's WordPiece on the `tokenizers` library."""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import tokenizers
import torch
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor

from m3et_ros.data.errors import InputError

SPECIAL = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]')
MAX_FILE_BYTES = 16 * 2**20
CONTINUED = '##'
"""Prefix of a piece that continues a word."""


class Tokenizer:
    """Lower-cased BERT word pieces.

    Attributes:
        pad, unk, cls, sep, mask: ids of the special tokens.
        vocabulary: number of ids.
    """

    def __init__(self, inner: tokenizers.Tokenizer):
        """Wrap a WordPiece tokenizer of the library.

        Raises:
            InputError: a special token is missing.
        """
        inner.no_padding()
        inner.no_truncation()
        vocabulary = inner.get_vocab()
        absent = [token for token in SPECIAL if token not in vocabulary]
        if absent:
            raise InputError(
                'tokenizer',
                f'The tokenizer has no {absent[0]}; give a BERT vocabulary, which has {", ".join(SPECIAL)}.',
            )
        self.pad, self.unk, self.cls, self.sep, self.mask = (vocabulary[token] for token in SPECIAL)
        self.vocabulary = max(vocabulary.values()) + 1
        self._inner = inner

    @classmethod
    def train(cls, corpus: Iterable[str], vocabulary: int = 1024) -> 'Tokenizer':
        """Learn word pieces; the same corpus always gives the same ones.

        Args:
            corpus: sentences of a small world, of a few thousand different words; for open language load BERT's own
                vocabulary.
            vocabulary: most pieces, special ones included; a small corpus may yield fewer.

        Raises:
            ValueError: vocabulary leaves no room beside the special tokens.
        """
        if vocabulary <= len(SPECIAL):
            raise ValueError(f'vocabulary is {vocabulary}; give more than the {len(SPECIAL)} special tokens')
        words: Counter[str] = Counter()
        normalise, split = _normalizer(), pre_tokenizers.BertPreTokenizer()
        for text in corpus:
            words.update(word for word, _ in split.pre_tokenize_str(normalise.normalize_str(text)))
        return cls(_assemble([*SPECIAL, *_learn(words, vocabulary - len(SPECIAL))]))

    @classmethod
    def load(cls, path: str | Path) -> 'Tokenizer':
        """Read a BERT tokenizer.json, or a vocab.txt with one piece per line.

        Raises:
            InputError: the file is missing, larger than 16 MiB, or not a tokenizer.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError('tokenizer', f'There is no tokenizer at {path}; give a tokenizer.json or a vocab.txt.')
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(
                'tokenizer',
                f'{path.name} has {path.stat().st_size} bytes and at most {MAX_FILE_BYTES} '
                'are read; give a tokenizer.json or a vocab.txt.',
            )
        try:
            text = path.read_text(encoding='utf-8')
            inner = tokenizers.Tokenizer.from_str(text) if path.suffix == '.json' else _assemble(text.splitlines())
        except Exception as error:  # the library raises bare Exception
            raise InputError(
                'tokenizer', f'{path.name} is not a tokenizer ({error}); give a BERT tokenizer.json or vocab.txt.'
            ) from error
        return cls(inner)

    def save(self, path: str | Path) -> None:
        """Write a tokenizer.json that `load` and the transformers library read."""
        self._inner.save(str(path))

    def encode(self, texts: Sequence[str], length: int) -> tuple[Tensor, Tensor]:
        """Encode texts as [CLS] pieces [SEP], padded to `length`.

        A longer text is cut to its first length - 2 pieces, so its row of the mask is True to the end.

        Args:
            texts: B sentences.
            length: tokens of each row, at least 3.

        Returns:
            ids (B, length) int64 and mask (B, length) bool, False for pads.

        Raises:
            ValueError: length is below 3.
        """
        if length < 3:
            raise ValueError(f'length is {length}; give at least 3, for [CLS], a piece and [SEP]')
        rows = [
            [self.cls, *encoded.ids[: length - 2], self.sep]
            for encoded in self._inner.encode_batch(list(texts), add_special_tokens=False)
        ]
        # One tensor for all rows: a tensor for each would take half of the time.
        padded = [row + [self.pad] * (length - len(row)) for row in rows]
        ids = torch.tensor(padded, dtype=torch.int64).view(len(rows), length)
        sizes = torch.tensor([len(row) for row in rows], dtype=torch.int64)
        return ids, torch.arange(length) < sizes[:, None]

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return the first character of every piece of a text and the one after its last, without [CLS] and [SEP]."""
        return self._inner.encode(text, add_special_tokens=False).offsets

    def pieces(self, text: str) -> list[int]:
        """Return the ids of a text without [CLS] and [SEP]."""
        return self._inner.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int] | Tensor) -> str:
        """Decode the ids of one text, up to its first [SEP], to words; special tokens are left out."""
        ids = [int(i) for i in ids]
        end = ids.index(self.sep) if self.sep in ids else len(ids)
        special = {self.pad, self.unk, self.cls, self.mask}
        return self._inner.decode([i for i in ids[:end] if i not in special])


def _normalizer() -> normalizers.Normalizer:
    return normalizers.BertNormalizer(lowercase=True)


def _assemble(pieces: Sequence[str]) -> tokenizers.Tokenizer:
    """Build BERT's pipeline around pieces whose ids are their positions."""
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    inner = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token='[UNK]'))
    inner.normalizer = _normalizer()
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece(prefix=CONTINUED)
    inner.add_special_tokens([token for token in SPECIAL if token in vocabulary])
    if {'[SEP]', '[CLS]'} <= vocabulary.keys():
        inner.post_processor = processors.BertProcessing(('[SEP]', vocabulary['[SEP]']), ('[CLS]', vocabulary['[CLS]']))
    return inner


def _learn(words: Counter[str], room: int) -> list[str]:
    """Learn word pieces by merging the commonest pair until there are `room`; ties go to the first in the alphabet.

    The library's own trainer breaks ties by hash order, which differs from process to process.
    """
    parts = {word: [word[0], *(CONTINUED + letter for letter in word[1:])] for word in words}
    known: Counter[str] = Counter()
    for word, pieces in parts.items():
        for piece in pieces:
            known[piece] += words[word]
    learnt = sorted(sorted(known), key=lambda piece: known[piece], reverse=True)[:room]
    while len(learnt) < room:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, pieces in parts.items():
            for pair in itertools.pairwise(pieces):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merged = best[0] + best[1].removeprefix(CONTINUED)
        if merged not in known:  # two different pairs can make the same piece
            known[merged] = pairs[best]
            learnt.append(merged)
        parts = {word: _merge(pieces, best, merged) for word, pieces in parts.items()}
    return learnt


def _merge(pieces: list[str], pair: tuple[str, str], merged: str) -> list[str]:
    """Replace every `pair` in a word's pieces by `merged`."""
    result, i = [], 0
    while i < len(pieces):
        together = tuple(pieces[i : i + 2]) == pair
        result.append(merged if together else pieces[i])
        i += 2 if together else 1
    return result
