"""Signing files of weights with a key of one's own, and verifying them, by the package model-signing (docs/signing.md)."""
import base64
import json
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from coma_mm.errors import MissingFileError, UserError, printable
from coma_mm.files import read_text, write_whole

CURVES = 'secp256r1, secp384r1 or secp521r1'


def signer_of(private_key: str | Path) -> Any:
    """What signs with a key; a command that signs in the end asks for it before the work is done.

    Args:
        private_key (str | Path): See `sign`.

    Returns:
        model_signing.signing.Config: Its `sign(path, signature)` signs.

    Raises:
        UserError: If the package is missing, or the key cannot be used.
    """
    signing = _package('signing')
    try:
        return signing.Config().use_elliptic_key_signer(private_key=private_key)
    except Exception as error:  # by what is in the file: OSError, ValueError, TypeError, AttributeError, …
        raise UserError(f'{private_key} cannot be used for signing ({_why(error)}); expected the PEM file of a private key '
                        f'of {CURVES}, without a password') from error


def sign(path: str | Path, private_key: str | Path, signature: str | Path | None = None) -> str:
    """Sign a file, or a folder with all that is in it, with a private key.

    What is signed is a list of the files with their SHA-256 hashes; the signature is a file of its own, in the format of
    Sigstore, which the program `model_signing` reads as well. Nothing is sent anywhere.

    Args:
        path (str | Path): The file or the folder, which stay as they are.
        private_key (str | Path): A key in a PEM file, of an elliptic curve.
        signature (str | Path, optional): The file to write, whole or not at all. Defaults to `path` with '.sig' behind it.

    Returns:
        str: The file that was written.

    Raises:
        UserError: If the package is missing, the file or the key cannot be read, or the signature cannot be written.
    """
    signer, target = signer_of(private_key), _there(path)
    signature = _signature(path) if signature is None else str(signature)
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder, 'signature')
        try:
            signer.sign(target, written)
            write_whole(signature, written.read_bytes())
        except (OSError, ValueError) as error:
            raise UserError(f'cannot sign {path} into {signature}: {_why(error)}') from error
    return signature


def verify(path: str | Path, public_key: str | Path, signature: str | Path | None = None) -> str:
    """See whether a file, or a folder, is what somebody signed with the private part of a key.

    Args:
        path (str | Path): The file or the folder.
        public_key (str | Path): The public part of the key, in a PEM file that does not come from where the file does.
        signature (str | Path, optional): What `sign` wrote. Defaults to `path` with '.sig' behind it.

    Returns:
        str: The name that it was signed under. Another one may be right, or one signed file may be in another's place.

    Raises:
        UserError: If it was altered or is not signed by this key, if a file cannot be read, or the package is missing.
    """
    verifying = _package('verifying')
    target = _there(path)
    signature = _signature(path) if signature is None else str(signature)
    try:
        text = read_text(signature, limit=2**24)
    except OSError as error:
        kind = MissingFileError if isinstance(error, FileNotFoundError) else UserError
        raise kind(f'cannot read the signature {signature} of {path}: {error.strerror}; name its file with '
                   '--signature') from error
    try:
        verifier = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    except Exception as error:  # as above
        raise UserError(f'{public_key} cannot be used for verifying ({_why(error)}); expected the PEM file of a public key '
                        f'of {CURVES}') from error
    with tempfile.TemporaryDirectory() as folder:  # what is verified is what was read
        read = Path(folder, 'signature')
        read.write_text(text, encoding='utf-8')
        try:
            verifier.verify(target, read)
        except Exception as error:  # a file from elsewhere may raise anything
            raise UserError(f'{path} is not verified: {_refusal(error, signature, public_key)}; do not use it') from error
    return printable(json.loads(base64.b64decode(json.loads(text)['dsseEnvelope']['payload']))['subject'][0]['name'])


def _package(module: str) -> ModuleType:
    try:
        from model_signing import signing, verifying
    except ImportError as error:
        raise UserError(f'signatures need the package model-signing, which cannot be imported ({_why(error)}); '
                        "pip install 'coma-mm[signing]'") from error
    return dict(signing=signing, verifying=verifying)[module]


def _there(path: str | Path) -> Path:
    """The file or folder itself: the package takes no links, and caches of downloads are made of them."""
    if not Path(path).exists():
        raise MissingFileError(f'no file {path}; expected one that was, or is to be, signed')
    return Path(path).resolve()


def _signature(path: str | Path) -> str:
    return f'{str(path).rstrip("/")}.sig'


def _refusal(error: Exception, signature: str, public_key: str | Path) -> str:
    """Why the package refuses a signature."""
    from cryptography.exceptions import InvalidSignature
    if isinstance(error, InvalidSignature):
        return f'{signature} was altered, or is not of the key {public_key}'
    if str(error).startswith('Key mismatch'):
        return f'{signature} is of another key than {public_key}'
    if str(error).startswith('Signature mismatch'):
        return f'it was altered after {signature} was made, or that is of another file'
    return f'{signature} is no signature of model-signing ({type(error).__name__})'


def _why(error: Exception) -> str:
    text = getattr(error, 'strerror', None) or str(error) or type(error).__name__
    return printable(text.splitlines()[0])
