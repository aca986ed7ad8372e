"""Verify that a file is what somebody signed with a key.

The signature is a file beside it, FILE.sig; the public key is one that you have from its owner, not from where FILE is.
Whatever does not fit ends with one line and exit code 2.
"""
import argparse

from coma_mm.errors import printable

REGISTERS = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument('file', metavar='FILE', help='of weights, or a folder with all that is in it')
    parser.add_argument('--key', required=True, metavar='PUBLIC.pem', help='public key of who has signed it')
    parser.add_argument('--signature', metavar='FILE.sig', help='default: FILE with .sig behind it')


def run(args: argparse.Namespace) -> None:
    """Verify."""
    from pathlib import Path

    from coma_mm.weights.signing import verify
    name = verify(args.file, args.key, args.signature)
    print(f'{printable(args.file)} is what was signed with the key {printable(args.key)}')
    if name != Path(args.file).resolve().name and name != Path(args.file).name:
        print(f'warning: it was signed under the name {name}; is it the file that you mean?')
