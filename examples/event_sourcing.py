"""A thousand events of one account, saved in a tight loop, are read in the order in which they were saved.

ULIDs increase strictly within a process, also within one millisecond, so a ULID as sort key keeps the order of events.

Run it with `python examples/event_sourcing.py`. It uses the store that $MINTKEY_URL names, or else the file
mintkey.db in the working folder.
"""

from __future__ import annotations

from mintkey import AutoGenerate, Model, ModelConfig
from mintkey.attributes import NumberAttribute, StringAttribute
from mintkey.generators import parse, uuid4

EVENTS = 1_000


class AccountEvent(Model):
    """An event of an account. Events are appended and never changed."""

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
