"""One booted guest: the handle that a driver gave, and the connection to its agent."""
