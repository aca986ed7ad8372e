"""Installs coma_mm; `pip install -e .` compiles nothing (see docs/install.md)."""
import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
# Read, not imported: importing coma_mm needs the packages that are about to be installed.
VERSION = re.search(r"^__version__ = '(.+)'$", (ROOT / 'coma_mm/version.py').read_text(), re.MULTILINE)[1]

setup(
    name='coma-mm',
    version=VERSION,
    description='CoMA masked autoencoding and DyViT on OpenMMLab: pre-train, then classify, segment and detect',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    packages=find_packages(include=['coma_mm', 'coma_mm.*']),
    # .mim holds links to configs/ and tools/, and what they lead to is packed: mmengine finds `coma_mm::…` there.
    package_data={'coma_mm': ['**/*.j2', '**/*.yaml', '.mim/*.yml', '.mim/configs/**/*.py', '.mim/configs/**/*.yml',
                              '.mim/configs/**/*.md', '.mim/tools/*.sh', '.mim/tools/*.py',
                              'weights/released/*.safetensors', 'weights/released/*.md']},
    entry_points={'console_scripts': ['coma-mm = coma_mm.commands:main']},
    python_requires='>=3.11,<3.14',
    install_requires=[
        # Every torchvision asks for exactly one torch, so pip takes a matching pair.
        'torch>=2.11,<3',
        'torchvision>=0.26,<1',
        # The maintained OpenMMLab: modules mmengine, mmcv, mmpretrain, mmseg, mmdet.
        'onedl-mmengine>=0.10.12,<0.11',
        'onedl-mmcv>=2.3.6,<2.4',
        'onedl-mmpretrain>=1.3.6,<1.4',
        'onedl-mmsegmentation>=1.4.2,<1.5',
        'onedl-mmdetection>=3.5.1,<3.6',
        'numpy>=2.0.1,<3',  # onedl-mmsegmentation wants more than 2.0.0
        'pillow>=11.3',  # which reads AVIF
        'matplotlib>=3.9',
        'jinja2>=3.1.2',  # pandas' tables want it
        'safetensors>=0.5',
        'tifffile>=2025.1',  # images of any bands and depth, and what decodes compressed ones
        'imagecodecs>=2025.3.30',
        'simplejpeg>=1.9',
        'pycocotools>=2.0.8',
        'rich>=13',
        'scipy>=1.14',
        'pandas>=2.3',
        # mmcv asks for the build with a display, which servers cannot import; `make` puts this one on top.
        'opencv-python-headless>=4.10',
    ],
    extras_require={
        'dicom': ['pydicom>=3'],
        'heic': ['pillow-heif>=1'],
        'predict': ['sahi>=0.12'],  # large images by tiles
        'export': ['onnx>=1.20', 'onnxscript>=0.7', 'onnxruntime>=1.24'],
        'signing': ['model-signing>=1.1.1', 'pyopenssl'],  # the second is imported by the first, which does not ask for it
        # COCO's own, which no package index has.
        'panoptic': ['panopticapi @ git+https://github.com/cocodataset/panopticapi.git'],
        'tensorboard': ['tensorboard>=2.20'],
        'wandb': ['wandb>=0.20'],
        'mlflow': ['mlflow>=3'],
        'test': ['pytest>=8', 'pytest-xdist>=3.6', 'hypothesis>=6.100', 'ruff>=0.9', 'setuptools>=77',
                 'playwright>=1.50'],
        # Without these, tests of notebooks and of other libraries are skipped.
        'test-all': ['segmentation-models-pytorch>=0.5', 'nbclient>=0.10', 'ipykernel>=6', 'albumentations>=2',
                     'rasterio>=1.4'],
        'docs': ['mkdocs>=1.6,<2', 'mkdocs-material>=9.7', 'mkdocstrings[python]>=1'],
    },
)
