"""The layout for Foxglove, from the names of the channels.

python -m m3et_ros.cli.view.foxglove_layout > config/m3et.foxglove.json
python -m m3et_ros.cli.view.foxglove_layout /left > left.json
"""

import json
import sys
from typing import Any

ROBOT = '/m3et'
"""Namespace of the robot of the shipped layout."""
HEALTH = 'model/health.values'
AHEAD = (1.5, 0.0, 0.0)
"""Point that the view in space looks at from behind, in metres ahead of the camera."""
WINDOW_S = 60.0
"""Seconds that a plot shows."""


def layout(robot: str = ROBOT) -> dict[str, Any]:
    """Return the layout of one robot as JSON: space and pictures above, answers, actions and health below.

    Args:
        robot: its namespace.
    """
    import foxglove.layouts as fl

    pictures = _split(
        'column',
        (1, _picture('Colour', robot, 'rgb', boxes='model/boxes')),
        (1, _picture('Classes', robot, 'model/overlay')),
        (1, _picture('Completed depth', robot, 'model/depth')),
    )
    answers = fl.LogPanel(title='Answers', config=fl.LogConfig(topic_to_render=f'{robot}/model/answer'))
    below = _split(
        'row',
        (2, answers),
        (2, _actions(robot)),
        (1, _plot('Rates in Hz', robot, arriving='rate_in_hz', served='rate_out_hz')),
        (1, _plot('Seconds', robot, age='age_s.p50', inference='latency_s.p50')),
    )
    whole = _split('column', (2, _split('row', (3, _space(robot)), (2, pictures))), (1, below))
    return json.loads(fl.Layout(content=whole).to_json())


def _split(direction: Any, *items: tuple[float, Any]) -> Any:
    import foxglove.layouts as fl

    parts = [fl.SplitItem(proportion=share, content=content) for share, content in items]
    return fl.SplitContainer(direction=direction, items=parts)


def _space(robot: str) -> Any:
    """Return the view in space: completed depth as points in the colours of the camera, and the places of answers."""
    import foxglove.layouts as fl

    points = fl.BaseRendererImageTopicSettings(
        visible=True,
        camera_info_topic=f'{robot}/camera_info',
        render_mode='pointCloud',
        sibling_rgb_topic=f'{robot}/rgb',
        color_mode='rgb',
        distance_type='zAxis',
    )
    config = fl.ThreeDeeConfig(
        follow_tf=f'{robot.strip("/").replace("/", "_")}_view',
        camera_state=fl.ThreeDeeCameraState(distance=3.0, phi=60.0, theta_offset=90.0, target_offset=AHEAD),
        topics={
            f'{robot}/model/depth': points,
            f'{robot}/model/places': fl.BaseRendererSceneUpdateTopicSettings(visible=True),
            f'{robot}/model/things': fl.BaseRendererSceneUpdateTopicSettings(visible=True),
        },
    )
    return fl.ThreeDeePanel(title='In space', config=config)


def _picture(title: str, robot: str, channel: str, *, boxes: str = '') -> Any:
    import foxglove.layouts as fl

    shown = fl.ImageModeConfig(
        image_topic=f'{robot}/{channel}',
        calibration_topic=f'{robot}/camera_info',
        annotations={f'{robot}/{boxes}': fl.ImageAnnotationSettings(visible=True)} if boxes else None,
    )
    return fl.ImagePanel(title=title, config=fl.ImageConfig(image_mode=shown))


def _plot(title: str, robot: str, **figures: str) -> Any:
    import foxglove.layouts as fl

    lines = [fl.PlotSeries(value=f'{robot}/{HEALTH}.{path}', label=name) for name, path in figures.items()]
    return fl.PlotPanel(title=title, config=fl.PlotConfig(paths=lines, following_view_width=WINDOW_S))


def _actions(robot: str) -> Any:
    """Return the running names of the present and of the next action."""
    import foxglove.layouts as fl

    lanes = [
        fl.StateTransitionsSeries(value=f'{robot}/model/anticipation.{name}[0].label', label=name)
        for name in ('now', 'next')
    ]
    return fl.StateTransitionsPanel(title='Actions', config=fl.StateTransitionsConfig(paths=lanes))


if __name__ == '__main__':
    print(json.dumps(layout(*sys.argv[1:2]), indent=2))
