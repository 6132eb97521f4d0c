"""A model provider on your own machine that speaks the OpenAI wire format, to try agents without a key or a bill.

    python examples/local_provider.py --port 8319
    OPENAI_BASE_URL=http://127.0.0.1:8319/v1 OPENAI_API_KEY=any spanledger run python app.py

It streams, calls tools, reports usage (cached and reasoning tokens included) and fails when a message asks it to; see
`spanledger.query_api.demo.provider`.
"""

import argparse

from spanledger.query_api import listening
from spanledger.query_api.demo.provider import create_provider


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--port", type=int, default=8319, help="0 takes a free one (default: %(default)s)")
    options.add_argument("--latency", type=float, default=0.02, help="seconds until an answer (default: %(default)s)")
    arguments = options.parse_args()
    with listening.until_stopped(), listening.bind("127.0.0.1", arguments.port) as listener:
        address = f"export OPENAI_BASE_URL={listening.address(listener)}/v1 OPENAI_API_KEY=any"
        listening.serve(create_provider(arguments.latency), [listener], lambda: print(address, flush=True))


if __name__ == "__main__":
    main()
