"""A password in a store's URL is never shown: not by errors, logs, `repr()` or `url`, whatever characters it has."""

from __future__ import annotations

import asyncio
import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mintkey import Model, ModelConfig, Store, connect
from mintkey.attributes import StringAttribute
from mintkey.errors import MintkeyError
from mintkey.stores import store_named

#: Parts of every secret; neither is a part of anything else here.
MARKS = ("HUSH", "64738")

secrets = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(("", *MARKS)),
        st.sampled_from(
            ("", "?", "@", "/", "#", ":", "%", "%4", "&", "=", "?timeout=", "?x=", "://", " ", "\n", "?@", "/?")
        ),
        st.sampled_from(MARKS),
        st.text("?@/#:%&=,+ab19", max_size=4),
    ),
)
schemes = st.sampled_from(
    (
        "redis",
        "rediss",
        "redis-cluster",
        "rediss-cluster",
        "unix",
        "dynamodb",
        "sqlite",
        "postgresql",
        "HTTP",
        "",
        "a b",
    )
)
# Nobody listens at port 1.
places = st.sampled_from(
    ("127.0.0.1:1", "127.0.0.1:1/0", "127.0.0.1:x", "127.0.0.1:1/x", "us-east-1", "/nowhere/r.sock", "", "[::1", "a:1,")
)
parameters = st.sampled_from(("", "?timeout=1", "?timeout=x", "?prefix=p&timeout=1", "?x=1", "?timeout=1&timeout=1"))


class Row(Model):
    model_config = ModelConfig(table="rows")

    pk = StringAttribute(partition_key=True)


def told(error: BaseException | None) -> str:
    """All that an error says, with its causes."""
    texts = []
    while error is not None:
        texts.append(f"{error!r} {error} {vars(error)}")
        error = error.__cause__ or error.__context__
    return " ".join(texts)


def check(text: str) -> None:
    assert not any(mark in text for mark in MARKS), text


@given(schemes, st.sampled_from(("", "me", "me:", ":", "6379")), secrets, places, parameters)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_password_in_a_url_is_not_shown(caplog, monkeypatch, scheme, user, secret, place, parameters):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "local")
    url = f"{scheme}://{user}:{secret}@{place}{parameters}"
    with caplog.at_level(logging.DEBUG):
        caplog.clear()
        try:
            store = connect(url)
        except MintkeyError as error:
            check(told(error))
        else:
            check(f"{store!r} {store.url} {store._core.address}")
            use(store)
        check(caplog.text)


def use(store: Store) -> None:
    """Ask a store that nobody answers."""
    with store:
        for ask in (lambda: Row.get(pk="a"), lambda: asyncio.run(Row.aget(pk="a")), Row(pk="a").save):
            with pytest.raises(MintkeyError) as caught:
                ask()
            check(told(caught.value))


@given(secrets)
@settings(max_examples=50)
def test_a_url_in_the_place_of_a_name_is_not_shown(secret):
    with pytest.raises(MintkeyError, match="not a URL") as caught:
        store_named(f"redis://me:{secret}@localhost")
    check(told(caught.value))
