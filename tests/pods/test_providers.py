"""Providers of pods come from other packages; what they offer and what bills is told, and what fails is too.

The provider is `tests/support/toy_pods`: nothing in the house knows it.
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import ROOT

from sosie.api.pods import list_pods, search_pods
from sosie.core.errors import ConfigError, NotFoundError, SosieError, UsageError
from sosie.doctor.machine import Needs, check_machine
from sosie.pods import provider_names, provider_of
from sosie.pods.lease import LeaseTerms
from sosie.pods.offer import Offer, Wanted, misfits

Sosie = Callable[..., Any]
Install = Callable[..., None]

TOY = ROOT / "tests" / "support" / "toy_pods"

WHOLE = Offer("x", "1", "RTX 4090", 0.4, 2, 24 * 10**9, (8, 9), (570, 86), 10**11, "DE", 0.99)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs the provider as a distribution, with `changed` texts in it."""

    def make(changed: tuple[str, str] = ("", ""), entry: str = "here = sosie_here_pods:PROVIDER") -> None:
        site = tmp_path / "site"
        shutil.copytree(TOY, site)
        module = site / "sosie_here_pods" / "__init__.py"
        assert changed[0] in module.read_text()
        module.write_text(module.read_text().replace(*changed))
        info = site / "sosie_here_pods-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sosie-here-pods\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[sosie.pods]\n{entry}\n")
        monkeypatch.syspath_prepend(site)
        _forget()

    yield make
    _forget()


def _forget() -> None:
    sys.modules.pop("sosie_here_pods", None)
    importlib.invalidate_caches()


def in_an_hour() -> LeaseTerms:
    return LeaseTerms(20 * 10**9, datetime.now(UTC) + timedelta(hours=1), price=1.0)


def test_without_a_provider_one_finding_says_which_group_is_looked_in(sosie: Sosie, tmp_path: Path) -> None:
    for verb in ("search", "list"):
        done = sosie("pod", verb, "--workspace", tmp_path)
        assert (done.code, done.out) == (1, "")
        assert done.err.count("SOS-B001") == 1
        assert "entry point group 'sosie.pods'" in done.err


def test_what_a_provider_offers_is_listed_if_it_is_what_was_wanted(
    sosie: Sosie, tmp_path: Path, install: Install
) -> None:
    install()
    done = sosie("pod", "search", "--json", "--workspace", tmp_path)
    assert [json.loads(line)["id"] for line in done.out.splitlines()] == ["small", "this"]
    asked = ("--disk", "50GB", "--memory", "8GB", "--price", "0.3", "--place", "de", "--reliability", "0.9")
    done = sosie("pod", "search", *asked, "--workspace", tmp_path)
    assert done.out == "here\t0.250 USD/h\t1 x CPU 8 GB\tDE\t99.0%\tthis\n"
    assert "SOS-B003: 1 of 2 offers of 'here' are not what was wanted" in done.err
    assert "its disk has 1 GB, wanted 50 GB" in done.err
    assert done.code == 1


def test_what_is_leased_bills_until_it_is_ended_and_the_doctor_asks_it(
    sosie: Sosie, tmp_path: Path, install: Install
) -> None:
    install()
    provider = provider_of("here")
    offer = provider.search(Wanted())[0]
    lease = provider.rent(offer, "sosie-mira-1", in_an_hour())
    (line,) = (json.loads(text) for text in sosie("pod", "list", "--json", "--workspace", tmp_path).out.splitlines())
    assert (line["label"], line["price"], line["state"]) == ("sosie-mira-1", 0.25, "running")
    assert lease.machine is not None
    facts = lease.machine.facts(str(tmp_path))
    assert facts.free_disk
    findings = check_machine(facts, Needs(gpu=False, disk_bytes=10**18))
    assert "SOS-H043" in {finding.code for finding in findings}
    provider.end(lease)
    provider.end(lease)
    done = sosie("pod", "list", "--workspace", tmp_path)
    assert (done.code, done.out) == (0, "")
    assert "nothing bills" in done.err


