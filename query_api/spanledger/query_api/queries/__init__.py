"""Questions as SQLAlchemy Core selects. There is no SQL text here, and no database's peculiarity."""
