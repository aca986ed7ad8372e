"""What is in the data that people have: sizes, classes, depths, copies, and what a run would stumble over."""
from .sets import DataSet, coco_sets, config_sets, folder_sets, segmentation_sets
from .surveying import Survey, survey

__all__ = ['DataSet', 'Survey', 'coco_sets', 'config_sets', 'folder_sets', 'segmentation_sets', 'survey']
