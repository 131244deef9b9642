"""The parent process of `turnout serve`: sockets, workers, the recorder, and which document is in force."""
