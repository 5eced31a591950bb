"""Byte-level BPE, the tokenizer of GPT-2, CodeGen, Phi and GPT-NeoX, on the `tokenizers` library.

A folder as released holds tokenizer.json, or vocab.json and merges.txt with added_tokens.json; nothing is downloaded.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from m3et_ros.data.errors import InputError
from m3et_ros.data.files import parse_json, read_regular

WHOLE, VOCABULARY, MERGES, ADDED, SETTINGS = (
    'tokenizer.json',
    'vocab.json',
    'merges.txt',
    'added_tokens.json',
    'tokenizer_config.json',
)
MAX_FILE_BYTES = 32 * 2**20
"""Largest file that is read; that of GPT-NeoX has 2 MB, of Qwen 11 MB."""
MAX_ADDED = 10_000
HALF = '�'
"""The character that a decoder puts in place of bytes that are no whole character."""
FIX = 'copy or download the model again'


class BytePairs:
    """Byte-level BPE: every text has ids, none is unknown.

    Attributes:
        vocabulary: number of ids, those between two tokens included.
        end: id of the token that ends a text; None where the folder names none.
    """

    def __init__(self, inner: tokenizers.Tokenizer, *, end: str = ''):
        """Wrap a tokenizer of the library.

        Args:
            inner: the tokenizer.
            end: the token that ends a text; '' = none.

        Raises:
            InputError: tokenizer, it has no token `end`.
        """
        inner.no_padding()
        inner.no_truncation()
        self._inner = inner
        self.vocabulary = max(inner.get_vocab().values(), default=-1) + 1
        self.end = inner.token_to_id(end) if end else None
        if end and self.end is None:
            raise InputError('tokenizer', f'The tokenizer has no token {end[:40]!r}, which its settings name; {FIX}.')

    @classmethod
    def load(cls, folder: str | Path) -> 'BytePairs':
        """Read the tokenizer of a folder.

        Raises:
            InputError: tokenizer: a file is missing, no regular file, larger than 32 MiB, damaged, or another kind of
                tokenizer.
        """
        folder = Path(folder)
        settings = _json(folder / SETTINGS) if (folder / SETTINGS).is_file() else {}
        try:
            inner = _whole(folder) if (folder / WHOLE).is_file() else _parts(folder, settings)
        except InputError:
            raise
        except Exception as error:  # the library raises bare Exception
            raise InputError('tokenizer', f'The tokenizer of {folder} is damaged ({error}); {FIX}.') from error
        return cls(inner, end=_text(settings.get('eos_token')))

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without a token before or after it; special tokens in the text keep their ids."""
        return self._inner.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids without special tokens, up to its last whole character."""
        return self._inner.decode(list(ids), skip_special_tokens=True).rstrip(HALF)


def _whole(folder: Path) -> tokenizers.Tokenizer:
    inner = tokenizers.Tokenizer.from_str(_read(folder / WHOLE).decode())
    if not isinstance(inner.model, models.BPE):
        raise InputError(
            'tokenizer',
            f'{folder / WHOLE} is a {type(inner.model).__name__} tokenizer; give a model with byte-level BPE.',
        )
    return inner


def _parts(folder: Path, settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
    """Build the tokenizer of vocab.json, merges.txt and the tokens that were added to it."""
    vocabulary = _json(folder / VOCABULARY)
    lines = _read(folder / MERGES).decode().splitlines()
    merges: list[tuple[str, str]] = []
    for line in lines:
        if line and not line.startswith('#version'):
            first, second = line.split(' ')
            merges.append((first, second))
    inner = tokenizers.Tokenizer(models.BPE(vocabulary, merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=bool(settings.get('add_prefix_space')))
    inner.decoder = decoders.ByteLevel()
    added = _json(folder / ADDED) if (folder / ADDED).is_file() else {}
    if len(added) > MAX_ADDED:
        raise InputError('tokenizer', f'{folder / ADDED} holds {len(added)} tokens; give at most {MAX_ADDED}.')
    inner.add_tokens([AddedToken(token, normalized=False) for token in sorted(added, key=added.__getitem__)])
    wrong = [token for token, index in added.items() if inner.token_to_id(token) != index]
    if wrong:
        raise InputError(
            'tokenizer', f'{folder / ADDED} gives {wrong[0][:40]!r} the id {added[wrong[0]]}, which another has; {FIX}.'
        )
    special = {_text(settings.get(f'{name}_token')) for name in ('bos', 'eos', 'unk', 'pad')} - {''}
    inner.add_special_tokens([token for token in sorted(special) if inner.token_to_id(token) is not None])
    return inner


def _read(path: Path) -> bytes:
    try:
        return read_regular(path, FIX, most=MAX_FILE_BYTES)
    except InputError as error:
        raise InputError('tokenizer', str(error)) from error
    except OSError as error:
        raise InputError(
            'tokenizer', f'There is no {path}; give a folder with {WHOLE}, or with {VOCABULARY} and {MERGES}.'
        ) from error


def _json(path: Path) -> dict[str, Any]:
    try:
        value = parse_json(_read(path))
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError('tokenizer', f'{path} is not JSON ({error}); {FIX}.') from error
    if not isinstance(value, dict):
        raise InputError('tokenizer', f'{path} holds no JSON object; {FIX}.')
    return value


def _text(token: Any) -> str:
    """Return the text of a token, which settings hold as text or as an object with its content; '' for none."""
    if isinstance(token, Mapping):
        token = token.get('content')
    return token if isinstance(token, str) else ''
