"""Signing keys: made once for their owner only, or the user's own of every kind that C2PA allows."""

from __future__ import annotations

import base64
import logging
import multiprocessing
import os
import re
import shutil
import stat
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from signing import CLAIM, DAY, NOW, Authority, p256, picture

from sosie.core.errors import DeliveryError, NotFoundError, ProvenanceError
from sosie.provenance import keys as keys_module
from sosie.provenance.binding import sign
from sosie.provenance.keys import ensure_key, load_key
from sosie.provenance.manifest import definition_of, write_signed
from sosie.provenance.signing_key import SigningKey
from sosie.provenance.verify import verify

pytestmark = pytest.mark.once


def test_a_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        first = ensure_key(tmp_path / "keys")
    finally:
        os.umask(mask)
    assert ensure_key(tmp_path / "keys") == first
    modes = {path.relative_to(tmp_path).as_posix(): stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert modes == {
        "keys": 0o700,
        "keys/signing": 0o700,
        "keys/signing/private-key.pem": 0o600,
        "keys/signing/certificate.pem": 0o600,
    }


def test_the_self_made_certificates_are_exactly_what_c2pa_asks_and_name_nobody(key: SigningKey) -> None:
    leaf, authority = x509.load_pem_x509_certificates(key.chain.encode())
    leaf.verify_directly_issued_by(authority)
    names = [attribute.value for attribute in (*leaf.subject, *leaf.issuer, *authority.subject)]
    pattern = r"Sosie signing key|Sosie self-made certificate( authority [0-9a-f]{8})?"
    assert all(re.fullmatch(pattern, str(name)) for name in names)
    oids = {extension.oid._name for extension in leaf.extensions}
    assert oids == {
        "basicConstraints",
        "keyUsage",
        "extendedKeyUsage",
        "subjectKeyIdentifier",
        "authorityKeyIdentifier",
    }
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert not usage.key_cert_sign
    purposes = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.EMAIL_PROTECTION]
    start = leaf.not_valid_before_utc
    assert (start.hour, start.minute, start.second) == (0, 0, 0)
    assert leaf.not_valid_after_utc - NOW > 29 * 365 * DAY


def _make_key(folders: list[Path], barrier: Any, answers: Any) -> None:
    import sosie.provenance.binding
    import sosie.provenance.manifest  # noqa: F401

    prints: list[str] = []
    for folder in folders:
        barrier.wait(20)
        prints.append(ensure_key(folder).fingerprint)
    answers.put(prints)


def test_two_processes_at_once_make_one_key_and_both_use_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(2), context.Queue()
    folders = [tmp_path / str(i) for i in range(5)]
    processes = [context.Process(target=_make_key, args=(folders, barrier, answers)) for _ in range(2)]
    for process in processes:
        process.start()
    first, second = answers.get(timeout=30), answers.get(timeout=30)
    for process in processes:
        process.join(30)
    assert first == second == [ensure_key(folder).fingerprint for folder in folders]
    assert len(set(first)) == len(folders)
    assert {path.name for folder in folders for path in folder.iterdir()} == {"signing"}


def test_a_loser_of_the_race_takes_the_winners_key_and_cleans_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    winner = ensure_key(tmp_path / "elsewhere")
    made = keys_module._self_made

    def overtaken() -> tuple[bytes, bytes]:
        shutil.copytree(tmp_path / "elsewhere" / "signing", tmp_path / "keys" / "signing")
        return made()

    monkeypatch.setattr(keys_module, "_self_made", overtaken)
    assert ensure_key(tmp_path / "keys") == winner
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["signing"]


def test_half_a_key_is_named_and_never_replaced_silently(tmp_path: Path) -> None:
    ensure_key(tmp_path / "keys")
    (tmp_path / "keys" / "signing" / "certificate.pem").unlink()
    with pytest.raises(ProvenanceError, match=r"incomplete.*certificate\.pem does not exist"):
        ensure_key(tmp_path / "keys")
    assert (tmp_path / "keys" / "signing" / "private-key.pem").exists()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_private_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    ensure_key(tmp_path / "keys")
    path = tmp_path / "keys" / "signing" / "private-key.pem"
    path.chmod(mode)
    with pytest.raises(ProvenanceError, match=f"open to other users .mode {mode:o}") as caught:
        ensure_key(tmp_path / "keys")
    assert f"chmod 600 {path}" in caught.value.hint