def test_a_lease_whose_answer_was_lost_is_found_by_its_label(install: Install) -> None:
    install()
    provider: Any = provider_of("here")
    provider.answer_lost = True
    with pytest.raises(SosieError, match="lost"):
        provider.rent(provider.search(Wanted())[0], "sosie-mira-2", in_an_hour())
    found = list_pods()
    assert [lease.label for lease in found.leases] == ["sosie-mira-2"]
    assert found.price == 0.25


def test_a_provider_that_is_not_installed_names_the_nearest(sosie: Sosie, tmp_path: Path, install: Install) -> None:
    install()
    assert provider_names() == ("here",)
    done = sosie("pod", "list", "--provider", "heer", "--workspace", tmp_path)
    assert done.code == 2
    assert "error: pod provider 'heer' is not installed; did you mean 'here'?" in done.err
    with pytest.raises(NotFoundError):
        search_pods(Wanted(), "heer")


@pytest.mark.parametrize(
    ("changed", "entry", "why"),
    [
        (("sosie.core", "sosie.cor"), "here = sosie_here_pods:PROVIDER", "cannot be loaded: ModuleNotFoundError"),
        (("", ""), "here = sosie_here_pods:OFFER", "names an Offer, which lacks name, search"),
        (("", ""), "there = sosie_here_pods:PROVIDER", "brings provider 'here', expected one of its own name"),
    ],
)
def test_a_provider_that_is_broken_is_a_finding(
    install: Install, changed: tuple[str, str], entry: str, why: str
) -> None:
    install(changed, entry)
    (finding,) = list_pods().findings
    assert (finding.code, finding.severity) == ("SOS-B002", "error")
    assert why in finding.message
    with pytest.raises(ConfigError):
        provider_of(entry.partition(" ")[0])


def test_what_a_provider_throws_is_not_repeated_for_it_may_hold_a_key(install: Install) -> None:
    install(("return tuple(self._leases.values())", 'raise KeyError("https://example.org/?key=secret")'))
    (finding,) = list_pods().findings
    assert (finding.code, "KeyError" in finding.message) == ("SOS-B002", True)
    assert "secret" not in str(finding)


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(gpu="5090"),
        Wanted(gpus=3),
        Wanted(memory=25 * 10**9),
        Wanted(compute=(12, 0)),
        Wanted(driver=(580,)),
        Wanted(disk=10**12),
        Wanted(price=0.39),
        Wanted(places=("FR", "IE")),
        Wanted(reliability=0.995),
    ],
)
def test_each_figure_that_an_offer_lacks_or_does_not_tell_is_a_misfit(wanted: Wanted) -> None:
    assert len(list(misfits(WHOLE, wanted))) == 1
    if not (wanted.gpu or wanted.gpus > 1 or wanted.price):
        assert list(misfits(Offer("x", "1", "RTX 4090", 0.4, 2), wanted))
    assert list(misfits(WHOLE, Wanted("rtx 4090", 2, 24 * 10**9, (8, 9), (570,), 10**11, 0.4, ("de",), 0.99))) == []


@given(price=st.floats(allow_nan=True), most=st.floats(min_value=0.01, max_value=100))
def test_no_offer_above_the_price_or_without_a_number_suits(price: float, most: float) -> None:
    suits = not list(misfits(Offer("x", "1", "any", price), Wanted(price=most)))
    assert suits == (price <= most)


def test_a_figure_that_cannot_be_wanted_is_named() -> None:
    with pytest.raises(UsageError, match="reliability = 2"):
        search_pods(Wanted(reliability=2))


def test_a_version_that_is_none_is_named(sosie: Sosie, tmp_path: Path) -> None:
    done = sosie("pod", "search", "--driver", "new", "--workspace", tmp_path)
    assert done.code == 2
    assert "--driver 'new' is no version" in done.err
