"""A judge of free-text answers, asked only where the user names one: any server that speaks OpenAI's chat protocol.

What it says becomes OpenEQA's LLM-match (evaluation.openeqa; docs/papers.md 7.6). The wording is our own, so that scores
compare only where model and prompt are the same; both are recorded. OpenEQA's own prompt can be given as a file: its
fields are {question}, {answer}, {prediction} and {extra_answers}.
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
from m3et_ros.data.progress import Progress, no_progress
from m3et_ros.evaluation.metrics.answers import BEST, WORST
from m3et_ros.evaluation.tasks.eqa_scores import Scored

PROMPT = """You mark answers to questions about what a robot saw.
5 means that the answer says the same as the right answer or one of the further right answers; 1 means that it is wrong.
Marks between stand for answers that are right in part.

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
    """Refuses to be sent elsewhere: the key is for the address that was given."""

    def redirect_request(self, *_):
        return None


OPENER = urllib.request.build_opener(_NoRedirect)


@dataclass(frozen=True)
class Judge:
    """Where and how to ask.

    Raises:
        InputError: 'judge_option': the address is not http or https, the prompt lacks {question}, {answer} or
            {prediction}, or a setting is out of range.
    """

    # Address of the service, for example http://localhost:8000/v1; /chat/completions is put behind it.
    url: str
    # Name of the model as the service knows it.
    model: str
    prompt: str = PROMPT
    # As OpenEQA asks.
    temperature: float = 0.2
    seed: int = 1234
    # Most tokens of a reply.
    max_tokens: int = 32
    # Seconds to wait for a reply, above 0.
    timeout_s: float = 60.0
    # Name of the environment variable that holds the key, where the service wants one; the key is never written down.
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
            raise InputError('judge_option', f"the judge's prompt lacks {fields}; put each where its text belongs")
        if not self.timeout_s > 0 or not 0 <= self.temperature <= 2 or self.max_tokens < 1:
            raise InputError(
                'judge_option',
                f'the judge has timeout_s {self.timeout_s}, temperature '
                f'{self.temperature} and max_tokens {self.max_tokens}; give above 0, 0 to 2, at least 1',
            )

    def recorded(self) -> dict[str, Any]:
        """What goes into metrics.json: everything that decides the marks, and no key."""
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
        """The mark of an answer, 1 to 5; None without asking where nothing was answered.

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
        """Send one message and return what the model said."""
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
    out: Path, rows: Sequence[Scored], judge: Judge, progress: Progress = no_progress
) -> dict[str, float | None]:
    """Let a judge mark every answer; question_id to mark, None where nothing was answered.

    Marks are kept in out/marks.json as they come: a run that was stopped, or is scored again, asks for the rest alone.

    Args:
        out: folder of the run.
        rows: answers.
        judge: who marks.
        progress: see feed.Progress.

    Raises:
        InputError: 'judge' as Judge.mark, with the marks so far kept; 'out_unwritable'.
    """
    path = out / MARKS
    known = _read_marks(path)
    marks: dict[str, float | None] = {}
    try:
        for row in progress(rows, len(rows), 'judge', 'answer'):
            key = _key(judge, row)
            if key not in known:
                known[key] = judge.mark(row.question, row.answer)
            marks[row.question.question_id] = known[key]
    finally:
        _write_marks(path, known)
    return marks


def _key(judge: Judge, row: Scored) -> str:
    """What decides a mark, as a digest."""
    parts = judge.recorded(), row.question.question, row.question.references, row.answer
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _read_marks(path: Path) -> dict[str, float | None]:
    """Marks of earlier runs; none where the file is missing or damaged."""
    try:
        found = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write_marks(path: Path, marks: dict[str, float | None]) -> None:
    try:
        path.write_text(json.dumps(marks, indent=0, sort_keys=True), encoding='utf-8')
    except OSError as error:
        raise InputError(
            'out_unwritable', f'{path} cannot be written ({error.strerror}); free some space, or give another --out'
        ) from error


def read_prompt(path: Path) -> str:
    """A prompt of the user's own.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        return path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            'judge_option', f'{path} cannot be read as text ({error}); give a prompt file that is there'
        ) from error


def fill(prompt: str, question: EqaQuestion, answer: str) -> str:
    """A prompt with its fields filled in; braces in the texts stay as they are."""
    texts = {
        'question': question.question,
        'answer': question.answer,
        'prediction': answer,
        'extra_answers': '; '.join(question.extra_answers) or 'none',
    }
    return FIELD.sub(lambda field: texts[field[1]], prompt)


def cut(answer: str) -> str:
    """An answer without what follows its last full stop, as OpenEQA hands it to its judge."""
    end = answer.rfind('.')
    return answer[: end + 1] if end >= 0 else answer
