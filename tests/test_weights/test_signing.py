"""A signed file is verified with the right key alone, and as it was."""
import base64
import json
import sys

import pytest

from coma_mm.errors import MissingFileError, UserError
from coma_mm.weights.signing import sign, verify
from tests.helpers.keys import make_keys

pytest.importorskip('model_signing', reason="needs the extra 'signing'")


@pytest.fixture
def signed(tmp_path):
    """A file with its signature, the private and the public key."""
    private, public = make_keys(tmp_path)
    path = tmp_path / 'model.onnx'
    path.write_bytes(b'weights')
    assert sign(path, private) == f'{path}.sig'
    return path, private, public


def refused(path, public, message, signature=None):
    """Assert that a file is refused, in one line."""
    with pytest.raises(UserError, match=message) as found:
        verify(path, public, signature)
    assert '\n' not in str(found.value)


def test_what_was_signed_is_verified_also_under_another_name_and_by_a_link(signed, tmp_path):
    path, _, public = signed
    assert verify(path, public) == 'model.onnx'
    renamed = path.rename(tmp_path / 'other.onnx')
    assert verify(renamed, public, f'{path}.sig') == 'model.onnx'
    (tmp_path / 'link').symlink_to(renamed)
    assert verify(tmp_path / 'link', public, f'{path}.sig') == 'model.onnx'


def test_a_folder_is_signed_with_all_that_is_in_it(tmp_path):
    private, public = make_keys(tmp_path, curve='SECP384R1')
    folder = tmp_path / 'export'
    (folder / 'inner').mkdir(parents=True)
    (folder / 'inner/weights').write_text('weights')
    assert sign(f'{folder}/', private) == f'{folder}.sig'
    assert verify(folder, public) == 'export'
    (folder / 'added').touch()
    refused(folder, public, 'it was altered')


def test_an_altered_file_is_refused(signed):
    path, _, public = signed
    path.write_bytes(b'Weights')
    refused(path, public, r'model.onnx is not verified: it was altered after .*model.onnx.sig was made.*; do not use it$')


def test_the_signature_of_another_key_is_refused(signed, tmp_path):
    path, _, _ = signed
    _, other = make_keys(tmp_path, 'other')
    refused(path, other, 'model.onnx.sig is of another key than .*other-public.pem')


def damaged(bundle):
    """Signatures that were altered: the list of files, the hint at the key, the format."""
    envelope = bundle['dsseEnvelope']
    content = base64.b64decode(envelope['payload']).replace(b'model.onnx', b'other.onnx')
    envelope = dict(envelope, payload=base64.b64encode(content).decode())
    yield bundle | dict(dsseEnvelope=envelope), 'was altered, or is not of'
    yield bundle | dict(dsseEnvelope=envelope | dict(signatures=[])), 'is no signature'
    yield bundle | dict(mediaType='text/plain'), 'is no signature'
    yield {}, 'is no signature'
    yield 'text', 'is no signature'


def test_an_altered_signature_is_refused(signed):
    path, _, public = signed
    signature = path.with_name('model.onnx.sig')
    for altered, message in damaged(json.loads(signature.read_text())):
        signature.write_text(json.dumps(altered))
        refused(path, public, message)
    signature.write_bytes(b'\xff\0')
    refused(path, public, 'is no signature')


def test_a_hint_at_another_key_does_not_make_it_right(signed, tmp_path):
    """The hint is not signed: whoever alters it, or takes it out, needs the key all the same."""
    path, _, public = signed
    _, other = make_keys(tmp_path, 'other')
    signature = path.with_name('model.onnx.sig')
    bundle = json.loads(signature.read_text())
    del bundle['verificationMaterial']['publicKey']['hint']
    signature.write_text(json.dumps(bundle))
    refused(path, other, 'was altered, or is not of the key .*other-public')


@pytest.mark.parametrize('key, why', [('missing.pem', 'No such file'), ('model.onnx', ''), ('mine.pem', '')])
def test_what_is_no_public_key_is_said(signed, tmp_path, key, why):
    refused(signed[0], tmp_path / key, f'{key} cannot be used for verifying .*{why}.*expected the PEM file of a public key')


def test_what_is_no_private_key_is_said(signed, tmp_path):
    path, _, public = signed
    curve, _ = make_keys(tmp_path, 'curve', 'SECP256K1')
    before = path.with_name('model.onnx.sig').read_bytes()
    for key in (public, tmp_path / 'missing.pem', path, curve):
        with pytest.raises(UserError, match=f'{key.name} cannot be used for signing .*; expected the PEM file of a private'):
            sign(path, key)
    assert path.with_name('model.onnx.sig').read_bytes() == before


def test_files_that_are_not_there_are_named(signed, tmp_path):
    path, private, public = signed
    with pytest.raises(MissingFileError, match='no file .*other.onnx'):
        verify(tmp_path / 'other.onnx', public)
    with pytest.raises(MissingFileError, match='no file .*other.onnx'):
        sign(tmp_path / 'other.onnx', private)
    path.with_name('model.onnx.sig').unlink()
    with pytest.raises(MissingFileError, match='cannot read the signature .*model.onnx.sig .*--signature'):
        verify(path, public)
    with pytest.raises(UserError, match='cannot sign .* No such file'):
        sign(path, private, tmp_path / 'missing/model.sig')


def test_without_the_package_one_line_names_the_extra(signed, monkeypatch):
    path, private, public = signed
    monkeypatch.setitem(sys.modules, 'model_signing', None)
    for job in (lambda: sign(path, private), lambda: verify(path, public)):
        with pytest.raises(UserError, match=r"model-signing, .*; pip install 'coma-mm\[signing\]'$"):
            job()


def test_the_tool_says_what_it_found(signed, run_tool, tmp_path):
    path, _, public = signed
    assert 'is what was signed with the key' in run_tool('verify.py', path, '--key', public)
    path.rename(tmp_path / 'best.onnx')
    text = run_tool('verify.py', tmp_path / 'best.onnx', '--key', public, '--signature', f'{path}.sig')
    assert 'warning: it was signed under the name model.onnx' in text
    (tmp_path / 'best.onnx').write_text('altered')
    assert 'it was altered' in run_tool('verify.py', tmp_path / 'best.onnx', '--key', public, '--signature', f'{path}.sig',
                                        code=2)
