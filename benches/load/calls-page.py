#!/usr/bin/env python3
"""Fills a database with a million calls of ten tenants and times pages of one tenant's calls over HTTP.

    benches/load/calls-page.py HTTP_HOST:PORT KEY_OF_THE_PLATFORM POSTGRES_SOCKET_FOLDER [CALLS]
"""
import http.client
import json
import random
import subprocess
import sys
import time

TENANTS = 10
PAGES = 500


def sql(folder, text):
    command = ["psql", "-h", folder, "-U", "tandem", "-qAtX", "-v", "ON_ERROR_STOP=1", "tandem"]
    return subprocess.run(command, input=f"SET ROLE tandem_node;\n{text}", text=True, check=True, capture_output=True).stdout


def fill(folder, calls):
    sql(
        folder,
        f"""
        INSERT INTO tenants (id, name) SELECT gen_random_uuid(), 'page-' || n FROM generate_series(1, {TENANTS}) n
            ON CONFLICT DO NOTHING;
        INSERT INTO calls (id, rev, tenant_id, direction, signalling_id, caller, dialled_text, decision,
                           arrived_at, answered_at, ended_at, cause, sip_status)
        SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7000' || '8000'
                || lpad(to_hex(n), 12, '0'))::uuid,
               1, t.ids[1 + n % {TENANTS}], 'inbound', 'c' || n, '+15550111', '+15550100', '[]',
               at, at, at + interval '1 minute', 'normal', 200
        FROM (SELECT n, timestamptz '2026-01-01 00:00:00Z' + n * interval '1 second' AS at
              FROM generate_series(1, {calls}) n) s,
             (SELECT array_agg(id) AS ids FROM tenants WHERE name LIKE 'page-%') t
        ON CONFLICT DO NOTHING;
        """,
    )
    # The owner's to do.
    subprocess.run(["psql", "-h", folder, "-U", "tandem", "-qX", "-c", "ANALYZE calls", "tandem"], check=True)
    return sql(folder, "SELECT id FROM tenants WHERE name LIKE 'page-%' ORDER BY name;").split()


def main():
    address, key, folder = sys.argv[1:4]
    calls = int(sys.argv[4]) if len(sys.argv) > 4 else 1_000_000
    tenants = fill(folder, calls)
    connection = http.client.HTTPConnection(address)
    took, servers = [], random.Random(7)
    for _ in range(PAGES):
        begin = servers.randrange(max(calls - 86_400, 1))
        stamp = lambda s: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1_767_225_600 + s))
        path = (
            f"/api/v1/tenants/{servers.choice(tenants)}/calls?limit=50"
            f"&from={stamp(begin)}&until={stamp(begin + 86_400)}"
        )
        begun = time.perf_counter()
        connection.request("GET", path, headers={"Authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        body = answer.read()
        took.append((time.perf_counter() - begun) * 1000)
        if answer.status != 200 or len(json.loads(body)["calls"]) != 50:
            sys.exit(f"{answer.status}: {body[:300]!r}")
        # Of one key so many requests a second.
        time.sleep(0.02)
    took.sort()
    at = lambda part: took[int(part * (len(took) - 1))]
    print(f"{PAGES} pages of 50 out of {calls} calls: p50 {at(0.5):.1f} ms, p99 {at(0.99):.1f} ms, most {took[-1]:.1f} ms")


main()
