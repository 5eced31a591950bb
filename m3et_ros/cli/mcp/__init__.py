"""`m3et mcp`: running robots for agents, by the Model Context Protocol and as OpenAI's chat completions."""
