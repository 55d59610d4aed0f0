"""The one front door: page, HTTP, MCP and command line call the same functions."""
