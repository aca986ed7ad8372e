"""Masked image modelling with CoMA and DyViT, and dense prediction with the result, on OpenMMLab.

Importing the package makes the OpenMMLab libraries importable without compiled operators (`coma_mm.compat`) and
registers everything in mmpretrain's, mmsegmentation's and mmdetection's registries.
"""
from coma_mm.compat import install
from coma_mm.version import __version__  # noqa: F401

install()

from coma_mm import datasets, engine, evaluation, models  # noqa: E402, F401
