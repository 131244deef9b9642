"""The control plane of one server: tells the fleet what this server runs, and this server what the fleet decided."""
