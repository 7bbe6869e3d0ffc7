"""The operation of a request, as its body names it."""

from __future__ import annotations

import gzip

import pytest

from consumer.local.request import Request

FORM = b"Action=PutMetricData&Namespace=penstock" + b"&MetricData.member.1.MetricName=a" * 5_000


SIGNED = "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/monitoring/aws4_request"


def of_form(body: bytes, **headers: str) -> Request:
    sent = {"content-type": "application/x-www-form-urlencoded; charset=utf-8", "authorization": SIGNED}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    return Request("POST", "/", b"/", b"", sent, [], body, "1.1", None)


@pytest.mark.parametrize(
    ("request_", "operation"),
    [
        (of_form(FORM), "PutMetricData"),
        (of_form(gzip.compress(FORM), content_encoding="gzip"), "PutMetricData"),
        (of_form(gzip.compress(FORM)[:100], content_encoding="gzip"), "PutMetricData"),
        (of_form(b"Action=PutMetricData", content_encoding="gzip"), ""),
        (of_form(b""), ""),
    ],
    ids=["plain", "compressed", "cut off", "said to be compressed", "empty"],
)
def test_the_operation_is_the_action_of_the_form(request_: Request, operation: str) -> None:
    assert request_.operation == operation
