"""What the user states: frozen pydantic models, read from files with units and line numbers."""
