"""A certificate for `localhost` that signs itself, good for a hundred years, for tests only.

Made with: openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes
-days 36500 -subj /CN=localhost -addext subjectAltName=DNS:localhost
"""

from pathlib import Path

CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBlDCCATugAwIBAgIUPIE9drqKuD3TQU+f6CCPYy0PW3QwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMzAzMDkzM1oYDzIxMjYxMDMw
MDMwOTMzWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAS4i61frKC8KoSs8d7Ek7m8lEoZaQZqQZwPZP7BZM+KvlYEhN+3TsRc
7+ra3NfJ9sgTQSwbaZ5DusdBgmIj3xGqo2kwZzAdBgNVHQ4EFgQUke41XpQvqbLn
927UVjE87ZBLj1gwHwYDVR0jBBgwFoAUke41XpQvqbLn927UVjE87ZBLj1gwDwYD
VR0TAQH/BAUwAwEB/zAUBgNVHREEDTALgglsb2NhbGhvc3QwCgYIKoZIzj0EAwID
RwAwRAIgEsEFCXzLtErSCM54K5hJg7GwJC2DdGXnBLJ29m7XADoCIHfvnYcvc/lO
z0qzr5f7J8Je9Lywcz2SaKMEd4QwhiGp
-----END CERTIFICATE-----
"""
KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgDI8BUHtg/v6qjeXu
4uRJszDO7El3JharBr8AaBeMIWyhRANCAAS4i61frKC8KoSs8d7Ek7m8lEoZaQZq
QZwPZP7BZM+KvlYEhN+3TsRc7+ra3NfJ9sgTQSwbaZ5DusdBgmIj3xGq
-----END PRIVATE KEY-----
"""


def write_self_signed(folder: Path) -> tuple[str, str]:
    """Paths of the certificate and of its key, in `folder`, as PEM."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    certificate.write_text(CERTIFICATE)
    key.write_text(KEY)
    return str(certificate), str(key)