def test_the_private_key_is_in_no_repr_error_traceback_or_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    key = ensure_key(tmp_path / "keys")
    private_key = tmp_path / "keys" / "signing" / "private-key.pem"
    said = [repr(key), str(key), f"{key}"]
    pem = private_key.read_text()
    other, authority = p256(), Authority()
    wrong, _ = authority.write(tmp_path, other, authority.issue(other.public_key()))
    for attempt in (
        lambda: write_signed(picture(), tmp_path / "none" / "x.png", CLAIM, key),
        lambda: load_key(wrong, private_key),
        lambda: load_key(private_key, private_key),
        lambda: sign(b"no image", "image/png", definition_of(CLAIM), key),
    ):
        with pytest.raises((DeliveryError, ProvenanceError)) as caught:
            attempt()
        said += [caught.value.message, caught.value.hint, *traceback.format_exception(caught.value)]
    said += [caplog.text, *capfd.readouterr()]
    everything = "\n".join(said)
    body = "".join(pem.splitlines()[1:-1])
    number = key.private.private_numbers().private_value
    secrets = [*pem.splitlines()[1:-1], base64.b64decode(body).hex(), str(number), f"{number:x}"]
    assert not any(secret in everything for secret in secrets)
    assert "PRIVATE KEY" not in repr(key)


@pytest.mark.parametrize("kind", ["es256", "es384", "es512", "ps256", "ed25519"])
def test_a_users_own_key_of_every_kind_that_c2pa_allows_signs(tmp_path: Path, kind: str) -> None:
    private: Any = {
        "es256": p256,
        "es384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "es512": lambda: ec.generate_private_key(ec.SECP521R1()),
        "ps256": lambda: rsa.generate_private_key(65537, 2048),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
    }[kind]()
    authority = Authority()
    own = load_key(*authority.write(tmp_path, private, authority.issue(private.public_key())))
    assert (own.algorithm, own.common_name) == (kind, "Studio Example")
    write_signed(picture(), tmp_path / "image.png", CLAIM, own)
    report = verify(tmp_path / "image.png", own)
    assert (report.state, report.own, report.signer) == ("valid", True, "Studio Example")


def test_a_key_that_does_not_match_its_certificate_is_refused(tmp_path: Path) -> None:
    authority = Authority()
    paths = authority.write(tmp_path, p256(), authority.issue(p256().public_key()))
    with pytest.raises(ProvenanceError, match="does not match the certificate"):
        load_key(*paths)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(NOW - 9 * DAY, NOW - DAY, "expired on 20"), (NOW + DAY, NOW + 9 * DAY, "valid only from 20")],
)
def test_a_certificate_out_of_its_dates_is_refused(tmp_path: Path, start: Any, end: Any, expected: str) -> None:
    private, authority = p256(), Authority()
    paths = authority.write(tmp_path, private, authority.issue(private.public_key(), start, end))
    with pytest.raises(ProvenanceError, match=expected):
        load_key(*paths)


def test_a_certificate_for_another_purpose_is_refused_before_any_image(tmp_path: Path) -> None:
    private, authority = p256(), Authority()
    leaf = authority.issue(private.public_key(), purpose=ExtendedKeyUsageOID.SERVER_AUTH)
    with pytest.raises(ProvenanceError, match="not fit for C2PA") as caught:
        load_key(*authority.write(tmp_path, private, leaf))
    assert "emailProtection" in caught.value.hint


def test_files_that_are_missing_not_pem_encrypted_or_no_files_are_named(tmp_path: Path) -> None:
    private, authority = p256(), Authority()
    certificate, private_key = authority.write(tmp_path, private, authority.issue(private.public_key()))
    text, locked, curve = tmp_path / "text.pem", tmp_path / "locked.pem", tmp_path / "curve.pem"
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    for path in (text, locked, curve):
        path.touch(mode=0o600)
    text.write_text("not a key\n")
    locked.write_bytes(private.private_bytes(pem, pkcs8, serialization.BestAvailableEncryption(b"password")))
    curve.write_bytes(
        dsa.generate_private_key(1024).private_bytes(pem, pkcs8, serialization.NoEncryption()),
    )
    with pytest.raises(NotFoundError, match=r"certificate .*none\.pem does not exist"):
        load_key(tmp_path / "none.pem", private_key)
    with pytest.raises(NotFoundError, match=r"private key .*none\.pem does not exist"):
        load_key(certificate, tmp_path / "none.pem")
    for paths, expected in (
        ((text, private_key), "holds no certificate in PEM form"),
        ((private_key, private_key), "holds no certificate in PEM form"),
        ((certificate, text), "holds no private key in PEM form"),
        ((certificate, locked), "is encrypted"),
        ((certificate, curve), "does not match"),
        ((certificate, tmp_path), "is not a file"),
        ((tmp_path, private_key), "is not a file"),
    ):
        with pytest.raises(ProvenanceError, match=expected):
            load_key(*paths)


def test_importing_provenance_loads_no_heavy_library() -> None:
    code = (
        "import sys, sosie.provenance.keys, sosie.provenance.manifest, sosie.provenance.verify\n"
        "print([m for m in ('c2pa', 'PIL', 'cryptography', 'numpy', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
