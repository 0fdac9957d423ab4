"""How SnapLogic itself speaks: the errors of its platform, and the error documents of its pipelines.

A triggered task cannot set a status of its own: what its pipeline handled comes with status 200 and an error
document, what it did not with an error of the platform. What a task answers belongs to its own module.
"""

import json
from typing import Final

from datalake_assets.simulator.frame import Reply

SNAPLOGIC_REASONS: Final = {
    400: "Bad request",
    401: "Unauthorized",
    403: "Access denied",
    404: "No such task",
    405: "Method not allowed",
    429: "Too many requests",
    500: "The pipeline failed",
    503: "The service is not available",
}


def snaplogic_error(status: int) -> Reply:
    """An error of the platform."""
    listed = {"error_list": [{"message": SNAPLOGIC_REASONS[status]}]}
    return _json(status, {"http_status_code": status, "response_map": listed})


def snaplogic_error_document() -> Reply:
    """An error that a pipeline handled: one document of its error view, with status 200."""
    document = {
        "error": "The upstream service failed",
        "reason": "HTTP status 500",
        "resolution": "Check the upstream service.",
        "stacktrace": "com.example.snaps.SnapDataException",
    }
    return _json(200, [document])


def _json(status: int, body: object) -> Reply:
    return Reply(status, json.dumps(body, separators=(",", ":")).encode())
