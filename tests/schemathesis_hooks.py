"""What schemathesis needs to know of the API beyond its description."""

import itertools

import cbor2
import schemathesis

CBOR = "application/cbor"
MAX_KEY_BYTES = 255

requests = itertools.count()


@schemathesis.serializer(CBOR)
def to_cbor(context, value):
    return value if isinstance(value, bytes) else cbor2.dumps(value)


@schemathesis.deserializer(CBOR)
def from_cbor(context, response):
    return cbor2.loads(response.content)


@schemathesis.hook
def before_call(context, case, **kwargs):
    """Most keys would be one and the same, and stand for an earlier request."""
    key = (case.headers or {}).get("Idempotency-Key")
    if key and len(key) <= MAX_KEY_BYTES:
        case.headers["Idempotency-Key"] = f"{next(requests)}/{key}"[:MAX_KEY_BYTES]


@schemathesis.hook
def filter_case(context, case):
    """Headers that a server does not know are none of its business."""
    return "x-schemathesis-unknown-property" not in (case.headers or {})
