"""The store's address, in the forms that providers of PostgreSQL print; and no password in what people see."""

import ssl
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from persistence.engine.urls import parse
from server.errors import BadSetting
from server.settings import from_tree
from tests.support.certificates import write_self_signed

HOST = {"host": "db.example", "port": 5432}
SOCKET = {"host": "/run/pg", "port": 5432}
ADDRESS = {"host": "fe80::1%eth0", "port": 5}
USER = {"user": "u", "password": "pw", "database": "name"}

FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "Heroku, Render": ("postgres://u:pw@db.example:5432/name", HOST | USER),
    "DigitalOcean": ("postgresql://u:pw@db.example:25060/name?sslmode=require", HOST | USER | {"port": 25060}),
    "Neon": ("postgresql://u:pw@db.example/name?sslmode=require&channel_binding=require", HOST | USER),
    "SQLAlchemy": ("postgresql+asyncpg://u:pw@db.example/name?ssl=require", HOST | USER),
    "psycopg": ("postgresql+psycopg2://u:pw@db.example/name?connect_timeout=10&keepalives=1", HOST | USER),
    "in parameters": ("postgresql:///?host=db.example&port=5432&user=u&password=pw&dbname=name", HOST | USER),
    "a socket": ("postgresql://u@/name?host=/run/pg", {"user": "u", "database": "name", **SOCKET}),
    "an escaped socket": ("postgresql://u@%2Frun%2Fpg/name", {"user": "u", "database": "name", **SOCKET}),
    "an address": ("postgresql://u@[fe80::1%25eth0]:5/name", {"user": "u", "database": "name", **ADDRESS}),
    "several hosts": (
        "postgresql://u:pw@a.example:1,b.example/name",
        USER | {"host": ["a.example", "b.example"], "port": [1, 5432], "target_session_attrs": "read-write"},
    ),
    "hosts of SQLAlchemy": (
        "postgresql://u:pw@/name?host=a.example:1&host=b.example:2&target_session_attrs=any",
        USER | {"host": ["a.example", "b.example"], "port": [1, 2], "target_session_attrs": "any"},
    ),
    "escaped signs": (
        "postgresql://u%40x:p%2Fw%3F@db.example/na%20me",
        HOST | {"user": "u@x", "password": "p/w?", "database": "na me"},
    ),
    "signs as they are": ("postgresql://u:p/w@#:@db.example/name", HOST | USER | {"password": "p/w@#:"}),
    "a sign in the name": ("postgresql://db.example/na@me", HOST | {"database": "na@me"}),
    "nothing": ("postgresql://", {}),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_a_url_gives_what_it_says(form: str) -> None:
    """F13: the same for every command, since all of them read it here."""
    url, wanted = FORMS[form]
    assert dict(parse(url).driver) == wanted
    assert from_tree({"store": {"url": url}}).store.url == url
    assert "pw" not in parse(url).shown


SECURITY = {
    "": None,
    "sslmode=disable": False,
    "sslmode=prefer": "prefer",
    "sslmode=allow": "allow",
    "sslmode=require": (ssl.CERT_NONE, False),
    "ssl=true": (ssl.CERT_NONE, False),
    "sslmode=no-verify": (ssl.CERT_NONE, False),
    "sslmode=verify-ca": (ssl.CERT_REQUIRED, False),
    "sslmode=verify-full": (ssl.CERT_REQUIRED, True),
    "sslrootcert=system": (ssl.CERT_REQUIRED, True),
    "sslmode=require&sslrootcert={file}": (ssl.CERT_REQUIRED, False),
    "sslmode=verify-full&sslrootcert={file}": (ssl.CERT_REQUIRED, True),
}


@pytest.mark.parametrize("query", SECURITY)
def test_the_words_about_tls_mean_what_libpq_means_by_them(query: str, tmp_path: Path) -> None:
    """F13."""
    query, wanted = query.format(file=write_self_signed(tmp_path)[0]), SECURITY[query]
    found = parse(f"postgresql://u@h/x?{query}").arguments().get("ssl")
    if isinstance(wanted, tuple):
        assert isinstance(found, ssl.SSLContext)
        assert (found.verify_mode, found.check_hostname) == wanted
    else:
        assert found == wanted


def test_other_parameters_are_the_servers_or_passed_over() -> None:
    address = parse("postgresql://u@h/x?search_path=game&garrison.writer=n1&options=-c%20a%3Db&sslsni=1&schema=y")
    assert dict(address.settings) == {"search_path": "game", "garrison.writer": "n1"}
    assert dict(address.startup) == {"options": "-c a=b"}
    assert parse("postgresql://u@h/x?schema=game").settings["search_path"] == "game"


@pytest.mark.parametrize("query", ["pgbouncer=true", "statement_cache_size=0", "prepared_statement_cache_size=0"])
def test_prepared_statements_are_off_where_the_url_says_so(query: str) -> None:
    """F14."""
    address = parse(f"postgresql://u@h/x?{query}")
    assert not address.prepared
    assert address.arguments()["statement_cache_size"] == 0
    assert parse("postgresql://u@h/x?statement_cache_size=100").prepared


PASSWORDS = {
    "postgresql://u:s3cret@h/x": "postgresql://u:***@h/x",
    "postgres://u:s3cret@h:6432/x?sslmode=require": "postgresql://u:***@h:6432/x",
    "postgresql://u@h/x?password=s3cret": "postgresql://u:***@h/x",
    "postgresql://h/x?user=u&password=s3cret": "postgresql://u:***@h/x",
    "postgresql://u:s3cret%2F@h/x?sslpassword=s3cret": "postgresql://u:***@h/x",
    "postgresql://u:/s3cret@h/x": "postgresql://u:***@h/x",
    "postgresql://u:a@s3cret/b@h,i/x": "postgresql://u:***@h,i/x",
    "sqlite:///file.db?password=s3cret": "sqlite:///file.db",
}


@pytest.mark.parametrize("url", PASSWORDS)
def test_a_password_is_shown_nowhere(url: str) -> None:
    """F56: in whichever form it stands in the URL."""
    address = parse(url)
    assert address.shown == PASSWORDS[url]
    if address.dialect == "postgresql":
        secret = str(address.driver["password"])
        for form in (secret, quote(secret, safe="")):
            assert "s3cret" not in address.without_secrets(f"the login with {form} failed")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:a?s3cret@h/x",
        "postgresql://s3cret..x@a..b/x",
        "postgresql://u:s3cret@h:65536/x",
        "postgresql://u:s3cret@h:0/x",
        "postgresql://s3cret:s3cret/x",
        "postgresql://u:s3cret@[::1/x",
        "postgresql://u:s3cret@h/x?sslmode=s3cret",
        "postgresql://u@h/x?-s3cret=1",
        "mysql://u:s3cret@h/x",
        "s3cret",
    ],
)
def test_a_bad_url_is_refused_without_its_password(url: str) -> None:
    """F56."""
    with pytest.raises(BadSetting, match=r"store\.url") as caught:
        parse(url)
    assert "s3cret" not in str(caught.value)


def test_certificates_that_are_not_there_are_named(tmp_path: Path) -> None:
    address = parse(f"postgresql://u@h/x?sslmode=verify-full&sslrootcert={tmp_path}/none")
    with pytest.raises(BadSetting, match="sslrootcert"):
        address.arguments()
