"""The operators of `mmcv._ext` on PyTorch's and torchvision's, one module for each family.

Names, arguments and outputs that are written in place are those that `mmcv.ops` calls, on any device that PyTorch has.
"""
