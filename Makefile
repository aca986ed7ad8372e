# make install | demo | test | test-oldest | docs | fuzz | inputs | heads | study | complement-study | small-study | faults | gpu | lint | clean
# PYTHON names the Python to build .venv with: make install PYTHON=python3.12
VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
PYTEST_ARGS ?= -n 2
OLDEST := .venv-oldest
# Where versions show: counting, steps, data, tables, and whole tiny runs of the three libraries.
WHOLE_RUN := tests/test_configs_run.py::test_every_config_runs
OLDEST_TESTS ?= tests/test_benchmark/test_counting tests/test_benchmark/test_speed/test_traffic.py \
	tests/test_benchmark/test_paper/test_tables.py tests/test_models/test_dyvit.py tests/test_models/test_fake_cuda.py \
	tests/test_datasets/test_random_resized_crop.py tests/test_datasets/test_reading/test_read.py \
	tests/test_datasets/test_coco.py tests/test_datasets/test_maps.py \
	tests/test_engine/test_runs.py tests/test_weights/test_load.py tests/test_tools/test_setup_env.py \
	'$(WHOLE_RUN)[shapes/coma_dyvit-tiny_shapes.py]' '$(WHOLE_RUN)[shapes/upernet_dyvit-tiny_scratch_shapes.py]' \
	'$(WHOLE_RUN)[shapes/mask-rcnn_dyvit-tiny_scratch_shapes.py]'
FUZZ_ARGS ?=
INPUTS_ARGS ?=
HEADS_ARGS ?=
COMPLEMENT_ARGS ?=
GPU_ARGS ?=

.PHONY: help install demo test test-oldest docs fuzz inputs heads study complement-study small-study faults gpu lint clean

help:
	@echo 'make demo    pre-train, fine-tune three ways and report, in minutes on a CPU'
	@echo 'make test    run the tests (PYTEST_ARGS="-n 2")'
	@echo 'make docs    build the documentation as a site, build/site/index.html'
	@echo 'make fuzz    thousands of damaged files and settings (FUZZ_ARGS="--only images --seed 1")'
	@echo 'make inputs  hundreds of wrong inputs through the commands, about an hour (INPUTS_ARGS="--only coco")'
	@echo 'make heads   every family of heads of mmdetection and mmsegmentation on DyViT, half an hour (HEADS_ARGS="--only detr")'
	@echo 'make study   the demo with three seeds, each with a pre-training of its own'
	@echo 'make complement-study   does the complement teach? Some hours on a core (COMPLEMENT_ARGS="--minutes 30")'
	@echo 'make small-study   what lets deep stages learn on small images? Some hours on a core (SMALL_ARGS="--only leak")'
	@echo 'make install only create .venv (PYTHON=python3.12)'
	@echo 'make faults  stop runs in many ways, resume them, compare the last bits; look for leaks (about two hours)'
	@echo 'make gpu     acceptance test on a GPU in nine minutes (GPU_ARGS="--minutes 5 --only smoke speed")'
	@echo 'make test-oldest   some tests with the oldest versions that setup.py allows, in .venv-oldest'
	@echo 'make lint    check the style'
	@echo 'make clean   remove .venv and caches; runs in work_dirs stay'

install: $(INSTALLED)

$(INSTALLED): setup.py constraints.txt tools/setup_env.sh
	@tools/setup_env.sh $(VENV) $(PYTHON)

demo: $(INSTALLED)
	$(RUN) tools/demo.py

$(OLDEST)/.installed: setup.py constraints-oldest.txt tools/setup_env.sh
	@CONSTRAINTS=constraints-oldest.txt EXTRAS=test tools/setup_env.sh $(OLDEST) $(or $(PYTHON),python3.11)

test-oldest: $(OLDEST)/.installed
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest $(PYTEST_ARGS) -p no:cacheprovider $(OLDEST_TESTS)

# One thread per process: the tests' tensors are small, and more threads only wait for each other.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(RUN) -m pytest $(PYTEST_ARGS)

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

fuzz: $(INSTALLED)
	$(RUN) tests/campaigns/fuzz/run.py $(FUZZ_ARGS)

inputs: $(INSTALLED)
	$(RUN) tests/campaigns/inputs/run.py $(INPUTS_ARGS)

heads: $(INSTALLED)
	$(RUN) tests/campaigns/heads/run.py $(HEADS_ARGS)

study: $(INSTALLED)
	$(RUN) tools/study.py

complement-study: $(INSTALLED)
	$(RUN) tools/complement_study.py $(COMPLEMENT_ARGS)

small-study: $(INSTALLED)
	$(RUN) tools/small_study.py $(SMALL_ARGS)

faults: $(INSTALLED)
	$(RUN) tests/campaigns/faults/run.py
	$(RUN) tests/campaigns/faults/kill.py
	$(RUN) tests/campaigns/faults/leaks.py

gpu: $(INSTALLED)
	$(RUN) tests/campaigns/gpu/run.py $(GPU_ARGS)

lint: $(INSTALLED)
	$(RUN) -m ruff check .

clean:
	rm -rf $(VENV) $(OLDEST) build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './work_dirs/*' -prune -exec rm -rf {} +
