"""The signing key: made at first use, or the user's own.

A self-made key is an ECDSA P-256 key (ES256) with an end-entity certificate issued by a
certificate authority whose own key is forgotten at once, so that no second certificate can ever
chain to it. The certificates follow the C2PA certificate profile: digitalSignature, extended
use emailProtection, no self-signed leaf. They name no user, host or machine, and their dates are
whole days. They prove no identity.

A private key that others may read is refused, never used with a warning: whoever reads it can
sign as its owner.
"""

from __future__ import annotations

import datetime
import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sosie.core.errors import NotFoundError, ProvenanceError
from sosie.files.whole import make_folder, whole_folder, whole_stream
from sosie.provenance.binding import sign
from sosie.provenance.delivery import encode
from sosie.provenance.manifest import Claim, definition_of
from sosie.provenance.signing_key import SigningKey

if TYPE_CHECKING:
    from cryptography import x509

KEY_FOLDER = "signing"
PRIVATE_KEY = "private-key.pem"
CERTIFICATE = "certificate.pem"
MAX_PEM_BYTES = 1 << 20
YEARS = 30
ORGANIZATION = "Sosie self-made certificate"


def ensure_key(folder: Path) -> SigningKey:
    """The key in `folder`, made there (mode 600, in a folder of mode 700) if there is none yet.

    Key and certificate appear together or not at all: they are written to a new folder that is
    then renamed, so of two processes at once one wins and both return the winner's key.
    Raises `ProvenanceError` if the key cannot be made, read or used.
    """
    home = folder / KEY_FOLDER
    if not home.exists():
        try:
            _make(folder, home)
        except OSError as error:
            raise ProvenanceError(
                f"no signing key could be made in {folder}: {error.strerror or error}",
                "choose a workspace that can be written, or switch provenance off with --no-provenance",
            ) from None
    try:
        return load_key(home / CERTIFICATE, home / PRIVATE_KEY)
    except NotFoundError as error:
        raise ProvenanceError(
            f"the signing key in {home} is incomplete: {error.message}",
            f"put the missing file back, or remove {home}: a new key is made at the next use",
        ) from None


def load_key(certificate: Path, private_key: Path) -> SigningKey:
    """The user's own key: a PEM chain (the signer's certificate first) and its PEM private key.

    Raises `NotFoundError` for a missing file and `ProvenanceError` for anything else that forbids
    signing: not PEM, encrypted, readable by others, not the certificate's key, a certificate out
    of its dates or unfit for C2PA (found by signing a one-pixel image).
    """
    chain = _read_chain(certificate)
    private = _read_private(private_key)
    key = _join(chain, private, certificate, private_key)
    _check_dates(chain[0], certificate)
    _check_fit(key, certificate)
    return key


def _make(folder: Path, home: Path) -> None:
    """Writes a new key and its chain to `home`, whole and for good; an existing `home` is left alone."""
    make_folder(folder, 0o700)
    with suppress(FileExistsError), whole_folder(home, 0o700) as draft:
        for name, data in zip((PRIVATE_KEY, CERTIFICATE), _self_made(), strict=True):
            with whole_stream(draft / name, mode=0o600) as stream:
                stream.write(data)


def _self_made() -> tuple[bytes, bytes]:
    """A new P-256 private key (PKCS#8 PEM) and its chain of two certificates (PEM)."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    authority, private = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = _name(f"{ORGANIZATION} authority {secrets.token_hex(4)}")
    root = _certificate(issuer, issuer, authority.public_key(), True)
    leaf = _certificate(_name("Sosie signing key"), issuer, private.public_key(), False).add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False
    )
    pem = serialization.Encoding.PEM
    chain = b"".join(part.sign(authority, hashes.SHA256()).public_bytes(pem) for part in (leaf, root))
    secret = private.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return secret, chain


def _name(common_name: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _certificate(subject: x509.Name, issuer: x509.Name, public: Any, authority: bool) -> x509.CertificateBuilder:
    """An unsigned certificate: of an authority, or of an end entity fit for C2PA. Dates are whole days."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    today = datetime.datetime.now(datetime.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    usage = x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=365 * YEARS))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
    if authority:
        return builder
    return builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)


def _read_chain(path: Path) -> list[x509.Certificate]:
    from cryptography import x509

    data = _read_file(path, "certificate")
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError:
        raise ProvenanceError(
            f"{path} holds no certificate in PEM form ('-----BEGIN CERTIFICATE-----')",
            f"convert it: openssl x509 -inform DER -in {path} -out certificate.pem",
        ) from None


