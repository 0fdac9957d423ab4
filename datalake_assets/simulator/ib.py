"""PeopleSoft's Integration Broker: the fault document that it sends in the place of every kind of answer.

It is one of the few things that both faces of PeopleSoft send alike; everything else stands with the faces.
"""

from xml.sax.saxutils import escape

from datalake_assets.simulator.frame import Reply


def ib_fault(message: str, status: int = 200) -> Reply:
    """The fault document, which the gateway sends with status 200 as it stands.

    Args:
        message: What went wrong.
        status: Another status, where a handler sets one.
    """
    xml = (
        '<?xml version="1.0"?><IBResponse type="error">'
        "<DefaultTitle>Integration Broker Response</DefaultTitle>"
        "<StatusCode>20</StatusCode><MessageSet>158</MessageSet><MessageID>10001</MessageID>"
        f"<DefaultMessage>{escape(message)}</DefaultMessage><MessageParameters/></IBResponse>"
    )
    return Reply(status, xml.encode(), "text/xml; charset=utf-8")
