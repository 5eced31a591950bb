"""Results of the engine as messages; headers are those of the input frame, never restamped."""

from builtin_interfaces.msg import Time
from rclpy.time import Time as Clock
from std_msgs.msg import ColorRGBA, Header

from m3et_ros.data.types import Labels
from m3et_ros.msg import ActionAnticipation, Answer, LabelMap, ScoredLabel
from m3et_ros.runtime.results import Anticipation, Ranked, Reply

NANOSECONDS = 1_000_000_000


def stamp_ns(stamp: Time) -> int:
    """Nanoseconds since the epoch of a message stamp."""
    return stamp.sec * NANOSECONDS + stamp.nanosec


def stamp_msg(nanoseconds: int) -> Time:
    """Message stamp of nanoseconds since the epoch."""
    return Time(sec=nanoseconds // NANOSECONDS, nanosec=nanoseconds % NANOSECONDS)


def age_s(header: Header, now: Clock) -> float:
    """Seconds from a header's stamp to now; negative when the clocks disagree."""
    return (now.nanoseconds - stamp_ns(header.stamp)) / NANOSECONDS


def scored(candidates: tuple[Ranked, ...]) -> list[ScoredLabel]:
    """ScoredLabel messages of ranked candidates."""
    return [ScoredLabel(id=c.id, label=c.label, score=float(c.score)) for c in candidates]


def answer_msg(reply: Reply, header: Header, model_id: str, now: Clock) -> Answer:
    """Answer message of a reply about the image with this header."""
    return Answer(
        header=header, question=reply.question, text=reply.text, confidence=float(reply.confidence),
        alternatives=scored(reply.alternatives), scope=reply.scope, frames_used=reply.frames_used,
        span_start=stamp_msg(reply.first_ns), model_id=model_id, latency_s=float(reply.latency_s),
        age_s=age_s(header, now))


def anticipation_msg(result: Anticipation, header: Header, model_id: str, now: Clock) -> ActionAnticipation:
    """ActionAnticipation message of a result for the image with this header."""
    return ActionAnticipation(
        header=header, horizon_s=float(result.horizon_s),
        verbs=scored(result.next.verbs), nouns=scored(result.next.nouns), actions=scored(result.next.actions),
        current_verbs=scored(result.now.verbs), current_nouns=scored(result.now.nouns),
        current_actions=scored(result.now.actions), model_id=model_id, latency_s=float(result.latency_s),
        age_s=age_s(header, now))


def label_map_msg(labels: Labels, header: Header) -> LabelMap:
    """LabelMap message of the segmentation classes."""
    colors = [ColorRGBA(r=r / 255, g=g / 255, b=b / 255, a=1.0) for r, g, b in labels.colors]
    return LabelMap(header=header, ids=list(range(len(labels.classes))), names=list(labels.classes), colors=colors)
