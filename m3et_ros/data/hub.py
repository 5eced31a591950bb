"""Checkpoints to and from the Hugging Face Hub: time limits, progress, and a sentence for every failure.

Nothing but safetensors, JSON and text is fetched, and nothing is fetched unless a name begins with hf:. The variables
HF_HUB_OFFLINE, HF_TOKEN, HF_HOME and HF_ENDPOINT hold as in `huggingface_hub`.
"""

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

HUB = 'hf:'
"""Prefix of a model of the Hub, so that a mistyped folder is never asked for there."""
HUB_ID = re.compile(r'[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}')
FILES = ('*.safetensors', '*.json', '*.txt', 'README.md')
"""Patterns of the files that are fetched and sent."""
CARD = 'README.md'
ANSWER_S = 10.0
"""Longest wait for an answer of the Hub to a question about a model."""
SILENCE_S = 60.0
"""Longest wait for the next byte while files are sent."""
KINDS = {None: 'm3et', 'talk': 'talk', 'history': 'history'}
"""Kind of a model card by `kind` in config.json, which an M3ET does not have."""


def hub_id(name: str) -> str:
    """Return owner/name of 'hf:owner/name'.

    Raises:
        InputError: hub_name, it is no such name.
    """
    found = name.removeprefix(HUB)
    if not name.startswith(HUB) or not HUB_ID.fullmatch(found):
        raise InputError('hub_name', f'{name[:200]} is no model of the Hub; give {HUB}owner/name.')
    return found


def pull(
    name: str,
    folder: Path | None = None,
    *,
    revision: str | None = None,
    timeout_s: float = 3600.0,
    progress: Callable[[int], Any] | None = None,
    begin: Callable[[int, int], Any] | None = None,
) -> Path:
    """Fetch a model of the Hub.

    Args:
        name: 'hf:owner/name'.
        folder: gets the files; None leaves them in the cache of the Hub, where hf:owner/name finds them.
        revision: branch, tag or commit; None is the main branch.
        timeout_s: longest time for all files in seconds.
        progress: called with every number of bytes that has come.
        begin: called before the first file with the numbers of files and of bytes.

    Returns:
        The folder of the files.

    Raises:
        InputError: hub_name; hub_offline (no network allowed, and the files are not in the cache); hub (no such model
            or revision, no access, no answer, too slow, no file that may be fetched); out_unwritable (also where the
            disk is too small).
    """
    repository = hub_id(name)
    end = time.monotonic() + timeout_s
    from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download

    with _sentences(name, 'fetched'):
        if constants.HF_HUB_OFFLINE:
            return Path(
                snapshot_download(
                    repository, revision=revision, local_dir=folder, allow_patterns=list(FILES), local_files_only=True
                )
            )
        facts = HfApi().model_info(repository, revision=revision, files_metadata=True, timeout=ANSWER_S)
        wanted = _wanted_files(name, facts.siblings or ())
        _check_space(folder or Path(constants.HF_HUB_CACHE), sum(wanted.values()))
        if begin:
            begin(len(wanted), sum(wanted.values()))
        # In the cache the name of the branch has to lead to the files; a folder can have those of one commit for sure.
        chosen = revision if folder is None else facts.sha
        for file in wanted:
            path = hf_hub_download(
                repository, file, revision=chosen, local_dir=folder, tqdm_class=_counter(end, timeout_s, progress)
            )
            if folder is None and facts.sha not in Path(path).parts:
                raise InputError('hub', f'{name} changed while it was fetched; fetch it again.')
    return folder or Path(path).parents[len(Path(file).parts) - 1]


def _wanted_files(name: str, files: Iterable[Any]) -> dict[str, int]:
    """Return the files of a model that are fetched, and their sizes in bytes."""
    wanted = {
        file.rfilename: file.size or 0 for file in files if any(fnmatch(file.rfilename, pattern) for pattern in FILES)
    }
    if not wanted:
        raise InputError('hub', f'{name} holds no safetensors, JSON or text; give a model with safetensors.')
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
    repository = hub_id(name)
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
    names = sorted(
        path.name for path in checkpoint.iterdir() if path.is_file() and any(fnmatch(path.name, p) for p in FILES)
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
        raise InputError('hub', f'{where}: it has no such revision; check --revision.') from error
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
    except Exception as error:  # the library lets the errors of its HTTP client through
        if not type(error).__module__.startswith(('httpx', 'httpcore')):
            raise
        raise InputError(
            'hub_offline', f'{where}: the Hub cannot be reached ({error}); check the network, or give a folder.'
        ) from error


def _check_space(folder: Path, size: int) -> None:
    """Refuse a download that the disk of a folder cannot hold."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.exists(path))
    if size > (free := shutil.disk_usage(there).free):
        raise InputError(
            'out_unwritable', f'{folder} has {free / 1e9:.1f} GB free and the files {size / 1e9:.1f} GB; make room.'
        )


def _counter(end: float, timeout_s: float, progress: Callable[[int], Any] | None) -> type:
    """Return a progress bar for the Hub's library that shows nothing, hands on what has come, and ends in time."""
    from tqdm import tqdm

    class Counter(tqdm):
        def __init__(self, *_: Any, **options: Any):
            super().__init__(disable=True, total=options.get('total'))

        def update(self, n: float | None = 1) -> bool | None:
            if time.monotonic() > end:
                raise InputError('hub', f'The download took longer than {timeout_s:g} s; raise --timeout.')
            if progress:
                progress(int(n or 0))
            return None

    return Counter
