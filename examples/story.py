#!/usr/bin/env python3
"""The whole life of calls through Tandem's API: a tenant, an AI profile, a trunk and numbers are made, a call
comes in, another is placed and steered while its events are watched, and all that is known of it is fetched.

Needs Python 3.9 and nothing else. By itself it starts a switch with a private PostgreSQL and ends it again:

    python3 examples/story.py

With these variables it uses one that runs, such as `make demo`, and leaves it as it was:

    TANDEM_API=http://127.0.0.1:8080 TANDEM_API_KEY=tdm_... TANDEM_SIP=127.0.0.1:5060 python3 examples/story.py

The key is one of the platform's admin. TANDEM_BIN names the program, if it is not in target/.
"""

import json
import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Nothing here takes as long. What does has failed.
PATIENCE_S = 60
# Numbers nobody has: the one that is called, and the one that is called by it.
FIRST, SECOND = "+15550160", "+15550161"


def say(text):
    print(text, flush=True)


def fail(text):
    sys.exit(f"story: {text}")


def program():
    places = [ROOT / "target" / kind / "tandem" for kind in ("release", "debug")]
    named = os.environ.get("TANDEM_BIN") or next((str(p) for p in places if p.exists()), None)
    return named or fail("there is no tandem yet: cargo build --release, or set TANDEM_BIN")