def _read_private(path: Path) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    data = _read_file(path, "private key", _refuse_shared)
    try:
        return serialization.load_pem_private_key(data, password=None)
    except TypeError:
        raise ProvenanceError(
            f"the private key {path} is encrypted, and Sosie asks for no password",
            f"decrypt it: (umask 077; openssl pkey -in {path} -out private-key.pem)",
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise ProvenanceError(
            f"{path} holds no private key in PEM form ('-----BEGIN PRIVATE KEY-----')",
            f"convert it: (umask 077; openssl pkey -inform DER -in {path} -out private-key.pem)",
        ) from None


def _read_file(path: Path, what: str, check: Callable[[Path, os.stat_result], None] | None = None) -> bytes:
    """The bytes of a small regular file; `check` sees the status of the very file that is read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise NotFoundError(f"the {what} {path} does not exist") from None
    except OSError as error:
        raise ProvenanceError(f"the {what} {path} cannot be read: {error.strerror or error}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ProvenanceError(f"the {what} {path} is not a file")
        if status.st_size > MAX_PEM_BYTES:
            raise ProvenanceError(f"the {what} {path} has {status.st_size} bytes; a PEM file has a few thousand")
        if check:
            check(path, status)
        return os.read(descriptor, MAX_PEM_BYTES)
    finally:
        os.close(descriptor)


def _refuse_shared(path: Path, status: os.stat_result) -> None:
    """Refuses a private key that group or others may read (POSIX; elsewhere modes say nothing)."""
    mode = stat.S_IMODE(status.st_mode)
    if os.name == "posix" and mode & 0o077:
        raise ProvenanceError(
            f"the private key {path} is open to other users (mode {mode:o}); 600 was expected",
            f"chmod 600 {path}; if others may have read it, use a new key. "
            "A file system without permissions cannot hold a key",
        )


def _join(chain: list[x509.Certificate], private: Any, certificate: Path, private_key: Path) -> SigningKey:
    """The key and its chain as one noun; they must belong together."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.x509.oid import NameOID

    leaf = chain[0]
    spki = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    try:
        public = leaf.public_key().public_bytes(*spki)
    except (ValueError, UnsupportedAlgorithm):
        raise ProvenanceError(f"the certificate {certificate} has a key of an unknown kind") from None
    if public != private.public_key().public_bytes(*spki):
        raise ProvenanceError(
            f"the private key {private_key} does not match the certificate {certificate}",
            "the signer's certificate must come first in its file, the issuers' after it",
        )
    names = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return SigningKey(
        algorithm=_algorithm(private, private_key),
        chain="".join(part.public_bytes(serialization.Encoding.PEM).decode("ascii") for part in chain),
        fingerprint=leaf.fingerprint(hashes.SHA256()).hex(),
        serial=leaf.serial_number,
        common_name=str(names[0].value) if names else "",
        private=private,
    )


def _algorithm(private: Any, path: Path) -> str:
    """The COSE algorithm that C2PA allows for this kind of key."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    curves = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
    if isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name in curves:
        return curves[private.curve.name]
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(private, rsa.RSAPrivateKey):
        return "ps256"
    raise ProvenanceError(
        f"the private key {path} is of a kind that C2PA does not allow",
        "allowed: ECDSA P-256, P-384, P-521, RSA of 2048 bits or more, Ed25519",
    )


def _check_dates(leaf: x509.Certificate, path: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    if now > leaf.not_valid_after_utc:
        raise ProvenanceError(f"the certificate {path} expired on {leaf.not_valid_after_utc:%Y-%m-%d}", "renew it")
    if now < leaf.not_valid_before_utc:
        raise ProvenanceError(
            f"the certificate {path} is valid only from {leaf.not_valid_before_utc:%Y-%m-%d} on",
            "check this machine's clock",
        )


def _check_fit(key: SigningKey, path: Path) -> None:
    """Signs a one-pixel image: the library knows the certificate profile best."""
    from PIL import Image

    mime = "image/png"
    try:
        sign(encode(Image.new("L", (1, 1)), mime), mime, definition_of(Claim("", "", "", ())), key)
    except ProvenanceError as error:
        raise ProvenanceError(
            f"the certificate {path} is not fit for C2PA: {error.message}",
            "it needs key usage digitalSignature, extended key usage emailProtection, and an issuer other than itself",
        ) from None
