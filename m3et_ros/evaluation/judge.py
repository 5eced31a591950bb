"""Ask a language model to mark free-text answers, over any server that speaks OpenAI's chat protocol.

A judge is asked only if the user names one. Its marks become OpenEQA's LLM-match (docs/papers.md 7.6). The prompt is
our own, so scores are comparable only for the same model and prompt; both are recorded. OpenEQA's own prompt can be
given as a file with the fields {question}, {answer}, {prediction} and {extra_answers}.
"""

import hashlib
import http.client
import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m3et_ros.data.datasets.openeqa import EqaQuestion
from m3et_ros.data.errors import InputError
from m3et_ros.data.files import refuse_unwritable
from m3et_ros.data.progress import Progress, no_progress
from m3et_ros.evaluation.metrics.answers import BEST, WORST
from m3et_ros.evaluation.tasks.eqa_scores import ScoredAnswer

PROMPT = """You mark answers to questions about what a robot saw.
5 means that the answer says the same as the right answer or one of the further right answers; 1 means that it is wrong.
Marks between 1 and 5 mean that the answer is partly right.

Question: {question}
Right answer: {answer}
Further right answers: {extra_answers}
Answer to mark: {prediction}

Reply with one line, and nothing else: "Your mark: " and a whole number from 1 to 5."""

