"""From a config file and a command line to a config that a runner takes."""
from .read import read_config

__all__ = ['read_config']
