"""Export a trained model, or its backbone, to a file that runs without this project: .onnx, .pt2 or .safetensors.

The file is compared with the model on three inputs before it is written, and says how images are prepared for it, what its
outputs and its classes are, and where it comes from; OUT.md, beside it, is its model card. ONNX needs the packages of
`pip install "coma-mm[export]"`. Of what cannot be exported as a whole, `--part backbone` exports the backbone.
"""
import argparse

from .arguments import add_trust_argument, out_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='of a classifier, a segmenter or a detector; of a '
                        'pre-training for its backbone')
    parser.add_argument('out', type=out_file, metavar='OUT', help='OUT.onnx, OUT.pt2 (torch.export), or OUT.safetensors '
                        '(weights alone)')
    parser.add_argument('--config', metavar='CONFIG', help='the config that it was trained with (default: what the '
                        'checkpoint says of its use)')
    parser.add_argument('--part', choices=['model', 'backbone'],
                        help='default: the backbone for .safetensors, else the model')
    parser.add_argument('--license', metavar='TEXT', help='for the file and its card, e.g. CC-BY-4.0')
    parser.add_argument('--half', action='store_true', help='round the weights of OUT.safetensors to float16')
    parser.add_argument('--sign', metavar='KEY.pem',
                        help='sign OUT with a private key, into OUT.sig, which coma-mm verify reads')
    parser.add_argument('--force', action='store_true', help='overwrite OUT and OUT.md if they are there')
    add_trust_argument(parser)


def run(args: argparse.Namespace) -> None:
    """Export."""
    import os

    from coma_mm.inference.export import export
    from coma_mm.weights.signing import sign, signer_of
    if args.sign:
        signer_of(args.sign)  # what is wrong with the key is said before the work is done
    done = export(args.checkpoint, args.out, args.config, args.part, args.force,
                  args.license or '', args.half)
    print(f'{done.path}: {os.path.getsize(done.path) / 1e6:.1f} MB; its card: {done.card}')
    for kind in ('inputs', 'outputs'):
        for name, meaning in (done.facts.get(kind) or {}).items():
            print(f'  {kind[:-1]} {name}: {meaning}')
    if done.fixed:
        print(f'  fixed, not free: {", ".join(done.fixed)}')
    print(f'  compared {done.verified}' if done.verified.startswith('on ') else f'  {done.verified}')
    if args.sign:
        print(f'  signed: {sign(args.out, args.sign)}')
