"""Pages and sheets over what the store holds."""
