"""The MCP server: the memory of a clone, and the hub, as tools of a model. It needs the extra `[mcp]`."""
