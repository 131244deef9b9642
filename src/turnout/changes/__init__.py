"""What a change of the document does, told from two snapshots before it is made. Pure; rendering is elsewhere."""
