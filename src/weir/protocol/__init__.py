"""WHAT MCP SAYS: messages, methods, framing, headers, trace context. Pure and synchronous."""
