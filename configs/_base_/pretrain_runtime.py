"""mmpretrain's runtime, and what a pre-training shows of its quality at each validation: docs/transfer.md."""
_base_ = 'mmpretrain::_base_/default_runtime.py'
default_hooks = dict(probe=dict(type='OnlineProbeHook'), reconstructions=dict(type='ReconstructionsHook'))
