"""A slow model behind a fast camera serves the newest frame each time and counts every other one."""

import time

from m3et_ros.msg import ActionAnticipation
from m3et_ros.ros.convert import stamp_ns
from m3et_ros.runtime.engine import Engine

DELAY_S, PERIOD_S = 1.0, 0.1


def test_the_newest_frame_wins(robot_here, monkeypatch):
    encode = Engine.encode

    def slowly(*args, **options):
        time.sleep(DELAY_S)
        return encode(*args, **options)

    robot = robot_here('slow').ready()
    monkeypatch.setattr(Engine, 'encode', slowly)
    served = robot.listen(ActionAnticipation, 'anticipation')

    def stream():
        robot.show(time.time())
        time.sleep(PERIOD_S)
        return len(served) >= 4

    robot.ros.until(stream, 60)
    # Number of frames between the served one and the start of its inference; a queue of ten would make it ten.
    missed = sorted((m.age_s - m.latency_s - DELAY_S) / PERIOD_S for m in served[1:])
    assert missed[len(missed) // 2] < 5
    status = robot.ros.until(lambda: robot.count('frame_superseded') and robot.diagnosis())
    stamps = [stamp_ns(m.header.stamp) for m in served]
    assert stamps == sorted(set(stamps))
    assert int(status['frames_out']) + int(status['dropped/frame_superseded']) <= int(status['frames_in'])
    assert robot.ask('what is this?').success
