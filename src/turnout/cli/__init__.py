"""The `turnout` command. One module per command, loaded when it is used."""