MARK = re.compile(r'your mark:\s*([1-5])(?!\d)', re.IGNORECASE)
FIELD = re.compile(r'\{(question|answer|prediction|extra_answers)\}')
LONGEST_REPLY = 1 << 20
MARKS = 'marks.json'


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuse redirects: the key is meant for the given address only."""

    def redirect_request(self, *_):
        return None


OPENER = urllib.request.build_opener(_NoRedirect)


@dataclass(frozen=True)
class Judge:
    """Address and settings of a judge.

    Raises:
        InputError: 'judge_option' where the address is not http or https, the prompt lacks {question}, {answer} or
            {prediction}, or a setting is out of range.
    """

    # Address of the service, for example http://localhost:8000/v1; /chat/completions is appended.
    url: str
    # Name of the model at the service.
    model: str
    prompt: str = PROMPT
    # Sampling temperature, 0..2; OpenEQA uses 0.2.
    temperature: float = 0.2
    seed: int = 1234
    # Maximum number of tokens of a reply, at least 1.
    max_tokens: int = 32
    # Timeout of a request in seconds, above 0.
    timeout_s: float = 60.0
    # Environment variable with the API key, if the service needs one; the key is never written to a file.
    key_variable: str = 'OPENAI_API_KEY'

    def __post_init__(self):
        if urllib.parse.urlsplit(self.url).scheme not in ('http', 'https'):
            raise InputError(
                'judge_option',
                f"the judge's address is {self.url!r}; give one that begins with "
                'http:// or https://, such as http://localhost:8000/v1',
            )
        missing = sorted({'question', 'answer', 'prediction'} - set(FIELD.findall(self.prompt)))
        if missing:
            fields = ', '.join(f'{{{name}}}' for name in missing)
            raise InputError('judge_option', f"the judge's prompt lacks {fields}; add each where its text belongs")
        if not self.timeout_s > 0 or not 0 <= self.temperature <= 2 or self.max_tokens < 1:
            raise InputError(
                'judge_option',
                f'the judge has timeout_s {self.timeout_s}, temperature '
                f'{self.temperature} and max_tokens {self.max_tokens}; give above 0, 0 to 2 and at least 1',
            )

    def recorded(self) -> dict[str, Any]:
        """Return everything that decides the marks, for metrics.json; the key is not part of it."""
        address = urllib.parse.urlsplit(self.url)
        host = address.hostname + (f':{address.port}' if address.port else '')
        return {
            'url': urllib.parse.urlunsplit((address.scheme, host, address.path, '', '')),
            'model': self.model,
            'prompt': self.prompt,
            'temperature': self.temperature,
            'seed': self.seed,
            'max_tokens': self.max_tokens,
        }

    def mark(self, question: EqaQuestion, answer: str | None) -> float | None:
        """Return the mark of an answer, 1 to 5; return None without a request where there is no answer.

        Raises:
            InputError: 'judge' where the service cannot be reached, refuses, or gives no mark.
        """
        if answer is None or not answer.strip():
            return None
        reply = self._ask(fill(self.prompt, question, cut(answer)))
        found = MARK.search(reply)
        text = found[1] if found else reply.strip()
        if text not in {str(mark) for mark in range(int(WORST), int(BEST) + 1)}:
            raise InputError(
                'judge',
                f'the judge {self.model} gave no mark for {question.question_id}: {reply[:80]!r}'
                '; give a model that follows the prompt, or another prompt',
            )
        return float(text)

    def _ask(self, text: str) -> str:
        """Send one message and return the reply of the model."""
        body = {
            'model': self.model,
            'messages': [{'role': 'user', 'content': text}],
            'seed': self.seed,
            'temperature': self.temperature,
            'max_tokens': self.max_tokens,
        }
        headers = {'Content-Type': 'application/json'}
        if os.environ.get(self.key_variable):
            headers['Authorization'] = f'Bearer {os.environ[self.key_variable]}'
        where = f'{self.url.rstrip("/")}/chat/completions'
        request = urllib.request.Request(where, json.dumps(body).encode(), headers, method='POST')
        try:
            with OPENER.open(request, timeout=self.timeout_s) as response:
                return json.loads(response.read(LONGEST_REPLY))['choices'][0]['message']['content'] or ''
        except urllib.error.HTTPError as error:
            raise self._failed(f'it answered {error.code} {error.reason}') from error
        except (OSError, http.client.HTTPException) as error:
            raise self._failed(f'{getattr(error, "reason", None) or error or type(error).__name__}') from error
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise self._failed('its reply is not one of the chat protocol') from error

    def _failed(self, why: str) -> InputError:
        return InputError(
            'judge',
            f'the judge {self.model} at {self.recorded()["url"]} cannot be asked: {why}; check '
            f"the address, the model's name and the key in {self.key_variable}",
        )


def mark_answers(
    out: Path, rows: Sequence[ScoredAnswer], judge: Judge, progress: Progress = no_progress
) -> dict[str, float | None]:
    """Let a judge mark every answer.

    Marks are saved in out/marks.json, so a run that was stopped, or is scored again, asks only for the rest.

    Args:
        out: folder of the run.
        rows: answers.
        judge: the judge.
        progress: see data.progress.Progress.

    Returns:
        question_id to mark, None where there was no answer.

    Raises:
        InputError: 'judge' as Judge.mark, after the marks so far were saved; 'out_unwritable'.
    """
    path = out / MARKS
    known = _read_marks(path)
    marks: dict[str, float | None] = {}
    try:
        for row in progress(rows, len(rows), 'judge', 'answer'):
            decides = judge.recorded(), row.question.question, row.question.references, row.answer
            key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
            if key not in known:
                known[key] = judge.mark(row.question, row.answer)
            marks[row.question.question_id] = known[key]
    finally:
        _write_marks(path, known)
    return marks


def _read_marks(path: Path) -> dict[str, float | None]:
    """Read the marks of earlier runs; return none where the file is missing or damaged."""
    try:
        found = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write_marks(path: Path, marks: dict[str, float | None]) -> None:
    with refuse_unwritable(path, 'free some space, or give another --out'):
        path.write_text(json.dumps(marks, indent=0, sort_keys=True), encoding='utf-8')


def read_prompt(path: Path) -> str:
    """Read the user's own prompt.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        return path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            'judge_option', f'{path} cannot be read as text ({error}); give an existing UTF-8 file'
        ) from error


def fill(prompt: str, question: EqaQuestion, answer: str) -> str:
    """Fill in the fields of a prompt; braces in the texts stay as they are."""
    texts = {
        'question': question.question,
        'answer': question.answer,
        'prediction': answer,
        'extra_answers': '; '.join(question.extra_answers) or 'none',
    }
    return FIELD.sub(lambda field: texts[field[1]], prompt)


def cut(answer: str) -> str:
    """Cut an answer after its last full stop, as OpenEQA does before it asks its judge."""
    end = answer.rfind('.')
    return answer[: end + 1] if end >= 0 else answer
