"""Masked image modelling with CoMA and DyViT, and dense prediction with the result, on OpenMMLab.

Importing the package makes the OpenMMLab libraries importable without compiled operators (`coma_mm.compat`) and
registers everything in mmpretrain's, mmsegmentation's and mmdetection's registries.
"""
__version__ = '0.1.0'

from coma_mm.compat import install

install()

from coma_mm import datasets, engine, evaluation, models  # noqa: E402, F401
