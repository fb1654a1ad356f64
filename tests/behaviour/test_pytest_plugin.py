"""The pytest plugin, in test runs of its own."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest

from mintkey import catalog, connect, pytest_plugin

pytest_plugins = ["pytester"]

TESTS = """
    import pytest
    from mintkey import AutoGenerate, Model
    from mintkey.attributes import StringAttribute

    class Order(Model):
        pk = StringAttribute(partition_key=True, default=AutoGenerate.ULID)
        made_at = StringAttribute(default=AutoGenerate.ISO8601)
        status = StringAttribute(default="new")

    @pytest.mark.parametrize("turn", [1, 2])
    def test_a_store_of_its_own(mintkey_store, mintkey_frozen, turn):
        assert list(Order.scan()) == []
        order = Order()
        order.save()
        assert order.made_at == "2024-01-01T00:00:00Z"
        assert order.pk == {pk!r}
        mintkey_frozen.advance(60)
        assert Order.create().made_at == "2024-01-01T00:01:00Z"
        assert Order.scan().count() == 2
        print("URL", mintkey_store.url)

    def test_a_store_that_is_closed(mintkey_store):
        Order.create()
        mintkey_store.close()
        print("URL", mintkey_store.url)

    def test_a_table_that_is_deleted(mintkey_store):
        Order.create()
        Order.delete_table()
        print("URL", mintkey_store.url)
"""
PK = "01HK153X00EDAWBQE480H4GBEX"


@pytest.fixture
def run(pytester, monkeypatch):
    # The other plugins of this environment are slow to load, again for each run.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def run(*arguments: str) -> pytest.RunResult:
        result: pytest.RunResult = pytester.runpytest_inprocess(
            "-p", "mintkey.pytest_plugin", "-p", "no:cacheprovider", "-s", *arguments
        )
        return result

    return run


@pytest.fixture
def run_tests(pytester, run):
    pytester.makepyfile(TESTS.replace("{pk!r}", repr(PK)))
    return run


def test_every_store(url, run_tests):
    result = run_tests(*([] if url.startswith("sqlite") else [f"--mintkey-url={url}"]))
    result.assert_outcomes(passed=4)
    used = [line.split("URL ")[1].split()[0] for line in result.outlines if "URL " in line]
    if url.startswith("sqlite"):
        assert used == ["sqlite://"] * 4
        return
    assert len(set(used)) == 4
    with connect(url, name="given") as given:
        assert all(own.startswith(given.url) and "test-" in own[len(given.url) :] for own in used)
        # All of them begin with the prefix of this test.
        assert catalog.tables(given) == []


def test_the_server_of_the_configuration_file(pytester, run_tests):
    pytester.makeini("[pytest]\nmintkey_url = redis://127.0.0.1:1\n")
    result = run_tests()
    result.assert_outcomes(failed=4, errors=4)
    result.stdout.fnmatch_lines(["*StoreUnavailable: *127.0.0.1:1*"])
    run_tests("--mintkey-url=sqlite://").assert_outcomes(passed=4)


def test_a_file_is_refused(run_tests):
    result = run_tests("--mintkey-url=sqlite:///rows.db")
    result.assert_outcomes(errors=4)
    result.stdout.fnmatch_lines(["*write sqlite:// for a database in memory*"])


def test_async_tests(pytester, run):
    pytester.makeini("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n")
    pytester.makepyfile(
        """
        from mintkey import Model
        from mintkey.attributes import StringAttribute

        class Order(Model):
            pk = StringAttribute(partition_key=True)

        async def test_async(mintkey_store):
            await Order(pk="a").asave()
            assert await Order.scan().acount() == 1
        """
    )
    run("-p", "pytest_asyncio.plugin").assert_outcomes(passed=1)


def test_pytest_loads_the_plugin_by_itself():
    [plugin] = [plugin for plugin in entry_points(group="pytest11") if plugin.name == "mintkey"]
    assert plugin.load() is pytest_plugin


def test_the_plugin_loads_nothing_that_a_run_does_not_use(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(
        """
        import sys

        def test_modules():
            loaded = {name for name in sys.modules if name.startswith("mintkey")}
            assert loaded == {"mintkey", "mintkey.pytest_plugin"}
        """
    )
    result = pytester.runpytest_subprocess("-p", "mintkey.pytest_plugin", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)
