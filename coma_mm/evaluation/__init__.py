from .reconstruction import ReconstructionError

__all__ = ['ReconstructionError']
