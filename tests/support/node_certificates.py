"""Certificates of nodes, for tests only: two authorities, two nodes of the first, one node of the second, and one whose
certificate by the first has expired. Good for a hundred years otherwise.

Made with `openssl req -x509` for the authorities and `openssl ca -startdate … -enddate …` for the rest, on P-256.
"""

from pathlib import Path
from typing import NamedTuple

CA = """\
-----BEGIN CERTIFICATE-----
MIIBcDCCARegAwIBAgIUdqw/AuM4G5mOmFM6zOczkYuahZgwCgYIKoZIzj0EAwIw
DTELMAkGA1UEAwwCY2EwIBcNMjYxMTI4MjMzMTU2WhgPMjEyNjExMDQyMzMxNTZa
MA0xCzAJBgNVBAMMAmNhMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE0XpNrBZu
1W+Mfz7AckdC4esCEeJH8Bcw9mQTo91xbcACMKaeqs0wBjl2/FxIoOiwgTlOb4SY
ybN+2xu2qx3onKNTMFEwHQYDVR0OBBYEFNoq27ye1C73HyfJmjp3qkZON7ZKMB8G
A1UdIwQYMBaAFNoq27ye1C73HyfJmjp3qkZON7ZKMA8GA1UdEwEB/wQFMAMBAf8w
CgYIKoZIzj0EAwIDRwAwRAIgKnJfh+ySwvknF2w2DiIX3Gt2KEQv9Jmtc8R24FVl
GakCIHIyDUg5b87jmznaGSBrHttmt+S3VLBmVDD8YRSFx9Za
-----END CERTIFICATE-----
"""
OTHER_CA = """\
-----BEGIN CERTIFICATE-----
MIIBfTCCASOgAwIBAgIUVjJZ6eT6JI864UQ2jf9oPnsmMA8wCgYIKoZIzj0EAwIw
EzERMA8GA1UEAwwIb3RoZXItY2EwIBcNMjYxMTI4MjMzMTU2WhgPMjEyNjExMDQy
MzMxNTZaMBMxETAPBgNVBAMMCG90aGVyLWNhMFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAEyMddApkDS8UPmReXcOwMAHfKeAWad6Y7GLHVCFZR/dKhHSKlWHmOr2sN
A/J6XXKx8TcU88rpA7ghElOs7J5kxaNTMFEwHQYDVR0OBBYEFPxIWf9SU/pForp4
JkN2kSvJVdWGMB8GA1UdIwQYMBaAFPxIWf9SU/pForp4JkN2kSvJVdWGMA8GA1Ud
EwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIhAIE/uzjXExy2W2SyTqLmmBYC
+Mb1BlK9p0gd7e0h7kHrAiAS5OBmtZMJJiinzu2uwHQII6991LiTBBoGx0LkEeAr
dQ==
-----END CERTIFICATE-----
"""
_NODE = (
    """\
-----BEGIN CERTIFICATE-----
MIIBGDCBvwIUWrLefyxWy30e/3y2SEIFBVCweVIwCgYIKoZIzj0EAwIwDTELMAkG
A1UEAwwCY2EwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMA8xDTAL
BgNVBAMMBG5vZGUwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQF+FMVbZldP9L+
wh8aQPfjiBgqSzFBDqCeH/09fVQD/IrajIgRy+6lj41nNetSGa3h5E5dKbtpyaeV
44Lifq0VMAoGCCqGSM49BAMCA0gAMEUCIQDrVXcLvTi+VTu6z2Spjep2jmVsbhx1
ghgxMzwfscAI/AIgRtcSBsWgkJ+hEcA2bpJit7LFtMMOvD0zc/16Z8HmLG4=
-----END CERTIFICATE-----
""",
    """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgErp4w6MmCCvI0kvB
pEkau/IkFnlvTRxhRbwnd9GQjy2hRANCAAQF+FMVbZldP9L+wh8aQPfjiBgqSzFB
DqCeH/09fVQD/IrajIgRy+6lj41nNetSGa3h5E5dKbtpyaeV44Lifq0V
-----END PRIVATE KEY-----
""",
)
_SECOND = (
    """\
-----BEGIN CERTIFICATE-----
MIIBGzCBwQIUdHMT9SmnQD5NQYaEQOfOsKzvecMwCgYIKoZIzj0EAwIwDTELMAkG
A1UEAwwCY2EwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBExDzAN
BgNVBAMMBnNlY29uZDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABMNriHpEQ3/m
KtAKt+er0H+dp1ehDW9L7yeyX/ksvwePsYx8a3W9Pz3LYVD+hqfdy8cbphQqMGsp
gYumFiDDnKowCgYIKoZIzj0EAwIDSQAwRgIhAMW3iY7TzpSdb8qQlCSdmOVyH6lK
5eow8DTiTjFCIQVkAiEAiYLvl4mBiijaPwgbLknEWWsHvJaGQwjqePAcDVwMjhY=
-----END CERTIFICATE-----
""",
    """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgcaEav4D28bzRt1M1
gI6sKkNRrNnjMAzCFgfcoNGhxNmhRANCAATDa4h6REN/5irQCrfnq9B/nadXoQ1v
S+8nsl/5LL8Hj7GMfGt1vT89y2FQ/oan3cvHG6YUKjBrKYGLphYgw5yq
-----END PRIVATE KEY-----
""",
)
_FOREIGN = (
    """\
-----BEGIN CERTIFICATE-----
MIIBITCByAIUae1yPFr0oB1CQLivKru+hArTgkIwCgYIKoZIzj0EAwIwEzERMA8G
A1UEAwwIb3RoZXItY2EwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBa
MBIxEDAOBgNVBAMMB2ZvcmVpZ24wWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAT3
WBgBcNFrM/AnU+B2dr5kw2/fRXIjeAwkTSkx7mnq7xuwy77OS1FY3AVG4dfWT2eM
KvzTHj1HQB+RM/H0kTIfMAoGCCqGSM49BAMCA0gAMEUCICFxsiaz3dzvqzYNciAH
CfltGxbAhescXCqWlF1hBNKmAiEA2HHol4oanIonqnQoR+48ZbSufhCxcPyTZzzf
0RNPDBM=
-----END CERTIFICATE-----
""",
    """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg7O6FQ5HQ8P+7uwX6
PNbOamUmCi6Hxxx9Dl3c01qt5hihRANCAAT3WBgBcNFrM/AnU+B2dr5kw2/fRXIj
eAwkTSkx7mnq7xuwy77OS1FY3AVG4dfWT2eMKvzTHj1HQB+RM/H0kTIf
-----END PRIVATE KEY-----
""",
)
_EXPIRED = (
    """\
-----BEGIN CERTIFICATE-----
MIIBGjCBwAIUE1s1FCY/a7nXfTydTLj30mrAFW0wCgYIKoZIzj0EAwIwDTELMAkG
A1UEAwwCY2EwHhcNMjAwMTAxMDAwMDAwWhcNMjAwMTAyMDAwMDAwWjASMRAwDgYD
VQQDDAdleHBpcmVkMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEI6fG1A3w7eSU
wM+9rUOFv2sLTkTfuCoKs3aF0TIujnZMGXzCLv5eWNIEyoDke6wf8lhPrX/t6Nz2
xoON0Zas7jAKBggqhkjOPQQDAgNJADBGAiEAjMppBUPBBpp5nztH56kKfsFYDbHf
ywI4ln2hpZ3A9NUCIQDhSRVBII88RV/siB/uSuWEdtOyiFtlvzu3N85EHYGRug==
-----END CERTIFICATE-----
""",
    """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgxV4+ezqxupjG6b+o
Fg4rL8RsuEmiv1+BuE5Nxl0sTuKhRANCAAQjp8bUDfDt5JTAz72tQ4W/awtORN+4
KgqzdoXRMi6OdkwZfMIu/l5Y0gTKgOR7rB/yWE+tf+3o3PbGg43Rlqzu
-----END PRIVATE KEY-----
""",
)
_PAIRS = {"node": _NODE, "second": _SECOND, "foreign": _FOREIGN, "expired": _EXPIRED}


class Files(NamedTuple):
    """Paths for `transport.tls_certificate`, `tls_key` and `tls_ca`."""

    certificate: str
    key: str
    ca: str


def write(folder: Path, name: str, ca: str = CA) -> Files:
    """The pair `name` (node, second, foreign, expired) and `ca`, in `folder`, as PEM."""
    paths = [folder / f"{name}.pem", folder / f"{name}.key", folder / f"{name}-ca.pem"]
    for path, text in zip(paths, (*_PAIRS[name], ca), strict=True):
        path.write_text(text)
    return Files(*map(str, paths))
