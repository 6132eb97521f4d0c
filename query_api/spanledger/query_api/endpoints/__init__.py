"""Request → parameters → query → JSON, one module per subject. Every endpoint is a line of ``routes.ROUTES``."""
