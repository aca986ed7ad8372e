"""Write the backbone of a checkpoint as a .safetensors file that says where it came from.

CHECKPOINT is one of pre-training, or of a classifier, segmenter or detector; OUT.safetensors can be loaded wherever a
checkpoint can (PRETRAINED, init_cfg), and without this project or PyTorch.
"""
import argparse

from .arguments import add_trust_argument, out_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument('checkpoint', metavar='CHECKPOINT')
    parser.add_argument('out', type=out_file, metavar='OUT.safetensors')
    parser.add_argument('--force', action='store_true', help='overwrite OUT.safetensors if it is there')
    add_trust_argument(parser)


def run(args: argparse.Namespace) -> None:
    """Export."""
    from coma_mm.weights import export_backbone
    tensors, metadata = export_backbone(args.checkpoint, args.out, args.force)
    values = sum(value.numel() for value in tensors.values())
    print(f'{args.out}: {len(tensors)} tensors, {values:,} values')
    for key, value in metadata.items():
        print(f'  {key}: {value}')
