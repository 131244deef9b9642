"""Where documents and artifacts come from. Standard library only: the supervisor imports this."""
