"""Cameras by name: topics, depth and the driver's switch that aligns it, as the vendors' ROS 2 drivers have them.

The table was made from the source and documentation of the driver versions that it names. All of them follow REP 118:
depth is 16UC1 in millimetres or 32FC1 in metres, so `depth_unit_m` needs no other value. Compressed images are on
<topic>/compressed and <topic>/compressedDepth where image_transport_plugins is installed; the model node finds them.
"""

import difflib
from dataclasses import dataclass

UNITS_M = {'16UC1': 0.001, '32FC1': 1.0}
"""Metres of one unit of the depth encodings (REP 118)."""
DEFAULT = 'realsense'


@dataclass(frozen=True, kw_only=True)
class CameraPreset:
    """One camera with its ROS 2 driver."""

    # Name of the preset.
    name: str
    # Cameras that the driver serves.
    cameras: str
    # Package and version of the driver.
    driver: str
    # Page that describes it.
    source: str
    # Command that starts it with aligned depth.
    start: str
    # Prefix of its topics unless the driver is told otherwise; '' for none.
    prefix: str
    # Topics below the prefix; depth is '' where there is none.
    rgb: str
    info: str
    depth: str = ''
    # Encoding of the depth images; '' where there are none.
    encoding: str = ''
    # Switch of the driver that aligns depth to colour; '' where it is always aligned or there is none.
    align: str = ''
    # True where depth is not aligned unless the switch is given.
    align_needed: bool = False
    # What else must be known.
    note: str = ''

    @property
    def unit_m(self) -> float | None:
        """Metres of one unit of its depth images; None without depth."""
        return UNITS_M.get(self.encoding)

    @property
    def parameters(self) -> dict[str, str]:
        """Parameters that the model node needs for this camera."""
        return {} if self.depth else {'depth_transport': 'none'}

    @property
    def alignment(self) -> str:
        """One sentence about the depth of this camera."""
        if not self.depth:
            return 'This camera has no depth; the model predicts it.'
        if self.align_needed:
            return f'Its depth must be aligned to colour: start the driver with {self.align}.'
        return 'Its depth is aligned to colour' + (f' while the driver has {self.align}.' if self.align else '.')

    def topics(self, prefix: str = '') -> dict[str, str]:
        """Return the topic for each input of the model node, every transport among them.

        Args:
            prefix: prefix of the driver's topics; '' takes that of the preset.
        """
        base = (prefix or self.prefix).rstrip('/')
        rgb, depth = f'{base}/{self.rgb}', f'{base}/{self.depth}'
        found = {
            'rgb/image_raw': rgb,
            'rgb/image_raw/compressed': f'{rgb}/compressed',
            'rgb/camera_info': f'{base}/{self.info}',
        }
        if self.depth:
            found |= {
                'depth/image_raw': depth,
                'depth/image_raw/compressedDepth': f'{depth}/compressedDepth',
                'depth/image_raw/compressed': f'{depth}/compressed',
            }
        return found


PRESETS = {
    preset.name: preset
    for preset in (
        CameraPreset(
            name='realsense',
            cameras='RealSense D400 series',
            driver='realsense2_camera 4.56',
            source='https://github.com/IntelRealSense/realsense-ros',
            start='ros2 launch realsense2_camera rs_launch.py align_depth.enable:=true',
            prefix='/camera/camera',
            rgb='color/image_raw',
            info='color/camera_info',
            depth='aligned_depth_to_color/image_raw',
            encoding='16UC1',
            align='align_depth.enable:=true',
            align_needed=True,
        ),
        CameraPreset(
            name='zed',
            cameras='ZED 2, 2i, Mini, X',
            driver='zed_wrapper 5.4',
            source='https://github.com/stereolabs/zed-ros2-wrapper',
            start='ros2 launch zed_wrapper zed_camera.launch.py camera_model:=zed2i',
            prefix='/zed/zed_node',
            # Since 5.1; before, rgb/image_rect_color. Colour is that of the left lens, and so is depth.
            rgb='rgb/color/rect/image',
            info='rgb/color/rect/camera_info',
            depth='depth/depth_registered',
            encoding='32FC1',
            note='Before version 5.1 colour was on rgb/image_rect_color: give --remap for it.',
        ),
        CameraPreset(
            name='oak',
            cameras='OAK-D series',
            driver='depthai_ros_driver 2.10',
            source='https://github.com/luxonis/depthai-ros',
            start='ros2 launch depthai_ros_driver camera.launch.py',
            prefix='/oak',
            rgb='rgb/image_raw',
            info='rgb/camera_info',
            depth='stereo/image_raw',
            encoding='16UC1',
            align='stereo.i_align_depth: true (its default)',
        ),
        CameraPreset(
            name='orbbec',
            cameras='Gemini 2 and 330 series, Femto, Astra 2',
            driver='orbbec_camera 2.6',
            source='https://github.com/orbbec/OrbbecSDK_ROS2',
            start='ros2 launch orbbec_camera gemini_330_series.launch.py depth_registration:=true',
            prefix='/camera',
            rgb='color/image_raw',
            info='color/camera_info',
            depth='depth/image_raw',
            encoding='16UC1',
            align='depth_registration:=true',
            align_needed=True,
        ),
        CameraPreset(
            name='usb_cam',
            cameras='webcams',
            driver='usb_cam 0.8',
            source='https://github.com/ros-drivers/usb_cam',
            start='ros2 run usb_cam usb_cam_node_exe',
            # The launch file of the driver puts its topics below /camera1; the node alone has no prefix.
            prefix='',
            rgb='image_raw',
            info='camera_info',
            note='ros2 launch usb_cam camera.launch.py needs --camera /camera1.',
        ),
        CameraPreset(
            name='astra',
            cameras='Astra, Astra Pro, Dabai, Gemini (OpenNI)',
            driver='astra_camera 1.1',
            source='https://github.com/orbbec/ros2_astra_camera',
            start='ros2 launch astra_camera astra.launch.xml depth_registration:=true',
            prefix='/camera',
            rgb='color/image_raw',
            info='color/camera_info',
            depth='depth/image_raw',
            encoding='16UC1',
            align='depth_registration:=true',
            align_needed=True,
        ),
    )
}
"""Every preset by its name."""


def find_preset(name: str) -> CameraPreset:
    """Return a preset.

    Raises:
        ValueError: there is none of this name; the sentence lists them and names the nearest.
    """
    if name in PRESETS:
        return PRESETS[name]
    near = difflib.get_close_matches(name.lower(), PRESETS, 1, 0.5)
    hint = f'did you mean {near[0]}?' if near else 'm3et cameras describes them.'
    raise ValueError(f'There is no camera preset {name[:60]!r}; there are {", ".join(PRESETS)}: {hint}')
