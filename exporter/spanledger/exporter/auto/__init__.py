"""A folder for PYTHONPATH: with it there, a Python process calls `configure` before its program (`spanledger run`)."""
