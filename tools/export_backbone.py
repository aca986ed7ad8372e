#!/usr/bin/env python
"""Write the backbone of a checkpoint as a .safetensors file that says where it came from.

CHECKPOINT is one of pre-training, or of a classifier, segmenter or detector; OUT.safetensors can be loaded wherever a
checkpoint can (PRETRAINED, init_cfg), and without this project or PyTorch.
"""
import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a checkout runs without being installed

from coma_mm.engine import cli  # noqa: E402
from coma_mm.weights.export import export_backbone  # noqa: E402


def parse_args():
    """Namespace: The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', metavar='CHECKPOINT')
    parser.add_argument('out', metavar='OUT.safetensors')
    parser.add_argument('--force', action='store_true', help='replace OUT.safetensors if it is there')
    cli.add_trust_argument(parser)
    return parser.parse_args()


def main():
    """Export."""
    args = parse_args()
    tensors, metadata = export_backbone(args.checkpoint, args.out, args.force)
    values = sum(value.numel() for value in tensors.values())
    print(f'{args.out}: {len(tensors)} tensors, {values:,} values')
    for key, value in metadata.items():
        print(f'  {key}: {value}')


if __name__ == '__main__':
    cli.main(main)
