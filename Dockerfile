# A robot in a container: docker build -t m3et . && docker run --rm -it --net host --ipc host m3et
# --net and --ipc host let Fast DDS reach the nodes outside, by shared memory where it can.
# For an NVIDIA GPU: docker run --gpus all ...; torch brings its CUDA libraries, so the same image serves.
ARG ROS_DISTRO=jazzy
FROM ros:${ROS_DISTRO}-ros-base

ARG TORCH_INDEX=
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv python3-pip \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /ws
COPY requirements src/m3et_ros/requirements
RUN python3 -m venv --system-site-packages venv && touch venv/COLCON_IGNORE \
    && if [ -n "$TORCH_INDEX" ]; then venv/bin/pip install --no-cache-dir --index-url "$TORCH_INDEX" torch; fi \
    && venv/bin/pip install --no-cache-dir -r src/m3et_ros/requirements/run.txt
COPY . src/m3et_ros
RUN apt-get update \
    && . "/opt/ros/$ROS_DISTRO/setup.bash" && . venv/bin/activate \
    && rosdep update && rosdep install --from-paths src --ignore-src -y --skip-keys launch_pytest \
    && colcon build --packages-select m3et_ros \
    && rm -rf build log /var/lib/apt/lists/*
RUN printf '%s\n' '#!/bin/bash' 'set -e' '. "/opt/ros/$ROS_DISTRO/setup.bash"' '. /ws/install/setup.bash' 'exec "$@"' \
    > /entrypoint && chmod +x /entrypoint
ENTRYPOINT ["/entrypoint"]
CMD ["ros2", "launch", "m3et_ros", "robot.launch.py"]
