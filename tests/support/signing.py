"""Images to sign, and certificates of every kind."""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from PIL import Image

from sosie.provenance.manifest import Claim
from sosie.provenance.verify import ProvenanceReport

PLAN_ID = "ab" * 32
CLAIM = Claim(PLAN_ID, "mini", "diffusers", (("mini", "cd" * 32), ("mini:ip-adapter.safetensors", "")))
SUFFIXES = (".png", ".jpg", ".webp")
NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


def picture(side: int = 48, mode: str = "RGB") -> Image.Image:
    return Image.effect_mandelbrot((side, side), (-2, -1.5, 1, 1.5), 20).convert(mode)


def noise(side: int) -> Image.Image:
    return Image.frombytes("RGB", (side, side), os.urandom(side * side * 3))


def codes(report: ProvenanceReport) -> set[str]:
    return {finding.code for finding in report.findings}


def changed(path: Path, position: int, value: int = 1) -> Path:
    data = bytearray(path.read_bytes())
    data[position] ^= value
    target = path.with_name("changed" + path.suffix)
    target.write_bytes(data)
    return target


class Authority:
    """A certificate authority that issues what a test asks for."""

    def __init__(self, name: str = "Example CA") -> None:
        self.private = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = dict.fromkeys(
            (
                "digital_signature",
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "encipher_only",
                "decipher_only",
            ),
            False,
        )
        self.certificate = (
            self._builder(self.name, self.private.public_key(), NOW - DAY, NOW + 99 * DAY)
            .add_extension(x509.BasicConstraints(True, 0), True)
            .add_extension(x509.KeyUsage(**usage, key_cert_sign=True, crl_sign=True), True)
            .sign(self.private, hashes.SHA256())
        )
        self.usage = usage

    def _builder(self, subject: x509.Name, public: Any, start: Any, end: Any, serial: int = 0) -> Any:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public)
            .serial_number(serial or x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
        )

    def issue(
        self,
        public: Any,
        start: Any = NOW - DAY,
        end: Any = NOW + 30 * DAY,
        purpose: Any = ExtendedKeyUsageOID.EMAIL_PROTECTION,
        subject: x509.Name | None = None,
        serial: int = 0,
    ) -> x509.Certificate:
        subject = subject or x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Studio Example")])
        usage = {**self.usage, "digital_signature": True}
        return (
            self._builder(subject, public, start, end, serial)
            .add_extension(x509.BasicConstraints(False, None), True)
            .add_extension(x509.KeyUsage(**usage, key_cert_sign=False, crl_sign=False), True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.private.public_key()), False)
            .add_extension(x509.ExtendedKeyUsage([purpose]), False)
            .sign(self.private, hashes.SHA256())
        )

    def write(self, folder: Path, private: Any, leaf: x509.Certificate, chain: bool = True) -> tuple[Path, Path]:
        pem = serialization.Encoding.PEM
        certificate, private_key = folder / "own-certificate.pem", folder / "own-key.pem"
        parts = (leaf, self.certificate) if chain else (leaf,)
        certificate.write_bytes(b"".join(part.public_bytes(pem) for part in parts))
        private_key.touch(mode=0o600)
        private_key.write_bytes(
            private.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return certificate, private_key


def p256() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())
