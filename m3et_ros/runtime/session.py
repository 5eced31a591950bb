"""Sessions: an engine on one camera's frames with its newest view, its memory, and the checks of questions."""

import logging
import time
from collections.abc import Generator, Iterator
from dataclasses import replace

from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.data.questions.reader import AT, COMPOSED, Reading
from m3et_ros.runtime.answerer import TextAnswerer
from m3et_ros.runtime.composed import Composer
from m3et_ros.runtime.domain import DomainCheck, DomainResult
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.frame_comb import FrameMemory
from m3et_ros.runtime.limits import QUESTION_CHARS
from m3et_ros.runtime.memory import Memory
from m3et_ros.runtime.places import Locator
from m3et_ros.runtime.results import Anticipation, Ranked, Reply
from m3et_ros.runtime.understanding import judged, question_reader, refused
from m3et_ros.runtime.view import View

LOG = logging.getLogger(__name__)
SCOPES = ('frame', 'episode')


def checked_question(question: str, limit: int = QUESTION_CHARS, *, parameter: str = 'max_question_chars') -> str:
    """Return the question without surrounding blanks.

    Args:
        question: the question.
        limit: most characters.
        parameter: name of the parameter that raises the limit; '' where nothing does.

    Raises:
        InputError: it is empty or longer than `limit` characters.
    """
    text = question.strip()
    if not text:
        raise InputError('question_empty', 'The question is empty; ask something, such as "What is on the table?".')
    if len(text) > limit:
        raise InputError(
            'question_long',
            f'The question has {len(text)} characters and at most {limit} are read; shorten it'
            f'{f" or raise {parameter}" if parameter else ""}.',
        )
    return text


def checked_scope(scope: str) -> str:
    """Return 'frame' or 'episode'; an empty scope means 'frame'.

    Raises:
        InputError: it is anything else.
    """
    if scope not in ('', *SCOPES):
        raise InputError('scope_unknown', f'The scope {scope[:40]!r} is unknown; use "frame" or "episode".')
    return scope or 'frame'


