"""Rollouts: an endpoint moves to something new in guarded steps, and back by itself when that proves harmful."""
