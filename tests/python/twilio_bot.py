"""Does with the real `twilio` package what lines of JSON on standard input ask for, and answers in lines of JSON."""

import json
import os
import sys

from twilio.base.exceptions import TwilioRestException
from twilio.request_validator import RequestValidator
from twilio.rest import Client

client = Client(os.environ["TWILIO_ACCOUNT_SID"], os.environ["TWILIO_AUTH_TOKEN"])
# The one line that a bot changes.
client.api.base_url = os.environ["TANDEM"]


def of(call):
    time = lambda value: value and value.isoformat()
    return {
        "sid": call.sid,
        "account_sid": call.account_sid,
        "status": str(call.status),
        "direction": call.direction,
        "to": call.to,
        "from": call._from,
        "date_created": time(call.date_created),
        "start_time": time(call.start_time),
        "end_time": time(call.end_time),
        "duration": call.duration,
        "answered_by": call.answered_by,
        "uri": call.uri,
    }


def do(wish):
    what, given = wish["do"], wish.get("with", {})
    if what == "create":
        return of(client.calls.create(**given))
    if what == "fetch":
        return of(client.calls(wish["sid"]).fetch())
    if what == "update":
        return of(client.calls(wish["sid"]).update(**given))
    if what == "validate":
        validator = RequestValidator(given["token"])
        return {"valid": validator.validate(given["url"], given["form"], given["signature"])}
    raise ValueError(what)


for line in sys.stdin:
    try:
        answer = do(json.loads(line))
    except TwilioRestException as refused:
        answer = {"refused": refused.status, "code": refused.code, "message": refused.msg}
    print(json.dumps(answer), flush=True)
