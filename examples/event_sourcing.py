"""A thousand events of one account, saved in a tight loop, come back in the order in which they were saved.

ULIDs rise strictly within a process, also inside one millisecond, so a sort key of ULIDs is the order of the events.

Run it with `python examples/event_sourcing.py`. It works on the store that $MINTKEY_URL names, else on the file
mintkey.db in the folder where it runs.
"""

from __future__ import annotations

from mintkey import AutoGenerate, Model, ModelConfig
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.generators import parse, uuid4

EVENTS = 1_000


class AccountEvent(Model):
    """Something that happened to an account; never changed, only appended."""

    model_config = ModelConfig(table="account_events")

    account = StringAttribute(partition_key=True)
    event = StringAttribute(sort_key=True, default=AutoGenerate.ULID)
    kind = StringAttribute(required=True)
    amount = NumberAttribute(required=True)


def main() -> None:
    AccountEvent.create_table()
    account = f"ACCOUNT#{uuid4()}"

    saved = []
    for number in range(EVENTS):
        kind = ("deposited", "deposited", "withdrawn")[number % 3]
        event = AccountEvent(account=account, kind=kind, amount=number)
        event.save()
        saved.append(event)
    print(f"events saved: {len(saved)}")
    print(f"different milliseconds: {len({parse(str(event.event)).timestamp_ms for event in saved})}")

    events = AccountEvent.query(account=account).all()
    print(f"events read: {len(events)}")
    print(f"in the order saved: {[event.event for event in events] == [event.event for event in saved]}")

    balance = sum((event.amount or 0) * (1 if event.kind == "deposited" else -1) for event in events)
    print(f"balance after all of them: {balance}")

    latest = AccountEvent.query(account=account, descending=True, limit=3)
    print(f"the latest three: {[event.amount for event in latest]}")

    middle = events[989].event
    later = AccountEvent.query(AccountEvent.event > middle, account=account)
    print(f"what came after the 990th: {later.count()}")


if __name__ == "__main__":
    main()
