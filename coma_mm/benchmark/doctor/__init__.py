"""What stands between a machine and a training on it, a line each: the library of tools/doctor.py.

Nothing here imports torch or the libraries at its top: what cannot be imported is a finding, too.
"""
from .finding import BAD, LOOK, OK, Finding, examine

__all__ = ['BAD', 'LOOK', 'OK', 'Finding', 'examine']
