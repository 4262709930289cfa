"""HOW CLIENTS REACH US: HTTP, stdio, and rescue (outcome to wire error)."""
