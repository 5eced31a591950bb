"""An engine that follows one camera: its newest view, its memory, and the checks on what it is asked."""

import logging
import time
from collections.abc import Iterator

from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.runtime.answerer import Answerer
from m3et_ros.runtime.engine import Engine, View
from m3et_ros.runtime.frame_comb import FrameComb
from m3et_ros.runtime.memory import EpisodeMemory
from m3et_ros.runtime.results import Anticipation, Ranked, Reply

LOG = logging.getLogger(__name__)
SCOPES = ('frame', 'episode')


def checked_question(question: str, limit: int) -> str:
    """The question without surrounding blanks.

    Raises:
        InputError: it is empty or longer than `limit` characters.
    """
    text = question.strip()
    if not text:
        raise InputError('question_empty', 'The question is empty; ask something, such as "What is on the table?".')
    if len(text) > limit:
        raise InputError(
            'question_long',
            f'The question has {len(text)} characters and at most {limit} are read; '
            'shorten it or raise max_question_chars.',
        )
    return text


def checked_scope(scope: str) -> str:
    """'frame' or 'episode'; an empty scope means 'frame'.

    Raises:
        InputError: it is anything else.
    """
    if scope not in ('', *SCOPES):
        raise InputError('scope_unknown', f'The scope {scope[:40]!r} is unknown; use "frame" or "episode".')
    return scope or 'frame'


class Session:
    """What a node holds between frames. Everything runs on the inference thread.

    Attributes:
        answerer: writes the answers to questions about frames; None = the engine's own model does.
    """

    answerer: Answerer | None = None

    def __init__(self, engine: Engine, *, memory_frames: int = 8, comb: bool = False):
        """Follow a camera.

        Args:
            engine: the model.
            memory_frames: frames that are kept of an episode.
            comb: answer questions about the episode from these frames even where the engine has a memory.
        """
        self.engine = engine
        self.newest: View | None = None
        self.memory: FrameComb[View] = FrameComb(memory_frames)
        self._comb = comb
        if engine.memory is None:
            LOG.info(
                '%s has no memory of episodes: questions about them rest on %d frames.', engine.model_id, memory_frames
            )

    @property
    def remembers(self) -> bool:
        """Whether questions about the episode are answered from the engine's memory of all frames, not from a few."""
        return self.engine.memory is not None and not self._comb

    def learnt_memory(self) -> EpisodeMemory:
        """The memory that can be saved and restored.

        Raises:
            InputError: the model keeps a few frames instead.
        """
        if not self.remembers:
            raise InputError(
                'memory_none',
                f'{self.engine.model_id} has no memory that could be saved, only frames; '
                'load a model that has one, such as kitchen.',
            )
        return self.engine.memory

    def observe(self, frame: Frame) -> View:
        """Encode the next frame of the episode and remember it."""
        self.newest = self.engine.encode(frame, stream=True)
        self.memory.remember(self.newest.kept())
        if self.remembers:
            self.engine.remember(self.newest)
        return self.newest

    def anticipate(self, view: View, *, horizon_s: float, top_k: int) -> Anticipation | None:
        """What is done and what comes next; None when the checkpoint has no action head."""
        return self.engine.anticipate(view, horizon_s=horizon_s, top_k=top_k)

    def reset(self) -> None:
        """Begin a new episode."""
        self.newest = None
        self.memory.reset()
        if self.engine.memory is not None:
            self.engine.memory.reset()
        self.engine.reset_actions()
        self.engine.reset_sight()

    def views(self, scope: str, frame: Frame | None = None) -> list[View]:
        """The views that a question rests on, oldest first; the newest alone where the memory knows of the others.

        Args:
            scope: 'frame' or 'episode'.
            frame: an image of the asker's own; it stands in for the newest frame and is not remembered.

        Raises:
            InputError: nothing has been seen yet.
        """
        if frame is not None:
            return [self.engine.encode(frame)]
        if self.newest is None:
            raise InputError('no_frame', 'No image has arrived yet; check the camera topic or send an image along.')
        return list(self.memory) if scope == 'episode' and not self.remembers else [self.newest]

    def ask(
        self, question: str, views: list[View], *, scope: str, top_k: int, mode: str = 'classify', max_tokens: int = 8
    ) -> Reply:
        """Answer a question about views.

        Args:
            question: checked text.
            views: what it is about, oldest first.
            scope: 'frame' or 'episode', as reported in the reply.
            top_k: alternatives wanted.
            mode: 'classify' ranks the candidate answers, 'generate' writes one; the memory always ranks.
            max_tokens: longest written answer.
        """
        start = time.perf_counter()
        if self._recalls(scope, views):
            return self._recalled(question, top_k, start)
        if mode == 'generate':
            *_, reply = self.write(question, views, scope=scope, max_tokens=max_tokens)
            return reply
        return self._reply(question, views, scope, self.engine.classify(question, views, top_k=top_k), start)

    def write(self, question: str, views: list[View], *, scope: str, max_tokens: int = 8) -> Iterator[Reply]:
        """Write an answer, a token at a time; the last reply is the whole answer."""
        start = time.perf_counter()
        if self._recalls(scope, views):
            yield self._recalled(question, 1, start)
            return
        text, confidence = '', 1.0
        writer = (
            self.engine.write(question, views, max_tokens=max_tokens)
            if not self.tells(scope)
            else (self.answerer.write(question, views[-1], max_tokens=max_tokens))
        )
        for text, probability in writer:
            confidence *= probability
            yield self._reply(question, views, scope, (Ranked(-1, text, confidence),), start)
        yield self._reply(question, views, scope, (Ranked(-1, text, confidence),), start)

    def _recalls(self, scope: str, views: list[View]) -> bool:
        """Whether a question is one for the memory: about the episode, and not about an image of the asker's own."""
        return scope == 'episode' and self.remembers and views[-1] is self.newest

    def _recalled(self, question: str, top_k: int, start: float) -> Reply:
        """Answer from the memory; frames and span are those that it has taken in."""
        ranked, memory = self.engine.recall(question, top_k=top_k), self.engine.memory
        return Reply(
            question,
            ranked[0].label,
            ranked[0].score,
            ranked,
            'episode',
            memory.frames,
            memory.first_ns,
            memory.last_ns,
            time.perf_counter() - start,
        )

    def tells(self, scope: str) -> bool:
        """Whether the answerer beside M3ET answers: questions about frames; what was before, M3ET alone knows."""
        return self.answerer is not None and scope == 'frame'

    def answered_by(self, scope: str, *, written: bool = True) -> str:
        """Model id of who answers a question of this scope, where answers are written."""
        return self.answerer.model_id if written and self.tells(scope) else self.engine.model_id

    @staticmethod
    def _reply(question: str, views: list[View], scope: str, ranked: tuple[Ranked, ...], start: float) -> Reply:
        return Reply(
            question,
            ranked[0].label,
            ranked[0].score,
            ranked,
            scope,
            len(views),
            views[0].frame.stamp_ns,
            views[-1].frame.stamp_ns,
            time.perf_counter() - start,
        )