def wait_for(what, look):
    """Asks `look` again and again until it answers something."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    fail(f"waited in vain: {what}")


class Switch:
    """A switch of our own in a folder of its own, gone at the end."""

    def __init__(self, tandem):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="tandem-story-"))
        # PostgreSQL does not run as root: a user of its own must pass here.
        self.folder.chmod(0o755)
        config = self.folder / "tandem.toml"
        config.write_text(
            f'database = "private"\ndata_dir = "{self.folder}/data"\n'
            'http = { bind = "127.0.0.1:0" }\n'
            "media = { ports = [41000, 41099], threads = 1, realtime = false }\n"
            'agents = { allow_networks = ["127.0.0.0/8"] }\n'
            '[[listener]]\nname = "public"\nbind = "127.0.0.1:0"\n'
        )
        log = open(self.folder / "tandem.log", "wb")
        self.process = subprocess.Popen(
            [tandem, "run", "--config", config], stdout=subprocess.PIPE, stderr=log, text=True
        )
        ready = None
        for line in self.process.stdout:
            ready = json.loads(line) if line.startswith("{") else None
            if ready and ready.get("ready"):
                break
        if not ready:
            fail(f"the switch did not start:\n{(self.folder / 'tandem.log').read_text()}")
        self.api = f"http://{ready['http']}"
        self.sip = next(one["address"] for one in ready["sip"] if one["transport"] == "udp")
        # The first key is made beside the API, by whoever may read the configuration.
        made = subprocess.run(
            [tandem, "keys", "create", "--platform", "--role", "platform-admin", "--in-database", "--config", config],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        self.key = made.stdout.strip() or fail(made.stderr)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class Api:
    """Asks the API with one key."""

    def __init__(self, base, key):
        self.base, self.key = base, key

    def request(self, method, path, body=None, headers=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.key}", **(headers or {})}
        if data is not None:
            headers["Content-Type"] = "application/json"
        return urllib.request.Request(self.base + path, data, headers, method=method)

    def raw(self, method, path, body=None, headers=None, missing_is_none=False):
        try:
            with urllib.request.urlopen(self.request(method, path, body, headers), timeout=PATIENCE_S) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as refused:
            if refused.code == 404 and missing_is_none:
                return None
            fail(f"{method} {path}: {refused.code} {refused.read().decode()}")

    def __call__(self, method, path, body=None, headers=None):
        text = self.raw(method, path, body, headers)
        return json.loads(text) if text else None


class Events(threading.Thread):
    """What happens to all calls of a tenant, as it happens (server-sent events)."""

    def __init__(self, api, path):
        super().__init__(daemon=True)
        self.seen, self.changed = [], threading.Condition()
        # Connected before anything happens.
        self.stream = urllib.request.urlopen(api.request("GET", path), timeout=PATIENCE_S)
        self.start()

    def run(self):
        try:
            for line in self.stream:
                if line.startswith(b"data:"):
                    with self.changed:
                        self.seen.append(json.loads(line[5:]))
                        self.changed.notify_all()
        except (OSError, ValueError):
            pass

    def wait_for(self, kind, call=None):
        """The first event of this type, of this call where one is given."""
        def found():
            fits = (e for e in self.seen if e["type"] == kind and call in (None, e["call_id"]))
            return next(fits, None)

        with self.changed:
            self.changed.wait_for(found, PATIENCE_S)
            return found() or fail(f"no event {kind}; there were {[e['type'] for e in self.seen]}")


def make_tenant(platform, sip):
    """A tenant with all it needs to be called and to call: its path, its id, and a key that may steer."""
    mark = secrets.token_hex(3)
    tenant = platform("POST", "/api/v1/tenants", {"name": f"Story {mark}", "calls_max": 10})
    path = f"/api/v1/tenants/{tenant['id']}"
    say(f"tenant      {tenant['name']}: {tenant['id']}")
    agent = {"name": "Front desk", "system_prompt": "You repeat what you hear.", "agent": {"kind": "echo"}}
    profile = platform("POST", f"{path}/ai-profiles", {**agent, "is_default": True})
    tone = {"name": "Waiting", "system_prompt": "You are a tone.", "agent": {"kind": "tone"}}
    other = platform("POST", f"{path}/ai-profiles", tone)
    say(f"AI profiles {profile['name']}, {other['name']}")
    # The carrier of this story is the switch itself: what is called out comes in again at the second number.
    trunk = platform("POST", f"{path}/trunks", {
        "name": f"story-{mark}",
        "profile": "generic",
        "overrides": {
            "inbound": {"source_cidrs": ["127.0.0.1/32"]},
            "outbound": {"enabled": True, "gateway": [{"name": "self", "uri": f"sip:{sip}", "dns": "fixed"}]},
            "security": {"allow_destinations": ["+1555"]},
        },
    })
    say(f"trunk       {trunk['name']}")
    numbers = [
        platform("POST", f"{path}/numbers", {"first_number": number, "trunk_id": trunk["id"], "label": "story"})
        for number in (FIRST, SECOND)
    ]
    say(f"numbers     {', '.join(number['first_number'] for number in numbers)}")
    key = platform("POST", f"{path}/api-keys", {"role": "tenant-operator", "label": "story"})
    say(f"key         {key['role']}, shown once")
    return path, other, key["key"], [*(f"{path}/numbers/{number['id']}" for number in numbers),
                                     f"{path}/trunks/{trunk['id']}", path]


def receive(tandem, sip, api, path, events):
    """A call comes in; its record tells how it was decided."""
    question = {"direction": "inbound", "source": "127.0.0.1", "from": "+15550177", "to": FIRST}
    # A number is in force within 100 ms of being made.
    wait_for("the number is in force", lambda: api("POST", f"{path}/explain", question)["accepted"])
    say(f"\na call comes in at {FIRST}")
    called = subprocess.run(
        [tandem, "call", f"sip:{FIRST}@{sip}", "--from", "+15550177", "--tone", "440", "--duration", "2",
         "--require-sound", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    if called.returncode != 0:
        fail(f"the call failed: {called.stdout}{called.stderr}")
    ended = events.wait_for("call.ended")
    record = closed(api, f"{path}/calls/{ended['call_id']}")
    say(f"record      {record['status']}, {record['duration_ms']} ms, {record['codec']}, MOS {record['media']['mos_in']:.2f}")
    for step in record["decision"]:
        say(f"  {step['what']:<10} {step['detail']}")
    return f"{path}/calls/{ended['call_id']}"


def closed(api, path):
    return wait_for("the record is written", lambda: (lambda call: call["times"]["ended"] and call)(api("GET", path)))


def place(api, path, events, other):
    """A call is placed, watched, steered and hung up."""
    say(f"\na call is placed from {FIRST} to {SECOND}")
    wish = {"to": SECOND, "from": FIRST, "variables": {"lead_id": "lead-7"}, "max_duration_s": 120}
    turns = [{"seq": 0, "speaker": "caller", "text": "Please call me back.", "at_ms": 900}]
    once = {"Idempotency-Key": secrets.token_hex(8)}
    call = api("POST", f"{path}/calls", wish, once)["id"]
    # The same request again, as after a lost answer: the same call.
    again = api("POST", f"{path}/calls", wish, once)["id"]
    if again != call:
        fail(f"placed twice: {call}, {again}")
    events.wait_for("call.answered", call)
    say(f"answered    {call}")
    one = f"{path}/calls/{call}"

    def steer(what, body=None):
        stands = api("POST", f"{one}/{what}", body or {})
        say(f"{what:<11} {stands['state']}, on hold: {stands['on_hold']}, agent: {stands['agent']}")

    steer("hold")
    events.wait_for("call.hold_begun", call)
    steer("resume")
    events.wait_for("call.hold_ended", call)
    steer("mute", {"party": "caller"})
    steer("unmute", {"party": "caller"})
    steer("dtmf", {"digits": "42#"})
    steer("attach", {"ai_profile_id": other["id"]})
    api("PATCH", one, {"disposition": "interested", "outcome": "callback", "summary": "Wants to be called back."})
    api("POST", f"{one}/transcript", {"turns": turns})
    live = api("GET", one)["live"]
    say(f"live        {[(leg['leg'], leg['packets_in'], leg['packets_out']) for leg in live['legs']]}")
    api("POST", f"{one}/hangup")
    events.wait_for("call.ended", call)
    record = closed(api, one)
    say(f"record      {record['status']} by {record['ended_by']}, {record['disposition']}: {record['summary']}")
    said = api("GET", f"{one}/transcript")["turns"]
    if [turn["text"] for turn in said] != [turn["text"] for turn in turns]:
        fail(f"the transcript is {said}")
    say(f"transcript  {said[0]['speaker']}: {said[0]['text']}")
    say("events      " + " ".join(event["type"] for event in events.seen if event["call_id"] == call))


def fetch(api, call):
    """The signalling of a call."""
    say("\nits signalling")
    # It is carried into the database when the call is over: for a moment it is in neither place.
    ladder = wait_for("its signalling", lambda: api.raw("GET", f"{call}/trace/ladder", missing_is_none=True))
    say("\n".join(f"  {line}" for line in ladder.splitlines()[:24]))
    if "INVITE" not in ladder:
        fail("the trace has no INVITE")


def main():
    tandem, own = program(), None
    variables = [os.environ.get(name) for name in ("TANDEM_API", "TANDEM_API_KEY", "TANDEM_SIP")]
    if any(variables) and not all(variables):
        fail("of TANDEM_API, TANDEM_API_KEY and TANDEM_SIP give all or none")
    if all(variables):
        base, key, sip = variables
    else:
        own = Switch(tandem)
        base, key, sip = own.api, own.key, own.sip
    made = []
    try:
        platform = Api(base.rstrip("/"), key)
        say(f"switch      {base}, SIP at {sip}")
        path, other, operators, made = make_tenant(platform, sip)
        api = Api(platform.base, operators)
        events = Events(api, f"{path}/events")
        received = receive(tandem, sip, api, path, events)
        place(api, path, events, other)
        # Of the call that came in: the one that was placed comes in again at the same switch, with the same
        # signalling.
        fetch(api, received)
        say("\nall of it went well")
    finally:
        if own:
            own.stop()
        else:
            for thing in made:
                platform("DELETE", thing)


if __name__ == "__main__":
    main()