class Session:
    """An engine that follows one camera. Everything runs on the inference thread.

    Attributes:
        newest: the newest view; None before the first frame.
        memory: memory of the episode: the engine's learnt one, or a sample of frames.
        answerer: writes the answers to questions about frames; None = the engine's own model does.
        min_confidence: probability below which an answer is unsure, 0..1; that of the checkpoint at first.
        domain_every: every so many frames of the camera are compared with those of training; 0 never compares.
        domain: the last comparison.
        camera: the source of the images in words, for the refusal before the first one.
        locator: finds the places that questions ask for; None = replies have none.
    """

    locator: Locator | None = None
    answerer: TextAnswerer | None = None
    domain_every = 10
    camera = 'the camera topic'

    def __init__(self, engine: Engine, *, memory_frames: int = 8, sample_frames: bool = False, remember: bool = True):
        """Follow a camera.

        Args:
            engine: the model.
            memory_frames: largest number of frames in a memory of frames.
            sample_frames: store a sample of frames even where the engine has a learnt memory.
            remember: False leaves the memory empty; the caller refuses questions about the episode.
        """
        self.engine, self._remember = engine, remember
        self.newest: View | None = None
        self.min_confidence = engine.labels.calibration.min_confidence
        self.domain = DomainResult()
        self._domain_check = DomainCheck(engine)
        self._reader = question_reader(engine.checkpoint)
        self._read: tuple[tuple[str, str], Reading] = ('', ''), Reading()
        self.memory: Memory
        if engine.episode_memory is None or sample_frames:
            self.memory = FrameMemory(memory_frames, engine.model_id)
        else:
            self.memory = engine.episode_memory
        if engine.episode_memory is None and remember:
            LOG.info(
                '%s has no memory of episodes: questions about them rest on %d frames.', engine.model_id, memory_frames
            )

    def observe(self, frame: Frame) -> View:
        """Encode the next frame of the episode and update the memory by it, if there is one."""
        self.newest = self.engine.encode(frame, stream=True)
        if self._remember:
            self.memory.observe(self.newest)
        if self._domain_check.due(self.domain_every):
            self.domain = self._domain_check.check(self.newest)
        elif self.domain_every == 0:
            self.domain = DomainResult()
        return self.newest

    def anticipate(self, view: View, *, horizon_s: float, top_k: int) -> Anticipation | None:
        """Return the present and the next actions; None when the checkpoint has no action head."""
        return self.engine.anticipate(view, horizon_s=horizon_s, top_k=top_k)

    def reset(self) -> None:
        """Begin a new episode."""
        self.newest = None
        self.domain = DomainResult()
        self._domain_check.restart()
        self.memory.reset()
        self.engine.reset_actions()
        self.engine.reset_stream()

    def views(self, scope: str, frame: Frame | None = None) -> list[View]:
        """Return the views that a question rests on, oldest first.

        Args:
            scope: 'frame' or 'episode'.
            frame: an image sent with the question; it replaces the newest frame and does not enter the memory.

        Raises:
            InputError: no frame has arrived yet.
        """
        if frame is not None:
            return [self.engine.encode(frame)]
        if self.newest is None:
            raise InputError('no_frame', f'No image has arrived yet; check {self.camera} or send an image along.')
        return self.memory.views(self.newest) if scope == 'episode' else [self.newest]

    def read(self, question: str, scope: str) -> Reading:
        """Return a question as it is understood; as it is where nobody knows what the model was taught."""
        if self._reader is None:
            return Reading(question)
        # The standing instruction comes again with every frame.
        if self._read[0] != (question, scope):
            self._read = (question, scope), self._reader.read(question, scope)
        return self._read[1]

    def ask(
        self, question: str, views: list[View], *, scope: str, top_k: int, mode: str = 'classify', max_tokens: int = 8
    ) -> Reply:
        """Answer a question about views, or say why not.

        Args:
            question: checked text.
            views: what it is about, oldest first.
            scope: 'frame' or 'episode', as reported in the reply.
            top_k: number of alternatives.
            mode: 'classify' ranks the candidate answers, 'generate' writes one; a learnt memory always ranks.
            max_tokens: longest written answer.
        """
        if mode == 'generate':
            *_, reply = self.write(question, views, scope=scope, max_tokens=max_tokens)
            return reply
        return self._placed(self._ask(question, views, scope, top_k), views)

    def _ask(self, question: str, views: list[View], scope: str, top_k: int) -> Reply:
        start = time.perf_counter()
        reading = self.read(question, scope)
        ready = self._without_model(question, reading, views, scope, start)
        if ready is not None:
            return ready
        recalled = self._recall(reading.question, views, scope, top_k, start)
        if recalled is not None:
            return self._judged(question, reading, recalled, views)
        ranked = self.engine.classify(reading.question, views, top_k=top_k)
        return self._judged(question, reading, self._reply(question, views, scope, ranked, start), views)

    def write(self, question: str, views: list[View], *, scope: str, max_tokens: int = 8) -> Iterator[Reply]:
        """Write an answer token by token, or say why not; the last reply is the whole answer.

        A reply that was partly written keeps its words even where it turns out to be no answer.
        """
        yield (yield from self.write_steps(question, views, scope=scope, max_tokens=max_tokens))

    def write_steps(
        self, question: str, views: list[View], *, scope: str, max_tokens: int = 8
    ) -> Generator[Reply, None, Reply]:
        """Write an answer as `write` does, but return the whole answer: frames may be observed after each yield."""
        start = time.perf_counter()
        answerer = self.answerer_for(scope)
        if answerer is not None and answerer.open_questions:
            # Neither the taught wordings nor the images of M3ET's training say what it can answer.
            pieces = answerer.write(question, views[-1], max_tokens=max_tokens)
            return (yield from self._collect(pieces, question, views, scope, start))
        reading = self.read(question, scope)
        ready = self._without_model(question, reading, views, scope, start)
        if ready is None and (recalled := self._recall(reading.question, views, scope, 1, start)) is not None:
            ready = self._judged(question, reading, recalled, views)
        if ready is not None:
            return self._placed(ready, views)
        # Judged by the comparison of this moment: further frames may come between two tokens.
        unlike = self._unlike_training(views[-1])
        if answerer is None:
            pieces = self.engine.write(reading.question, views, max_tokens=max_tokens)
        else:
            pieces = answerer.write(reading.question, views[-1], max_tokens=max_tokens)
        whole = yield from self._collect(pieces, question, views, scope, start)
        judged = self._judged(question, reading, whole, views, unlike)
        # The places are those of the answer, also where its words were partly written before it was found to be none.
        return replace(self._placed(judged, views) if answerer is None else judged, text=whole.text)

    def _collect(
        self, pieces: Iterator[tuple[str, float]], question: str, views: list[View], scope: str, start: float
    ) -> Generator[Reply, None, Reply]:
        """Yield a reply for every piece of an answer, and return the whole."""
        text, confidence = '', 1.0
        for text, probability in pieces:
            confidence *= probability
            yield self._reply(question, views, scope, (Ranked(-1, text, confidence),), start)
        return self._reply(question, views, scope, (Ranked(-1, text, confidence),), start)

    def _without_model(
        self, question: str, reading: Reading, views: list[View], scope: str, start: float
    ) -> Reply | None:
        """Return the reply to a question that no model can answer, or whose answer is composed of others; else None."""
        if not reading.question:
            none = (Ranked(-1, '', 0.0),)
            return replace(refused(self._reply(question, views, scope, none, start), reading), alternatives=())
        # An answerer beside M3ET was taught to describe.
        if reading.kind not in COMPOSED or (reading.kind != AT and self.answerer_for(scope) is not None):
            return None
        assert self._reader is not None
        ranked, explanation = Composer(self.engine, self._reader.taught).answer(reading, views[-1])
        reply = self._reply(question, views[-1:], scope, ranked, start)
        if explanation:
            return refused(reply, replace(reading, reason='not_in_view', explanation=explanation))
        return self._judged(question, reading, reply, views)

    def _judged(
        self, question: str, reading: Reading, reply: Reply, views: list[View], unlike: bool | None = None
    ) -> Reply:
        """Return a reply of a model under the question as it was asked, without its answer where it cannot be sure."""
        reply = replace(reply, question=question, read_as=reading.question if self._reader else '')
        if reading.reason:
            return refused(reply, reading)
        if unlike is None:
            unlike = self._unlike_training(views[-1])
        return judged(reply, min_confidence=self.min_confidence, unlike_training=unlike)

    def _placed(self, reply: Reply, views: list[View]) -> Reply:
        """Return a reply to a question about one frame with the places that it asks for."""
        if self.locator is None or not reply.answerable or reply.scope != 'frame':
            return reply
        start = time.perf_counter()
        places = self.locator.places(self.read(reply.question, reply.scope), reply, views[-1])
        return replace(reply, places=places, latency_s=reply.latency_s + time.perf_counter() - start)

    def _unlike_training(self, view: View) -> bool:
        """Return whether a view is unlike those of training; a sent image is compared at once."""
        if self.domain_every == 0:
            return False  # `domain` may be of the time before comparing was switched off
        if view is self.newest:
            return self.domain.unlike
        return self._domain_check.check(view).unlike

    def answerer_for(self, scope: str) -> TextAnswerer | None:
        """Return the answerer beside M3ET for questions of this scope; None where M3ET itself answers.

        Only M3ET knows of earlier frames, so an answerer serves questions about frames alone.
        """
        return self.answerer if scope == 'frame' else None

    def answered_by(self, scope: str, *, written: bool = True) -> str:
        """Return the id of the model that answers questions of this scope, where answers are written."""
        answerer = self.answerer_for(scope) if written else None
        return self.engine.model_id if answerer is None else answerer.model_id

    def _recall(self, question: str, views: list[View], scope: str, top_k: int, start: float) -> Reply | None:
        """Answer from the memory; None for a question about a frame, a sent image or a sample of frames."""
        if scope != 'episode' or views[-1] is not self.newest:
            return None
        ranked, memory = self.memory.answer(question, top_k), self.memory
        if ranked is None:
            return None
        return Reply(
            question,
            ranked[0].label,
            ranked[0].score,
            ranked,
            scope,
            memory.frames,
            memory.first_ns,
            memory.last_ns,
            time.perf_counter() - start,
        )

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
