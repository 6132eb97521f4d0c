"""The pages people look at. For now one: what is here, and what it adds up to."""
