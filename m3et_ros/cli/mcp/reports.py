"""Results of the tools for agents: fields with descriptions, and the sentences that say the same."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from m3et_ros.cli.ask.app import RANDOM, untrained_warning
from m3et_ros.cli.mcp.sight import Sight
from m3et_ros.msg import ActionAnticipation
from m3et_ros.ros.convert import stamp_ns

DIGITS = 4
"""Decimals of numbers; messages hold 32-bit floats, which would show nine."""
ACTION = 0.5
"""Probability that there is an action at all, below which none is named as the present one."""


class Report(BaseModel):
    """A result about one robot."""

    robot: str = Field(description='Namespace of the robot that this is about.')


class SeenReport(BaseModel):
    """A class in view."""

    name: str = Field(description='Name of the class.')
    share: float = Field(description='Share of the pixels of the image, 0 to 1.')
    distance_m: float | None = Field(description='Median distance in metres along the optical axis; null if unknown.')


class LookReport(Report):
    """The newest picture in words."""

    shows: Literal['overlay', 'colour', 'depth'] = Field(description='What the picture shows.')
    width: int = Field(description="Width of the camera's image in pixels; pixels of `where` are pixels of this image.")
    height: int = Field(description="Height of the camera's image in pixels.")
    scale: float = Field(description="Pixels of the picture for each pixel of the camera's image, at most 1.")
    frame_id: str = Field(description='Optical frame of the camera (REP 103).')
    stamp_ns: int = Field(description='Time of exposure in nanoseconds.')
    age_s: float | None = Field(description='Age of the image in seconds; null where the clocks differ.')
    in_view: list[SeenReport] = Field(description='Classes in view, largest first.')
    depth_range_m: tuple[float, float] | None = Field(
        description='Metres of the nearest (red) and the furthest (blue) pixel of a depth picture; null otherwise.'
    )
    model_id: str = Field(description='Model that found the classes; empty while the robot has not reported.')

    @classmethod
    def of(cls, robot: str, shows: str, sight: Sight, model_id: str) -> 'LookReport':
        """Return the report on a sight of a robot, in which a model found the classes."""
        return cls(
            robot=robot,
            shows=shows,
            width=sight.width,
            height=sight.height,
            scale=round(sight.scale, DIGITS),
            frame_id=sight.frame_id,
            stamp_ns=sight.stamp_ns,
            age_s=rounded(sight.age_s),
            in_view=[
                SeenReport(name=one.name, share=round(one.share, DIGITS), distance_m=rounded(one.distance_m))
                for one in sight.seen
            ],
            model_id=model_id,
            depth_range_m=sight.depth_range_m and tuple(round(metres, DIGITS) for metres in sight.depth_range_m),
        )

    def words(self) -> str:
        """Return the report as sentences."""
        age = '' if self.age_s is None else f', {self.age_s:.2f} s old'
        parts = [f'Image of {self.robot}: {self.width} x {self.height} pixels{age}.']
        if self.shows == 'depth':
            parts.append(
                'Depth is unknown everywhere.'
                if self.depth_range_m is None
                else 'The colours are distances, from {:.2f} m (red) to {:.2f} m (blue); black is unknown.'.format(
                    *self.depth_range_m
                )
            )
        named = [
            f'{one.name} {one.share:.1%}' + ('' if one.distance_m is None else f' at {one.distance_m:.2f} m')
            for one in self.in_view
        ]
        parts.append(f'In view: {"; ".join(named)}.' if named else 'No class is in view.')
        return ' '.join(parts + warnings(self.model_id))


class PlaceReport(BaseModel):
    """The place of a thing."""

    label: str = Field(description='The thing.')
    confidence: float = Field(description='Probability of the thing there, 0 to 1.')
    pixel: tuple[float, float] = Field(description="Pixel of the camera's image, from the left and from the top.")
    box: tuple[int, int, int, int] = Field(description='Left, top, width and height of its pixels; width 0 unknown.')
    position_m: tuple[float, float, float] | None = Field(
        description='Metres in frame_id: x right, y down, z forward (REP 103); null without depth and intrinsics.'
    )
    size_m: tuple[float, float, float] | None = Field(description='Visible extent along x, y and z in metres.')
    distance_m: float | None = Field(description='Metres from the camera; null if unknown.')
    measured: float | None = Field(description='Share of the depth behind it that was measured, not filled, 0 to 1.')

    def words(self, frame_id: str) -> str:
        """Return the place as half a sentence."""
        text = f'pixel ({self.pixel[0]:.0f}, {self.pixel[1]:.0f})'
        if self.distance_m is not None:
            text += f', {self.distance_m:.2f} m away'
        if self.position_m is not None:
            text += ', x {:.2f} m, y {:.2f} m, z {:.2f} m in {}'.format(*self.position_m, frame_id)
        return text


class AnswerReport(Report):
    """An answer of a robot."""

    question: str = Field(description='The question.')
    text: str = Field(description='The answer; "I cannot tell" where `answerable` is false.')
    answerable: bool = Field(description='False where the model cannot tell; `reason` says why.')
    confidence: float = Field(description='Probability of the answer, 0 to 1; 0 where it is none.')
    reason: str = Field(description='Why there is no answer, in one word; empty for an answer.')
    explanation: str = Field(description='The reason in one sentence.')
    suggestions: list[str] = Field(description='Near questions that the model was taught.')
    alternatives: dict[str, float] = Field(description='Other answers and their probabilities; guesses if no answer.')
    read_as: str = Field(description='The question as it was put to the model; empty if it was put to none.')
    scope: str = Field(description='"frame" for the newest image, "episode" for all that is remembered.')
    frames_used: int = Field(description='Number of images that the answer rests on.')
    age_s: float | None = Field(description='Age of the newest of them in seconds; null if unknown.')
    frame_id: str = Field(description='Optical frame of its camera.')
    places: list[PlaceReport] = Field(description='Places of the thing that was asked for, best first.')
    model_id: str = Field(description='Model that answered.')
    latency_s: float = Field(description='Seconds of inference.')

    @classmethod
    def of(cls, robot: str, answer: dict[str, Any]) -> 'AnswerReport':
        """Return the report on an answer of a robot, as `cli.ask.app.answer_dict` returns it."""
        others = {one['label']: rounded(one['score']) for one in answer['alternatives'] if one['label']}
        others.pop(answer['text'], None)
        fields = {name: rounded(answer[name]) for name in cls.model_fields if name in answer}
        return cls.model_validate(fields | {'robot': robot, 'alternatives': others})

    def words(self) -> str:
        """Return the answer and what is to be known of it as sentences."""
        parts = [self.text or '(no words)']
        if self.answerable:
            parts.append(f'(confidence {self.confidence:.2f})')
            parts += [f'At {place.words(self.frame_id)}.' for place in self.places[:1]]
        else:
            parts = [f'{parts[0]}: {self.explanation}']
            if self.suggestions:
                parts.append(f'Did you mean: {" ".join(self.suggestions)}')
        return ' '.join(parts + warnings(self.model_id))


class WhereReport(AnswerReport):
    """The place of a thing, or why there is none."""

    thing: str = Field(description='The thing.')
    found: bool = Field(description='True if `places` holds at least one.')

    def words(self) -> str:
        """Return the place in sentences, or that there is none."""
        if not self.answerable:
            return super().words()
        if not self.found:
            words = f'{self.text} (confidence {self.confidence:.2f}). The robot gives no place in the image for it.'
        else:
            best = self.places[0]
            words = (
                f'{self.text} (confidence {self.confidence:.2f}). {best.label}: {best.words(self.frame_id)} '
                f'(confidence {best.confidence:.2f}).'
            )
        return ' '.join([words, *warnings(self.model_id)])


class HappenedReport(Report):
    """The past of the episode."""

    remembered_s: float = Field(description='Seconds between the first and the last image that is remembered.')
    frames: int = Field(description='Number of images that the memory rests on.')
    actions: list[AnswerReport] = Field(description='Answers about finished actions.')
    about: list[AnswerReport] = Field(description='Answers about the thing that was given; empty without one.')
    answers: list[AnswerReport] = Field(
        description='Answers that the robot gave to anybody since this server first spoke to it, newest last.'
    )

    def words(self) -> str:
        """Return the past in lines."""
        lines = [f'{self.robot} remembers {self.remembered_s:.1f} s ({self.frames} images).']
        lines += [f'{one.question} {one.words()}' for one in (*self.actions, *self.about)]
        if self.answers:
            lines.append('Answered lately: ' + ' '.join(f'"{one.question}" {one.text}.' for one in self.answers[-5:]))
        return '\n'.join(lines)


class ActionReport(BaseModel):
    """An action."""

    action: str = Field(description='Verb and noun.')
    probability: float = Field(description='Probability, 0 to 1.')


class NextReport(Report):
    """The present and the next action."""

    now: list[ActionReport] = Field(
        description='Present action, best first; the probabilities of all add up to that of an action at all.'
    )
    next: list[ActionReport] = Field(description='Next action, best first.')
    horizon_s: float = Field(description='The next action is the one about this many seconds after the image.')
    age_s: float | None = Field(description='Age of the image in seconds; null if unknown.')
    stamp_ns: int = Field(description='Time of exposure in nanoseconds.')
    model_id: str = Field(description='Model that anticipates.')

    @classmethod
    def of(cls, robot: str, message: ActionAnticipation) -> 'NextReport':
        """Return the report on an anticipation of a robot."""
        now, after = (
            [ActionReport(action=one.label, probability=round(one.score, DIGITS)) for one in ranked]
            for ranked in (message.current_actions, message.actions)
        )
        return cls(
            robot=robot,
            now=now,
            next=after,
            horizon_s=rounded(message.horizon_s),
            age_s=rounded(message.age_s) if message.age_s == message.age_s else None,
            stamp_ns=stamp_ns(message.header.stamp),
            model_id=message.model_id,
        )

    def words(self) -> str:
        """Return both in sentences."""
        acting = sum(one.probability for one in self.now)
        if not self.now or acting < ACTION:
            now = f'Now: no action (probability {1 - acting:.2f}).'
        else:
            now = f'Now: {listed(self.now)}.'
        after = f'In {self.horizon_s:g} s: {listed(self.next)}.' if self.next else 'The next action is unknown.'
        return ' '.join([now, after, *warnings(self.model_id)])


class HealthReport(Report):
    """The state of a robot."""

    level: str = Field(description='ok, warn, error, or silent if it reports nothing.')
    sentence: str = Field(description='What is wrong, why, and the fix.')
    values: dict[str, str] = Field(description='Figures as on /diagnostics.')
    server: dict[str, int] = Field(description='Calls of this server by what became of them.')

    def words(self) -> str:
        """Return the state in a sentence and the figures that matter in lines."""
        return '\n'.join(
            [f'{self.robot} is {self.level}: {self.sentence}', *(f'{k}: {v}' for k, v in self.values.items())]
        )


class RobotReport(Report):
    """A robot of the graph."""

    level: str = Field(description='ok, warn, error, or silent if it reports nothing.')
    sentence: str = Field(description='What is wrong, why, and the fix.')
    model_id: str = Field(description='Its model; empty while it has not reported.')
    camera: dict[str, str] = Field(description='Topics that it reads, by rgb, depth and camera_info.')


class RobotsReport(BaseModel):
    """The robots of the graph."""

    robots: list[RobotReport] = Field(description='Robots, in alphabetical order.')

    def words(self) -> str:
        """Return a line for each robot."""
        lines = [f'{one.robot} is {one.level}: {one.sentence} Model: {one.model_id}.' for one in self.robots]
        return '\n'.join(lines) or 'No robot answers; start one with "m3et robot".'


def rounded(value: Any) -> Any:
    """Return a value with DIGITS decimals in all its numbers."""
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, (list, tuple)):
        return [rounded(one) for one in value]
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    return value


def listed(actions: list[ActionReport]) -> str:
    """Return actions with their probabilities in words."""
    return ', '.join(f'{one.action} ({one.probability:.2f})' for one in actions)


def warnings(model_id: str) -> list[str]:
    """Return the sentence that warns of untrained weights, for those."""
    return [f'Warning: {untrained_warning(model_id)}'] if RANDOM in model_id else []
