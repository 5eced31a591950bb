"""Checkpoints to and from the Hugging Face Hub: time limits, progress, and a sentence for every failure.

Nothing but safetensors, JSON and text is fetched, and nothing is fetched unless a name begins with hf:. The variables
HF_HUB_OFFLINE, HF_TOKEN, HF_HOME and HF_ENDPOINT hold as in `huggingface_hub`.
"""

import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from m3et_ros.data.checkpoints.cards import with_head
from m3et_ros.data.checkpoints.json_files import CONFIG, read_json
from m3et_ros.data.errors import InputError
from m3et_ros.data.files import refuse_unwritable

LOG = logging.getLogger(__name__)
HUB = 'hf:'
"""Prefix of a model of the Hub, so that a mistyped folder is never asked for there."""
HUB_ID = re.compile(r'[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}')
REVISION = re.compile(r'(?!.*\.\.)[\w.][\w./-]{0,199}')
DESCRIBING = ('*.json', '*.txt', '*.jinja', '*.model', 'README.md')
"""Patterns of the small files of a model: configuration, tokenizer, chat template, model card."""
FILES = ('*.safetensors', *DESCRIBING)
"""Patterns of the files that are fetched and sent."""
ENCODERS = ('dinov2', 'siglip')
"""Folders of image encoders in the folder of a checkpoint (data.checkpoints.image_encoders)."""
CARD = 'README.md'
ANSWER_S = 10.0
"""Longest wait for an answer of the Hub to a question about a model."""
SILENCE_S = 60.0
"""Longest wait for the next byte while files are sent."""
REPORT_S = 5.0
"""Seconds between two lines of the log about a download."""
KINDS = {None: 'm3et', 'talk': 'talk', 'history': 'history', 'video': 'video'}
"""Kind of a model card by `kind` in config.json, which an M3ET does not have."""


def hub_id(name: str) -> tuple[str, str | None]:
    """Return owner/name and the revision of 'hf:owner/name[@revision]'; None is the main branch.

    Raises:
        InputError: hub_name, it is no such name.
    """
    found, at, revision = name.removeprefix(HUB).partition('@')
    if not name.startswith(HUB) or not HUB_ID.fullmatch(found) or (at and not REVISION.fullmatch(revision)):
        raise InputError('hub_name', f'{name[:200]} is no model of the Hub; give {HUB}owner/name[@revision].')
    return found, revision or None


def pull(
    name: str,
    folder: Path | None = None,
    *,
    files: Sequence[str] = FILES,
    timeout_s: float = 3600.0,
    progress: Callable[[int], Any] | None = None,
    begin: Callable[[int, int], Any] | None = None,
) -> Path:
    """Fetch a model of the Hub.

    Where the Hub cannot be reached, files of the cache serve, and a line of the log names their commit.

    Args:
        name: 'hf:owner/name[@revision]'; the revision is a branch, a tag or a commit, the main branch by default.
        folder: gets the files; None leaves them in the cache of the Hub, where hf:owner/name finds them.
        files: patterns of the files.
        timeout_s: longest time for all files in seconds.
        progress: called with every number of bytes that has come; None writes lines to the log.
        begin: called before the first file with the numbers of files and of bytes; what it raises ends the download.

    Returns:
        The folder of the files; in the cache its name is the commit.

    Raises:
        InputError: hub_name; hub_offline (no network, and the files are not in the cache); hub (no such model, revision
            or file, no access, too slow); out_unwritable (also where the disk is too small).
    """
    repository, revision = hub_id(name)
    end = time.monotonic() + timeout_s
    from huggingface_hub import HfApi, constants, hf_hub_download

    with _sentences(name, 'fetched'):
        if constants.HF_HUB_OFFLINE:
            return _cached(repository, revision, folder, files)
        try:
            facts = HfApi().model_info(repository, revision=revision, files_metadata=True, timeout=ANSWER_S)
        except Exception as error:
            if folder is not None or not _unreachable(error):
                raise
            found = _cached(repository, revision, folder, files)
            LOG.warning('The Hub cannot be reached; %s is taken from the cache, commit %s.', name, found.name)
            return found
        wanted = _wanted_files(name, facts.siblings or (), files)
        if begin:
            begin(len(wanted), sum(wanted.values()))
        size = sum(wanted[file] for file in wanted if folder is not None or not _is_cached(repository, file, facts.sha))
        _check_space(folder or Path(constants.HF_HUB_CACHE), size)
        # In the cache the name of the branch has to lead to the files; a folder can have those of one commit for sure.
        chosen = revision if folder is None else facts.sha
        bar = _counter(name, end, timeout_s, progress or _Report(name, size).add)
        for file in wanted:
            path = hf_hub_download(repository, file, revision=chosen, local_dir=folder, tqdm_class=bar)
            if folder is None and facts.sha not in Path(path).parts:
                raise InputError('hub', f'{name} changed while it was fetched; fetch it again.')
    return folder or Path(path).parents[len(Path(file).parts) - 1]


