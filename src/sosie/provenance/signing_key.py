"""The key that signs delivered images; `keys` makes and reads one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class SigningKey:
    """A private key and its certificate chain.

    `algorithm` is the COSE name (`es256`, `es384`, `es512`, `ps256`, `ed25519`); `chain` is PEM,
    the signer's certificate first; `fingerprint` is the SHA-256 of that certificate's DER bytes
    (64 hex digits), fit to be published; `serial` and `common_name` are the certificate's. The
    private key itself is in no repr and no comparison.
    """

    algorithm: str
    chain: str = field(repr=False)
    fingerprint: str
    serial: int
    common_name: str
    private: Any = field(repr=False, compare=False)

    def private_pem(self) -> bytes:
        """The private key as unencrypted PKCS#8 PEM: for the signing library only."""
        from cryptography.hazmat.primitives import serialization

        return self.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    @property
    def anchors(self) -> str:
        """The issuers' certificates (PEM), or an empty text if the chain holds only the signer's."""
        marker = "-----BEGIN CERTIFICATE-----"
        return "".join(marker + part for part in self.chain.split(marker)[2:])
