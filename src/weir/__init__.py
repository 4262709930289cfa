"""weir: a transparent MCP proxy that measures and regulates."""