def _is_cached(repository: str, file: str, commit: str | None) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repository, file, revision=commit), str)


def _cached(repository: str, revision: str | None, folder: Path | None, files: Sequence[str]) -> Path:
    """Return the folder of files that were fetched before."""
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(
            repository, revision=revision, local_dir=folder, allow_patterns=list(files), local_files_only=True
        )
    )


def _wanted_files(name: str, files: Iterable[Any], patterns: Sequence[str]) -> dict[str, int]:
    """Return the files of a model that are fetched, and their sizes in bytes."""
    wanted = {
        file.rfilename: file.size or 0
        for file in files
        if any(fnmatch(file.rfilename, pattern) for pattern in patterns)
    }
    if not wanted:
        raise InputError('hub', f'{name} has none of the files {", ".join(patterns)}; give a model with safetensors.')
    for file in wanted:
        if Path(file).is_absolute() or '..' in Path(file).parts:
            raise InputError('hub', f'{name} has a file {file[:100]!r}, which leads out of its folder; use another.')
    return wanted


def push(checkpoint: Path, name: str, *, private: bool = False, message: str = '') -> tuple[str, Sequence[str]]:
    """Send a checkpoint folder to the Hub; its model card gets a YAML head where it has none.

    Args:
        checkpoint: the folder.
        name: 'hf:owner/name'; the repository is made where there is none.
        private: make it private.
        message: message of the commit; '' names the model.

    Returns:
        The address of the commit, and the names of the files.

    Raises:
        InputError: hub_name; model_missing, model_config (it is no checkpoint of ours); hub_offline; hub (no token, no
            right to write, no answer for SILENCE_S).
    """
    repository, revision = hub_id(name)
    if revision is not None:
        raise InputError('hub_name', f'{name[:200]} names a revision, and files are sent to the main branch; omit it.')
    if not (checkpoint / CONFIG).is_file():
        raise InputError('model_missing', f'There is no {checkpoint / CONFIG}; give a checkpoint folder.')
    stored = read_json(checkpoint / CONFIG)
    kind = KINDS.get(stored.get('kind')) if 'model_id' in stored else None
    if kind is None:
        raise InputError('model_config', f'{checkpoint} holds no checkpoint of m3et; give one that m3et has written.')
    from huggingface_hub import CommitOperationAdd, HfApi, constants, get_session

    if constants.HF_HUB_OFFLINE:
        raise InputError('hub_offline', f'{name} cannot be sent, for HF_HUB_OFFLINE is set; unset it.')
    card = checkpoint / CARD
    try:
        text = with_head(card.read_text(encoding='utf-8') if card.is_file() else f'# {stored["model_id"]}\n', kind)
    except (ValueError, OSError) as error:
        raise InputError('model_config', f'{card} is refused: {error}; correct it.') from error
    places = (checkpoint, *(checkpoint / folder for folder in ENCODERS if (checkpoint / folder).is_dir()))
    names = sorted(
        path.relative_to(checkpoint).as_posix()
        for place in places
        for path in place.iterdir()
        if path.is_file() and any(fnmatch(path.name, p) for p in FILES)
    )
    files = [CommitOperationAdd(file, str(checkpoint / file)) for file in names if file != CARD]
    files.append(CommitOperationAdd(CARD, text.encode()))
    with _sentences(name, 'sent'):
        get_session().timeout = SILENCE_S
        api = HfApi(library_name='m3et_ros')
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.create_commit(
            repository, files, commit_message=message or f'm3et push: {str(stored["model_id"])[:100]}'
        )
    return str(commit.commit_url), [*(file for file in names if file != CARD), CARD]


