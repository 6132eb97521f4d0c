"""What `spanledger demo` runs: a local provider, three agents, and recorded traces to replay."""
