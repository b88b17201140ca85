"""What a request asks to be published, where a framework doesn't take the query apart."""

from collections.abc import AsyncIterable, Mapping

from benchmarks import traffic


def publications(query: Mapping[str, str]) -> AsyncIterable[tuple[str, traffic.Trade]]:
    return traffic.publications(
        query["channel"],
        int(query["n"]),
        float(query.get("rate", 0)),
        int(query.get("channels", 1)),
        int(query.get("size", 0)),
    )