@contextmanager
def _sentences(name: str, done: str) -> Iterator[None]:
    """Turn the errors of the Hub's library into refusals of one sentence; `done` says what cannot be done."""
    from huggingface_hub import errors

    where = f'{name} cannot be {done}'
    try:
        yield
    except InputError:
        raise
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError, errors.IncompleteSnapshotError) as error:
        raise InputError(
            'hub_offline',
            f'{where}: the Hub cannot be reached, or HF_HUB_OFFLINE is set, and the files are not in the cache; check '
            'the network, or give a folder.',
        ) from error
    except errors.LocalTokenNotFoundError as error:
        raise InputError('hub', f'{where}: there is no token; run hf auth login, or set HF_TOKEN.') from error
    except errors.GatedRepoError as error:
        raise InputError(
            'hub', f'{where}: its owner grants access on request; ask on its page, and set HF_TOKEN.'
        ) from error
    except errors.RevisionNotFoundError as error:
        raise InputError('hub', f'{where}: it has no such revision; check its branches and tags.') from error
    except errors.RepositoryNotFoundError as error:
        raise InputError(
            'hub', f'{where}: there is no such model, or it is private; check the name, or set HF_TOKEN.'
        ) from error
    except errors.HfHubHTTPError as error:
        code = error.response.status_code
        hint = 'run hf auth login, or set HF_TOKEN' if code in (401, 403) else 'try again later'
        raise InputError('hub', f'{where}: the Hub answers with code {code}; {hint}.') from error
    except OSError as error:
        with refuse_unwritable(Path(error.filename or name), 'give a writable folder with free space.'):
            raise
    except Exception as error:
        if not _unreachable(error):
            raise
        raise InputError(
            'hub_offline', f'{where}: the Hub cannot be reached ({error}); check the network, or give a folder.'
        ) from error


def _unreachable(error: Exception) -> bool:
    """Return True where the Hub gave no answer, or reports a failure of its own."""
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return error.response.status_code >= 500
    return type(error).__module__.startswith(('httpx', 'httpcore'))  # its library lets errors of its client through


def _check_space(folder: Path, size: int) -> None:
    """Refuse a download that the disk of a folder cannot hold."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.exists(path))
    if size > (free := shutil.disk_usage(there).free):
        raise InputError(
            'out_unwritable', f'{folder} has {free / 1e9:.1f} GB free and the files {size / 1e9:.1f} GB; make room.'
        )


class _Report:
    """Writes to the log how much of a download has come, when it begins and every REPORT_S seconds."""

    def __init__(self, name: str, size: int):
        self._name, self._size, self._done, self._next = name, size, 0, 0.0
        if size:
            self.add(0)  # the first bytes may take long

    def add(self, count: int) -> None:
        """Count bytes that have come."""
        self._done += count
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + REPORT_S
            LOG.warning('Fetching %s: %.1f of %.1f MB.', self._name, self._done / 1e6, self._size / 1e6)


def _counter(name: str, end: float, timeout_s: float, progress: Callable[[int], Any]) -> type:
    """Return a progress bar for the Hub's library that shows nothing, hands on what has come, and ends in time."""
    from tqdm import tqdm

    class Counter(tqdm):
        def __init__(self, *_: Any, **options: Any):
            super().__init__(disable=True, total=options.get('total'))

        def update(self, n: float | None = 1) -> bool | None:
            if time.monotonic() > end:
                raise InputError(
                    'hub', f'{name} took longer than {timeout_s:g} s; fetch it by m3et pull with a longer --timeout.'
                )
            progress(int(n or 0))
            return None

    return Counter
