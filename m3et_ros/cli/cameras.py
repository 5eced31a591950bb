"""`m3et cameras`: the cameras that have a preset, and how their drivers are started."""

from typing import Any

from m3et_ros.cli.options import Json
from m3et_ros.cli.output import print_json, print_line


def describe_cameras() -> list[dict[str, Any]]:
    """Return every preset as plain Python: driver, topics, unit and alignment of depth."""
    from m3et_ros.ros.camera.presets import PRESETS

    return [
        {
            'name': preset.name,
            'cameras': preset.cameras,
            'driver': preset.driver,
            'source': preset.source,
            'start': preset.start,
            'prefix': preset.prefix,
            'topics': preset.topics(),
            'depth_encoding': preset.encoding or None,
            'depth_unit_m': preset.unit_m,
            'alignment': preset.alignment,
            'align_switch': preset.align or None,
            'parameters': preset.parameters,
            'note': preset.note,
        }
        for preset in PRESETS.values()
    ]


def cameras(as_json: Json = False) -> None:
    """List the cameras that m3et robot --preset knows: driver, topics, unit and alignment of depth.

    A webcam, a video or pictures need no driver: m3et robot --webcam 0, --video clip.mp4 or --pictures folder.
    """
    found = describe_cameras()
    if as_json:
        print_json({'cameras': found})
        return
    for camera in found:
        topics = camera['topics']
        unit = {0.001: 'millimetres', 1.0: 'metres'}.get(camera['depth_unit_m'], '')
        print_line(f'{camera["name"]}: {camera["cameras"]}, {camera["driver"]} ({camera["source"]})')
        print_line(f'  driver   {camera["start"]}')
        print_line(f'  robot    m3et robot --preset {camera["name"]}')
        print_line(f'  colour   {topics["rgb/image_raw"]}')
        if unit:
            print_line(f'  depth    {topics["depth/image_raw"]}, {camera["depth_encoding"]} in {unit}')
        print_line(f'  info     {topics["rgb/camera_info"]}')
        print_line(f'  {camera["alignment"]} {camera["note"]}'.rstrip())
        print_line()
