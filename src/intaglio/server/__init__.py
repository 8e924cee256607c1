"""The server: an OpenAI-compatible API, and a page, over engines that run continuously."""
