"""Holds each line of JSON on standard input against the client events of the real `openai` package: those of today, or
with the argument `beta` those of the beta.

Answers with the number of messages; a message that is no such event, or has a member that the package does not
know, ends it with the reason.
"""

import json
import sys

from openai.types import realtime
from openai.types.beta import realtime as beta
from pydantic import BaseModel, TypeAdapter

form = beta if sys.argv[1:] == ["beta"] else realtime
events = TypeAdapter(form.RealtimeClientEvent)


def unknown(value, path):
    """Members that the package's types do not have."""
    if isinstance(value, BaseModel):
        yield from (f"{path}.{name}" for name in value.model_extra or {})
        for name in type(value).model_fields:
            yield from unknown(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from unknown(item, f"{path}[{place}]")


count = 0
for line in sys.stdin:
    message = json.loads(line)
    event = events.validate_python(message)
    if event.type != message["type"]:
        sys.exit(f"{message['type']} is read as {event.type}")
    for path in unknown(event, message["type"]):
        sys.exit(f"{path} is not known: {line}")
    count += 1
print(count)
