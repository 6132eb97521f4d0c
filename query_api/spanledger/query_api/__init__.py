"""Receives OTLP, answers questions about the rows, shows pages.

>>> from spanledger.query_api.app import create_app
>>> app = create_app(ledger, settings)
"""
