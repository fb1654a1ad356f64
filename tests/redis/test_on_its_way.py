"""A chunk of a batch is in flight while the next one is prepared."""

from __future__ import annotations

import pytest
from tests.failures.test_broken_connections import Minted, behind_bytes

from mintkey import connect


def test_ctrl_c_in_the_source_waits_for_no_silent_server(tmp_path):
    between, rough, smooth = behind_bytes(tmp_path, 0)
    between.often = 0.0
    items = [Minted(n=n) for n in range(1_600)]

    def source():
        for item in items:
            if item.n == 700:
                raise KeyboardInterrupt
            yield item

    with between, connect(rough.replace("timeout=0.5", "timeout=600")):
        Minted(n=-1).save()
        between.still = True
        with pytest.raises(KeyboardInterrupt):
            Minted.batch_save(source())
        # The server sent nothing all the time.
        assert between.stalled.wait(30)
        assert not between.resume.is_set()
        assert [item.n for item in items if item.pk is not None] == list(range(500))
        keys = [item.pk for item in items[:500]]
        between.resume.set()
        assert Minted.batch_save(items) == 1_600
        assert [item.pk for item in items[:500]] == keys
    with connect(smooth):
        assert {row.pk: row.n for row in Minted.scan() if row.n != -1} == {item.pk: item.n for item in items}
