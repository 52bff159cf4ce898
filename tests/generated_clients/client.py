"""A session with the client that openapi-python-client generates: client.py URL KEY WALKS..."""

import json
import sys

from bipedalnet_client import AuthenticatedClient
from bipedalnet_client.api.enrollments import enroll
from bipedalnet_client.api.recognition import identify, verify
from bipedalnet_client.api.users import get_user, put_user
from bipedalnet_client.models import Problem, WalkDocument

url, key, *files = sys.argv[1:]
first, second, third = [WalkDocument.from_dict(json.load(open(file))) for file in files]
user = "made-by-python"
with AuthenticatedClient(base_url=url, token=key) as client:
    created = put_user.sync_detailed(user, client=client)
    assert created.status_code == 201, created
    assert created.parsed.status == "collecting", created

    enrolled = enroll.sync_detailed(user, client=client, body=first, idempotency_key="python")
    assert enrolled.status_code == 201, enrolled
    assert enrolled.parsed.status == "ready", enrolled
    retried = enroll.sync_detailed(user, client=client, body=first, idempotency_key="python")
    assert retried.parsed == enrolled.parsed, retried
    assert retried.headers["idempotency-replayed"] == "true", retried

    identified = identify.sync(client=client, body=second)
    assert identified.decision == "identified" and identified.user == user, identified
    verified = verify.sync(user, client=client, body=third, fmr=0.01)
    assert verified.decision == "accept", verified

    missing = get_user.sync_detailed("nobody", client=client)
    assert missing.status_code == 404 and isinstance(missing.parsed, Problem), missing
    assert missing.parsed.type_ == "urn:bipedalnet:problem:unknown-user", missing
