"""Hooks of schemathesis for what the OpenAPI description cannot say."""

import itertools
import re

import cbor2
import schemathesis

CBOR = "application/cbor"
MAX_KEY_BYTES = 255
ID = r"(?!\.{1,2}$)[A-Za-z0-9._~-]{1,64}"

requests = itertools.count()


@schemathesis.serializer(CBOR)
def to_cbor(context, value):
    return value if isinstance(value, bytes) else cbor2.dumps(value)


@schemathesis.deserializer(CBOR)
def from_cbor(context, response):
    return cbor2.loads(response.content)


@schemathesis.hook
def before_call(context, case, **kwargs):
    """Makes idempotency keys unique. Most of the generated ones would repeat an earlier request."""
    key = (case.headers or {}).get("Idempotency-Key")
    if key and len(key) <= MAX_KEY_BYTES:
        case.headers["Idempotency-Key"] = f"{next(requests)}/{key}"[:MAX_KEY_BYTES]
    # Hardly any generated collection exists.
    collection = (case.query or {}).get("collection")
    if isinstance(collection, str) and re.fullmatch(ID, collection) and next(requests) % 4:
        case.query["collection"] = "default"


@schemathesis.hook
def filter_case(context, case):
    """Skips unknown headers. The server ignores them."""
    return "x-schemathesis-unknown-property" not in (case.headers or {})
