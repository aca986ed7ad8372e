"""Keys for signing."""


def make_keys(folder, name='mine', curve='SECP256R1'):
    """Paths of a new private key and its public part, as openssl would write them."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    key = ec.generate_private_key(getattr(ec, curve)())
    private, public = folder / f'{name}.pem', folder / f'{name}-public.pem'
    pem = serialization.Encoding.PEM
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public
