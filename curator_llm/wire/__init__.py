"""The wire format of OpenAI-compatible servers: replies, errors, headers, scores. Pure."""
