"""A config of one's own, written from the data: the classes, the numbers and the schedule that these images ask for."""
from .write import TASKS, NewConfig, new_config

__all__ = ['TASKS', 'NewConfig', 'new_config']
