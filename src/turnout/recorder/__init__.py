"""The program that ships event segments to the store: one per state folder."""
