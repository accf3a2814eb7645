"""A key pair and a certificate that signs itself, made anew by each process.

TLS between nodes needs a certificate also where nobody has given one. Nobody trusts this one for what it says: the
login, which proves the cluster key, names the certificates that each end has seen (`login.py`), so a certificate only
has to belong to the process that shows it. So it holds no name that matters, is good for ever, and ends with its
process. TLS with a pre-shared key (TLS-PSK) would need none; the standard library has it from Python 3.13 on only.
"""

from datetime import UTC, datetime
from typing import NamedTuple


class KeyPair(NamedTuple):
    """A certificate (DER) and both of its parts as PEM, for OpenSSL."""

    certificate: bytes
    pem: bytes
    """Private key, then certificate."""


def self_signed() -> KeyPair:
    """A new pair, on P-256."""
    # The library is loaded by those who need it only: commands without a cluster do not.
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "garrison node")])
    builder = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=datetime(2000, 1, 1, tzinfo=UTC),
        not_valid_after=datetime(9999, 12, 31, tzinfo=UTC),
    )
    made = builder.sign(key, SHA256())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return KeyPair(made.public_bytes(Encoding.DER), private + made.public_bytes(Encoding.PEM))
