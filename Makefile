# make demo      set up, then the simulated kitchen with the robot looking at it
# make test      set up, then all tests
# make train     set up, then train the shipped weights from nothing (about 4 h on 2 cores; goes on where it stopped)
# make doctor    set up, then what this machine has and what is wrong
# make lint      ruff, as in pyproject.toml
# make clean     remove the environment and everything built
#
# Settings: PYTHON=python3.12  VENV=.venv  ROS_WHEELS=jazzy|kilted  TORCH_INDEX=<package index>  ARGS=<options>

PYTHON ?= python3
VENV ?= .venv
ROS_WHEELS ?= jazzy
TORCH_INDEX ?=
ARGS ?=

# A sourced ROS installation must not mix with the wheels.
unexport PYTHONPATH AMENT_PREFIX_PATH CMAKE_PREFIX_PATH RMW_IMPLEMENTATION

set_up = $(PYTHON) scripts/set_up.py --venv '$(VENV)' --ros '$(ROS_WHEELS)' --torch-index '$(TORCH_INDEX)'

.PHONY: demo test train doctor lint clean

demo:
	@$(set_up)
	@$(VENV)/bin/m3et demo $(ARGS)

# Two workers with one thread each: spinning thread pools on few cores slow each other down.
test: export OMP_NUM_THREADS = 1
test: export OMP_WAIT_POLICY = PASSIVE
test:
	@$(set_up) --tests
	@$(VENV)/bin/python -m pytest test -n 2 --dist loadfile $(ARGS)

train:
	@$(set_up)
	@$(VENV)/bin/python scripts/train_kitchen.py $(ARGS)

doctor:
	@$(set_up)
	@$(VENV)/bin/m3et doctor $(ARGS)

lint:
	@$(VENV)/bin/python -m ruff --version >/dev/null 2>&1 || $(VENV)/bin/python -m pip install -q 'ruff~=0.17'
	@$(VENV)/bin/python -m ruff check $(ARGS) .

clean:
	rm -rf .venv build install log *.egg-info m3et_ros/msg m3et_ros/srv m3et_ros/action m3et_ros/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
