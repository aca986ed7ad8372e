"""The report on runs, whole: what there is of them is in it, and it opens where people read it."""
import re

import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS

from coma_mm.benchmark import complexity, coverage
from coma_mm.errors import UserError
from tests.chromium import Page, find_chromium
from tests.small_runs import shrink, write_data

from .helpers import age, config_of, imagenet_run, train, write_run
from .test_collect import run_tool

PRETRAINING, CLASSIFIER = 'shapes/coma_dyvit-tiny_shapes', 'shapes/dyvit-tiny_coma_shapes'
